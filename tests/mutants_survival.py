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
)
