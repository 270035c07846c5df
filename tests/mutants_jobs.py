"""Mistakes planted in how sweeps are asked for and how regions are spared: idempotency, budgets, retries, breakers; and
in continuous validation.

(name, file, old text, new text, tests): see ``mutants.Mutant``.
"""

from __future__ import annotations

from typing import Final

from mutants_letters import LETTERS
from mutants_watch import WATCH

ASKING: Final = "tests/coordinator/test_asking.py"
STORE: Final = "tests/coordinator/test_store.py"
BREAKER: Final = "tests/core/test_breaker.py"
BREAKERS: Final = "tests/coordinator/test_breakers.py"
BUDGETS: Final = "tests/e2e/test_budgets_and_breakers.py"
RETRY: Final = "tests/core/test_retry.py"

Planted = tuple[str, str, str, str, tuple[str, ...]]

JOBS: Final[tuple[Planted, ...]] = (
    (
        "idempotency: another request under the same id is taken for the first",
        "coordinator/store/sweeps.py",
        "            if differing := _differing(row, new):\n",
        "            if differing := []:\n",
        (f"{STORE}::test_a_job_id_belongs_to_one_request",),
    ),
    (
        "idempotency: options are not part of the request",
        "coordinator/store/sweeps.py",
        "*(name for name in named if row.options.get(name) != new.options.get(name)),",
        "",
        (f"{STORE}::test_a_job_id_belongs_to_one_request",),
    ),
    (
        "idempotency: the same request is another sweep",
        "coordinator/control.py",
        "order.job_id or sweep_id",
        "sweep_id",
        ("tests/coordinator/test_control.py::test_followers_of_one_job_see_one_sweep",),
    ),
    (
        "idempotency: a finished sweep is run again",
        "coordinator/store/sweeps.py",
        "sweeps.c.id == sweep_id, sweeps.c.state.in_(AGAIN))",
        "sweeps.c.id == sweep_id, sweeps.c.state.in_((*AGAIN, SweepState.FINISHED)))",
        (f"{STORE}::test_the_same_job_is_one_sweep",),
    ),
    (
        "idempotency: two callers at once both run it",
        "coordinator/store/sweeps.py",
        "            return False\n        return True\n\n    def _again",
        "            return True\n        return True\n\n    def _again",
        (f"{STORE}::test_one_of_many_callers_at_once_runs_the_job",),
    ),
    (
        "budget: nothing is ever used up",
        "paritree/core/budget.py",
        "if self.bytes is not None and bytes_moved >= self.bytes:",
        "if False:",
        (f"{BUDGETS}::test_bytes_used_up_end_the_descent",),
    ),
    (
        "budget: what ends early is called complete",
        "coordinator/sweep.py",
        "return suspects, dict.fromkeys(self._comparable, reason)",
        "return suspects, {}",
        (BUDGETS,),
    ),
    (
        "retries: pauses do not grow",
        "paritree/core/retry.py",
        "policy.pause_s * 2.0 ** min(self._failures - 1, 30)",
        "policy.pause_s",
        (f"{RETRY}::test_pauses_double_up_to_their_bound_and_are_drawn_below_it",),
    ),
    (
        "retries: everybody waits equally long",
        "paritree/core/retry.py",
        "pause_s = chance * min(",
        "pause_s = min(",
        (f"{RETRY}::test_jitter_spreads_those_who_failed_together",),
    ),
    (
        "retries: any sign of life begins them anew",
        "paritree/core/retry.py",
        "        if how_far > self._furthest:\n",
        "        if True:\n",
        (f"{RETRY}::test_progress_begins_the_count_anew",),
    ),
    (
        "retries: a try may take for ever",
        "coordinator/asking.py",
        "async with asyncio.timeout(deadline_s):",
        "async with asyncio.timeout(None):",
        (f"{ASKING}::test_a_try_has_a_deadline_however_alive_it_looks",),
    ),
    (
        "backpressure: a busy agent is asked as fast as before",
        "coordinator/asking.py",
        "                    gate.busy()\n",
        "                    pass\n",
        (f"{ASKING}::test_a_busy_agent_is_asked_when_it_says_and_slower_from_then_on",),
    ),
    (
        "rates: bytes are not counted",
        "coordinator/gates.py",
        "        self._bytes.take(amount, now)\n",
        "",
        (f"{ASKING}::test_requests_and_bytes_are_kept_below_the_regions_rates",),
    ),
)

BREAKS: Final[tuple[Planted, ...]] = (
    (
        "breaker: it never opens",
        "paritree/core/breaker.py",
        "if self.circuit is Circuit.CLOSED and failures < FAILURES_MAX:",
        "if self.circuit is Circuit.CLOSED:",
        (f"{BREAKER}::test_it_opens_after_failures_in_a_row_only",),
    ),
    (
        "breaker: open, it is asked all the same",
        "coordinator/asking.py",
        "if isinstance(body, Begin) and (refused := await course.admit(region)):",
        "if False and (refused := await course.admit(region)):",
        (f"{BUDGETS}::test_a_region_that_fails_three_sweeps_is_not_asked_in_the_fourth",),
    ),
    (
        "breaker: half-open, everybody tries",
        "paritree/core/breaker.py",
        "return self, False  # one sweep tries it already",
        "return self, True",
        (f"{BREAKERS}::test_sweeps_at_once_agree_on_who_tries",),
    ),
    (
        "breaker: it stays open for ever after its second failure",
        "paritree/core/breaker.py",
        "min(OPEN_S_MAX, OPEN_S * 2.0 ** min(self.opened, 30))",
        "OPEN_S * 2.0 ** self.opened",
        (f"{BREAKER}::test_the_sweep_that_tried_it_closes_it_or_opens_it_for_twice_as_long",),
    ),
    (
        "breaker: a restart forgets it",
        "coordinator/breakers.py",
        "        await asyncio.to_thread(self._store.set_breaker, region, dataset, breaker)\n",
        "",
        (f"{BREAKERS}::test_a_restart_neither_forgets_nor_blocks",),
    ),
    (
        "breaker: a restart in the middle of a try blocks the region",
        "coordinator/breakers.py",
        "breaker.given_up() for key, breaker in store.breakers().items()",
        "breaker for key, breaker in store.breakers().items()",
        (f"{BREAKERS}::test_a_restart_neither_forgets_nor_blocks",),
    ),
    (
        "breaker: successes do not close it",
        "coordinator/breakers.py",
        "after = before.succeeded()",
        "after = before",
        (f"{BREAKERS}::test_after_its_time_one_sweep_tries_it_and_closes_it",),
    ),
    (
        "breaker: refusals of another profile open it",
        "coordinator/asking.py",
        "_AT_FAULT: Final = frozenset({RefusalCode.SOURCE, RefusalCode.INTERNAL, RefusalCode.BUSY})",
        "_AT_FAULT: Final = frozenset(RefusalCode)",
        (f"{ASKING}::test_a_refusal_that_no_retry_mends_ends_it_at_once",),
    ),
)

SPARING: Final = (*JOBS, *BREAKS, *WATCH, *LETTERS)
