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
