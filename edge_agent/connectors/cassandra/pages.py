"""Result pages as raw bytes, and how they are asked for.

The driver decodes every cell to a Python object (9 us a row of ten columns); keeping the frame's bytes costs 0.3 us.
So the session's protocol handler stops before the rows, and the page goes to a decoder as it came.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from cassandra.cluster import ResponseFuture
from cassandra.protocol import ResultMessage, _ProtocolHandler, read_int
from cassandra.query import PreparedStatement

from edge_agent.connectors.cassandra.cqltype import CqlType
from edge_agent.connectors.cassandra.decode import Rows, split

FIRST_PAGE_ROWS: Final = 64
"""Rows may be as large as a page should be: the first one only finds out."""
PAGE_BYTES: Final = 4 << 20
"""Two pages are in memory a scan: this one and the next."""
PAGE_S: Final = 1.0
"""A page that takes longer is a sign of a busy cluster: ask for half as many rows."""
PROTOCOLS: Final = (5, 4)
"""Cassandra 4 and newer, 3.x: page bytes are the same in both."""


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of one answer. ``types`` are the driver's type classes of its columns."""

    rows: Rows
    types: tuple[Any, ...]

    def values(self) -> list[tuple[Any, ...]]:
        """The rows decoded by the driver: for catalogue tables."""
        columns = [
            [None if cell is None else kind.from_binary(cell, PROTOCOLS[-1]) for cell in cells]
            for kind, cells in zip(self.types, split(self.rows, len(self.types)), strict=True)
        ]
        return list(zip(*columns, strict=True))


class _RawResult(ResultMessage):  # type: ignore[misc]  # the driver has no types
    def recv_results_rows(
        self, f: Any, _protocol: int, user_types: Any, result_metadata: Any, _encryption: Any
    ) -> None:
        self.recv_results_metadata(f, user_types)
        metadata = self.column_metadata or result_metadata
        count = read_int(f)
        self.column_names = [column[2] for column in metadata]
        self.column_types = [column[3] for column in metadata]
        # getvalue() of an unchanged BytesIO is the frame's own bytes object, not a copy.
        self.parsed_rows = [Page(Rows(f.getvalue(), count, f.tell()), tuple(self.column_types))]


class RawHandler(_ProtocolHandler):  # type: ignore[misc]
    message_types_by_opcode: Final = {**_ProtocolHandler.message_types_by_opcode, _RawResult.opcode: _RawResult}


@dataclass(frozen=True, slots=True)
class Statement:
    """A prepared statement and the types of the columns that it gives: the driver's classes, and ours made of them."""

    prepared: PreparedStatement
    types: tuple[Any, ...]
    kinds: tuple[CqlType, ...]


class Asked:
    """A request under way, and how long the server took once it has answered."""

    def __init__(self, future: ResponseFuture) -> None:
        self.future = future
        self._start = time.monotonic()
        self._end = 0.0
        future.add_callback(self._answered)

    def _answered(self, _pages: object) -> None:
        self._end = time.monotonic()

    @property
    def seconds(self) -> float:
        """From the question to the answer. The driver hands out the answer just before it calls back."""
        return (self._end or time.monotonic()) - self._start


@dataclass(slots=True)
class PageSize:
    """How many rows to ask for: from few up to ``rows_max``, as long as pages are small and quick enough."""

    rows_max: int
    rows: int = FIRST_PAGE_ROWS

    def note(self, page: Page, seconds: float) -> None:
        """Take a page's size, and the time that the server took for it, into account for the next one."""
        if seconds > PAGE_S:
            self.rows = max(1, self.rows // 2)
            return
        size = len(page.rows.data) - page.rows.offset
        fitting = PAGE_BYTES * max(page.rows.count, 1) // max(size, 1)
        self.rows = max(1, min(fitting, 8 * self.rows, self.rows_max))


@dataclass(frozen=True, slots=True)
class Request:
    """One statement with its raw values, asked page by page. ``hosts`` are host ids to ask, in that order."""

    statement: Statement
    values: tuple[bytes, ...]
    doing: str
    hosts: tuple[str, ...] = ()
    size: PageSize | None = None
    state: bytes | None = None
