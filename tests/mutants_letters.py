"""Mistakes planted in what keeps dead letters.

(name, file, old text, new text, tests): see ``mutants.Mutant``.
"""

from __future__ import annotations

from typing import Final

from mutants_durable import Planted

LETTERS_TESTS: Final = "tests/letters/test_letters.py"

LETTERS: Final[tuple[Planted, ...]] = (
    (
        "letters: what is kept of a row is in clear",
        "edge_agent/letters/found.py",
        "        seal(keys, own, text, purpose=_SEAL),\n",
        "        text,\n",
        (f"{LETTERS_TESTS}::test_rows_that_do_not_fit_are_kept_without_a_clear_value_on_disk",),
    ),
    (
        "letters: their clock is set back with the system's",
        "edge_agent/letters/store.py",
        "self._latest_us = max(self._latest_us + 1, self._clock())",
        "self._latest_us = self._clock()",
        ("tests/letters/test_letters.py::test_a_clock_that_is_set_back_during_a_scan_ends_none_of_its_letters",),
    ),
    (
        "letters: replay ends none",
        "edge_agent/letters/replay.py",
        "for one in asked if keyed[one].identity not in failing)",
        "for one in asked if False)",
        (f"{LETTERS_TESTS}::test_replay_reads_rows_again_by_key",),
    ),
    (
        "letters: replay ends those that still fail",
        "edge_agent/letters/replay.py",
        "for one in asked if keyed[one].identity not in failing)",
        "for one in asked)",
        (f"{LETTERS_TESTS}::test_replay_reads_rows_again_by_key",),
    ),
    (
        "letters: what is not kept is not counted",
        "edge_agent/letters/store.py",
        "            return found.count\n",
        "            return 0\n",
        (f"{LETTERS_TESTS}::test_letters_are_bounded_and_the_rest_is_counted",),
    ),
    (
        "letters: a failed job is begun again as another one",
        "coordinator/aftermath.py",
        "row.id, row.job_id, row.dataset,",
        "row.id, row.id, row.dataset,",
        ("tests/letters/test_replayed_jobs.py::test_a_failed_job_is_begun_again_with_all_that_it_was_begun_with",),
    ),
)
