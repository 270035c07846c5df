"""The driver's event loop that carries the connections: one thread a process, which ends with the last of them."""

from __future__ import annotations

import warnings
from typing import Any, Final

with warnings.catch_warnings():
    # Where its libev extension is missing, the driver falls back to asyncore, which Python 3.11 announces the end of.
    warnings.filterwarnings("ignore", "The asyncore module is deprecated", DeprecationWarning)
    from cassandra.cluster import DefaultConnection

try:
    from cassandra.io import libevreactor
except Exception:  # noqa: BLE001  # the driver's DependencyException, or an extension that does not load
    libevreactor = None


class Connection(DefaultConnection):  # type: ignore[misc]  # the driver has no types
    """The driver's own connection with a wider read and a loop that ends."""

    in_buffer_size: Final = 1 << 16
    """The driver reads 4 KiB at a time; a page of 5,000 rows is about 1 MiB."""

    @classmethod
    def initialize_reactor(cls) -> None:
        """Called by the driver before the first connection of a cluster."""
        super().initialize_reactor()
        loop = getattr(libevreactor, "_global_loop", None)
        if loop is not None and type(loop) is libevreactor.LibevLoop:
            loop.__class__ = _EndingLoop


if libevreactor is not None:

    class _EndingLoop(libevreactor.LibevLoop):  # type: ignore[misc]
        """The driver's timer repeats for ever once a request was made, and keeps the loop's thread alive with it."""

        def _update_timer(self) -> None:
            super()._update_timer()
            if not self._live_conns:
                self._loop_timer.stop()  # without connections, nothing waits for a timeout


CONNECTION_CLASS: Final[type[Any]] = Connection
