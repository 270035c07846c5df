"""The ends of sweeps that a region's agent was away for: it is told later, or would keep each open for half an hour."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from paritree.core import limits
from paritree.core.messages import End, RequestBody

UNHEARD_MAX: Final = limits.EXCHANGES_OPEN_MAX // 2
"""All of them fit into the requests on their way to a connection, with room for others; the oldest are forgotten."""


class UnheardEnds:
    """Of one region, over all its connections and from before its first one."""

    def __init__(self) -> None:
        self._sweeps: OrderedDict[str, None] = OrderedDict()

    def asked(self, sweep_id: str, body: RequestBody) -> None:
        """The region is asked this; an End counts as unheard until :meth:`heard`."""
        if not _ends(body):  # it goes on
            self._sweeps.pop(sweep_id, None)
            return
        self._sweeps[sweep_id] = None
        while len(self._sweeps) > UNHEARD_MAX:
            self._sweeps.popitem(last=False)

    def heard(self, sweep_id: str, body: RequestBody) -> None:
        """The region has answered."""
        if _ends(body):
            self._sweeps.pop(sweep_id, None)

    def take(self, *, opening: str) -> list[str]:
        """The sweeps to end before the one of this id is opened, which may have ended before; forgotten here."""
        taken = [sweep_id for sweep_id in self._sweeps if sweep_id != opening]
        self._sweeps.clear()
        return taken


def _ends(body: RequestBody) -> bool:
    return isinstance(body, End) and not body.keep
