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
        "trials: a run that does not match its record is believed",
        "edge_agent/resumption.py",
        "        run.verify()\n",
        "",
        (f"{TRIALS}::test_every_trial[0]", f"{TRIALS}::test_every_trial[50]", f"{TRIALS}::test_every_trial[100]"),
    ),
    (
        "trials: what was read before a write is still of use",
        "edge_agent/connectors/contract.py",
        "return () if own is not None and all(memento == own for memento in mementos) else None",
        "return ()",
        (f"{TRIALS}::test_every_trial[0]", f"{TRIALS}::test_every_trial[50]", f"{TRIALS}::test_every_trial[100]"),
    ),
    (
        "trials: open sweeps are left to nobody",
        "coordinator/store/sweeps.py",
        "connection.execute(running.values(state=SweepState.QUEUED, resumed=sweeps.c.resumed + 1))",
        "connection.execute(running.values(resumed=sweeps.c.resumed + 1))",
        (f"{TRIALS}::test_every_trial[0]",),
    ),
    (
        "trials: a region that comes back is not asked again",
        "coordinator/asking.py",
        "                if again is None:\n",
        "                if True:\n",
        (f"{TRIALS}::test_every_trial[0]", f"{TRIALS}::test_the_trials_meet_what_they_are_for"),
    ),
)
