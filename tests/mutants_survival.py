"""Mistakes that trials of the simulation have to notice, beside those that narrow tests do.

(name, file, old text, new text, tests): see ``mutants.Mutant``.
"""

from __future__ import annotations

from typing import Final

from mutants_durable import Planted

TRIALS: Final = "tests/simulation/test_survival.py"

SURVIVAL: Final[tuple[Planted, ...]] = (
    (
        "trials: a failed Begin is kept",
        "edge_agent/service.py",
        "            if self._sweeps.get(sweep_id) is sweep:  # whoever's error it is: the next request begins anew\n"
        "                del self._sweeps[sweep_id]\n",
        "",
        ("tests/agent/test_failed_begin.py",),
    ),
    (
        "ends: forgotten where the region has not connected yet",
        "coordinator/regions.py",
        "            self._regions.ends(self.region).asked(sweep_id, request_body)\n",
        "",
        ("tests/coordinator/test_cuts.py::test_an_end_before_the_first_connection_is_said_too",),
    ),
    (
        "lease: a session that was lost is lost for ever",
        "coordinator/store/lease.py",
        "        if self._connection.closed:  # it was lost before, and then the server could not be reached\n"
        "            return False\n",
        "",
        ("tests/coordinator/test_store_durable.py::test_a_holder_that_could_not_come_back_at_once_comes_back_later",),
    ),
    (
        "trials: transactions prove nothing",
        "coordinator/store/transactions.py",
        "            fence.check(connection, self._token)\n",
        "",
        (f"{TRIALS}::test_every_trial[0]",),
    ),
    (
        "trials: open sweeps are left to nobody",
        "coordinator/store/sweeps.py",
        "connection.execute(running.values(state=SweepState.QUEUED, resumed=sweeps.c.resumed + 1))",
        "connection.execute(running.values(resumed=sweeps.c.resumed + 1))",
        (f"{TRIALS}::test_every_trial[0]",),
    ),
    (
        "steering: a sweep that ends early leaves its scans alone",
        "coordinator/sweep.py",
        "        self._holding.add(name)\n",
        "",
        ("tests/e2e/test_ended_scans.py::test_a_sweep_that_is_ended_during_a_scan_ends_the_scan",),
    ),
    (
        "steering: what was paused before is not ended",
        "coordinator/sweep.py",
        "set(self.links) if self._course.resumed else set()",
        "set()",
        ("tests/e2e/test_ended_scans.py::test_a_sweep_that_is_cancelled_while_it_rests_ends_in_every_region",),
    ),
    (
        "fence: whoever is overtaken ends the sweep of the other one",
        "coordinator/sweep.py",
        "(error.retryable or isinstance(error, Fenced))",
        "error.retryable",
        ("tests/e2e/test_left_open.py::test_whoever_is_overtaken_does_not_end_the_sweep_in_the_regions",),
    ),
    (
        "checkpoint: a store that is away costs the regions' scans",
        "coordinator/sweep.py",
        "(error.retryable or isinstance(error, Fenced))",
        "isinstance(error, Fenced)",
        ("tests/e2e/test_left_open.py::test_a_store_that_is_away_does_not_end_the_sweep_in_the_regions",),
    ),
    (
        "lease: a lost session is another coordinator",
        "coordinator/store/lease.py",
        "again = _locked(self._engine) or self._again()",
        "again = _locked(self._engine)",
        ("tests/coordinator/test_lease_lost.py::test_a_session_that_was_lost_is_not_another_coordinator",),
    ),
    (
        "scans: nobody asks between batches whether the rest is wanted",
        "edge_agent/scan.py",
        "            demand_wanted()\n",
        "",
        ("tests/agent/test_wanted.py",),
    ),
)
