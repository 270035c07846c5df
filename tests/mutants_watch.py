"""Mistakes planted in continuous validation: what moves a watermark, what roots prove, what becomes of a notice.

(name, file, old text, new text, tests): see ``mutants.Mutant``.
"""

from __future__ import annotations

from typing import Final

CORE: Final = "tests/core/test_watch.py"
WATCHING: Final = "tests/coordinator/test_watching.py"
STORE: Final = "tests/coordinator/test_store_watches.py"
ROOTS: Final = "tests/agent/test_roots.py"
NOTICES: Final = "tests/coordinator/test_notices.py"

Planted = tuple[str, str, str, str, tuple[str, ...]]

WATCH: Final[tuple[Planted, ...]] = (
    (
        "watch: silence counts where a region does not tell",
        "paritree/core/watch.py",
        "idle = told and self.verified is not None",
        "idle = self.verified is not None",
        (f"{CORE}::test_an_idle_window_is_passed_over_until_something_is_told_or_it_is_long",),
    ),
    (
        "watch: an idle window after one that was not verified is passed over",
        "paritree/core/watch.py",
        "and self.verified == self.decided and not changed",
        "and not changed",
        (f"{CORE}::test_an_idle_window_is_passed_over_until_something_is_told_or_it_is_long",),
    ),
    (
        "watch: a late change counts in its own window, whose check has been",
        "paritree/core/watch.py",
        "        if now_s < windows.of(first_s) + windows.late_s:\n",
        "        if True:\n",
        (f"{CORE}::test_a_change_that_comes_after_the_bound_is_late_and_has_the_next_window_checked",),
    ),
    (
        "watch: a check covers what was told of later windows",
        "paritree/core/watch.py",
        "for end, keys in self.waiting.items() if end > end_s}",
        "for end, keys in self.waiting.items() if end > end_s + 60}",
        (f"{CORE}::test_a_change_counts_in_the_window_in_which_it_was_committed",),
    ),
    (
        "roots: those of the last check do, though something healed then",
        "paritree/core/watch.py",
        'and not report["summary"]["healed"]',
        "",
        (f"{CORE}::test_roots_are_found_again_only_where_nothing_healed",),
    ),
    (
        "roots: two of three equal ones are enough",
        "paritree/core/watch.py",
        "    if len(set(roots.values())) == 1:\n",
        "    if len(set(roots.values())) < len(roots):\n",
        (f"{CORE}::test_the_roots_that_were_verified_last_say_what_was_said_then",),
    ),
    (
        "roots: one in doubt is as good",
        "coordinator/roots.py",
        "one.doubt or one.age_s",
        "one.age_s",
        (f"{ROOTS}::test_what_is_not_proven_takes_a_sweep",),
    ),
    (
        "roots: older agents are asked, too, who cannot read it",
        "coordinator/roots.py",
        "one.rooted and (one.tells or not tells)",
        "(one.tells or not tells)",
        (f"{ROOTS}::test_agents_of_an_older_version_are_asked_for_nothing",),
    ),
    (
        "watch: roots end a window whose sweep has begun",
        "coordinator/watching.py",
        "if due and self._roots is not None and await asyncio.to_thread(self._store.sweep, named) is None:",
        "if due and self._roots is not None:",
        (f"{WATCHING}::test_killed_in_a_sweep_the_next_one_goes_on_with_it_and_asks_no_roots",),
    ),
    (
        "watch: an agent that comes back has told everything before",
        "coordinator/watching.py",
        "            if hello.region in one.regions:\n",
        "            if hello.region not in one.regions:\n",
        (f"{WATCHING}::test_killed_before_what_was_told_is_stored_the_returning_agent_has_it_checked",),
    ),
    (
        "watch: what the store did not take is forgotten",
        "coordinator/watching.py",
        "            one.told = told.plus(one.told)  #",
        "            one.told = one.told  #",
        (f"{WATCHING}::test_what_could_not_be_stored_is_stored_the_next_time",),
    ),
    (
        "watch: findings end with every check by roots",
        "coordinator/store/watches.py",
        "                if not outcome.same:\n",
        "                if True:\n",
        (f"{STORE}::test_roots_that_were_verified_are_known_until_other_ones_are",),
    ),
    (
        "notices: sent to coordinators that cannot read them",
        "edge_agent/notices.py",
        "            if dataset not in self._watched or self._loop is None:\n",
        "            if self._loop is None:\n",
        (f"{NOTICES}::test_a_coordinator_that_asks_for_none_gets_none",),
    ),
    (
        "watch: what a clock that was ahead has verified stays verified",
        "paritree/core/watch.py",
        "return self.opened is None and self.decided is not None and self.decided > now_s",
        "return False",
        ("tests/coordinator/test_watching.py::test_what_a_clock_that_was_ahead_had_verified_is_not",),
    ),
    (
        "watch: a window to come has the check that a clock ahead had made",
        "coordinator/store/watches.py",
        "        connection.execute(sa.update(sweeps).where(swept)"
        '.values(job_id=sa.literal("not-yet-") + sweeps.c.id))\n',
        "",
        ("tests/coordinator/test_watching.py::test_what_a_clock_that_was_ahead_had_verified_is_not",),
    ),
)
