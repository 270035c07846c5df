"""One connection of the process for all its shards: connecting anew costs a server process and catalogue reads each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from edge_agent.connectors.contract import Connector, Source
from edge_agent.connectors.registry import connect

_open: Final[dict[str, Connector]] = {}
_numbers: Final = itertools.count()


@contextmanager
def lent(connector: Connector) -> Iterator[str]:
    """A name under which tasks of this process find the connector, "" where threads cannot share it."""
    if not connector.concurrent:
        yield ""
        return
    name = f"{os.getpid()}-{next(_numbers)}"
    _open[name] = connector
    try:
        yield name
    finally:
        del _open[name]


@contextmanager
def borrowed(source: Source, name: str) -> Iterator[Connector]:
    """The connector lent under that name, or one of the caller's own: in another process, or without a name."""
    connector = _open.get(name)
    if connector is not None:
        yield connector
        return
    with connect(source) as own:
        yield own
