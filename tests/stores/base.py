"""One table of plain values in a real engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from edge_agent.connectors.contract import Source
from paritree.core.types import LogicalType

Columns = Mapping[str, LogicalType]
Row = Mapping[str, Any]


class Store(ABC):
    """One engine with as many tables as a test makes. ``no_types`` says of each type that it lacks why."""

    engine: ClassVar[str]
    server: ClassVar[str] = ""
    """The session fixture that has the running server."""
    no_types: ClassVar[Mapping[str, str]] = {}
    empty_is_null: ClassVar[bool] = False

    def __init__(self, place: Path, server: Any) -> None:
        self.place = place
        self.running = server

    @abstractmethod
    def put(self, table: str, columns: Columns, key: Sequence[str], rows: Sequence[Row]) -> None:
        """Make the table, or replace the rows of the one that a call with the same columns has made.

        Cassandra's keeps rows of other keys than these.
        """

    @abstractmethod
    def source(self, table: str) -> Source:
        """What to connect to."""

    def name(self, table: str) -> str:
        """The table's name for the connector."""
        return table

    def close(self) -> None:  # noqa: B027 - a directory of the test needs no clearing away
        """Remove what was made."""


def quoted(name: str) -> str:
    return f'"{name}"'
