"""The driver's event loop that carries the connections: one thread a process, which ends with the last of them."""

from __future__ import annotations

import warnings
from typing import Any, Final

with warnings.catch_warnings():
    # Where its libev extension is missing, the driver falls back to asyncore, which Python 3.11 announces the end of.
    warnings.filterwarnings("ignore", "The asyncore module is deprecated", DeprecationWarning)
    from cassandra.cluster import DefaultConnection


class Connection(DefaultConnection):  # type: ignore[misc]  # the driver has no types
    """The driver reads 4 KiB at a time; a page of 5,000 rows is about 1 MiB."""

    in_buffer_size: Final = 1 << 18


CONNECTION_CLASS: Final[type[Any]] = Connection
