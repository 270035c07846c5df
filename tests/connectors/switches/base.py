"""What the contract suite has to know of an engine: how to fill it, and where the contract has holes."""

from __future__ import annotations

import datetime as dt
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edge_agent.connectors.contract import Connector, Source
from edge_agent.connectors.registry import connect
from paritree.core.profile import BoundColumn
from paritree.core.types import LogicalType

Row = Sequence[Any]
"""One row of plain values."""
INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)


@dataclass(frozen=True)
class Hole:
    """A test that an engine does not pass: ``notimpl`` to do, ``notyet`` waits for the engine, ``never`` by nature."""

    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


def notimpl(reason: str) -> Hole:
    return Hole("notimpl", reason)


def notyet(reason: str) -> Hole:
    return Hole("notyet", reason)


def never(reason: str) -> Hole:
    return Hole("never", reason)


@dataclass(frozen=True)
class Dead:
    """The value becomes a dead letter whose reason contains this."""

    reason: str


@dataclass(frozen=True)
class Typed:
    """One row of a translation table: the declared type, native values and the plain values that they are.

    A NULL is always tried too. ``read_as`` is the profile's type where it is not the catalogue's.
    """

    declared: Any
    logical: str
    cases: Sequence[tuple[Any, Any]]
    read_as: str | LogicalType = ""


@dataclass(frozen=True)
class Refused:
    """A row that is refused: ``describe`` must say so. ``native`` is a value where the engine needs one."""

    declared: Any
    native: Any = None


class Switches(ABC):
    """One engine. An instance is one fresh store; tables that it makes are gone after :meth:`close`."""

    engine: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """The packages whose types.toml this engine uses."""
    other_rows: ClassVar[frozenset[str]] = frozenset()
    """Rows of these packages that are for other engines."""
    samples: ClassVar[Mapping[str, Typed | Refused]]
    """One sample for each row of the translation tables."""
    holes: ClassVar[Mapping[str, Hole]] = {}
    """Test name, or ``name[parameters]`` without the engine, -> the hole."""
    server: ClassVar[str] = ""
    """The session fixture that has the running server."""
    knows_key: ClassVar[bool] = True
    enforces_types: ClassVar[bool] = True
    """Whether the catalogue has types that the engine enforces."""
    when_changed: ClassVar[str] = "snapshot"
    """What a change between shards leads to: ``snapshot`` (not seen), ``interval`` or ``refused``."""
    odd_table: ClassVar[str] = 'odd "Täble" na.me'
    odd_columns: ClassVar[tuple[str, ...]] = ("select", "a b", 'q"uote', "UPPER", "dot.ted", "naïve", "apos'trophe")
    cannot_hold: ClassVar[Mapping[str, tuple[str, Sequence[Any]]]] = {}
    """Logical type -> (why, plain values that the engine cannot hold in a key column)."""

    def __init__(self, place: Path, server: Any) -> None:
        self.place = place
        self.running = server

    @property
    @abstractmethod
    def source(self) -> Source:
        """What to connect to."""

    @abstractmethod
    def create(self, table: str, columns: Mapping[str, LogicalType], key: Sequence[str], rows: Sequence[Row]) -> str:
        """Make a table of plain values; returns its name for ``describe``."""

    @abstractmethod
    def create_typed(self, table: str, declared: Any, natives: Sequence[Any]) -> str:
        """Make a table ``id`` (int from 0, the key) and ``c`` of a declared type with native values."""

    @abstractmethod
    def change(self, table: str) -> None:
        """Change a table ``id, v`` (ints) as another program does: delete id 0, set v = -1 for id 1, insert id 1000."""

    @abstractmethod
    def fingerprint(self) -> object:
        """Something that differs when anything in the source was changed."""

    @abstractmethod
    def unreachable(self) -> Sequence[Source]:
        """Sources that cannot be opened."""

    def late_failure(self) -> tuple[str, tuple[str, ...], tuple[BoundColumn, ...]]:
        """A table of one shard whose last rows cannot be read: its name, key and bound columns."""
        raise NotImplementedError

    def break_late_failure(self) -> None:  # noqa: B027 - most engines' failures lie in the data
        """Called after the first batch of :meth:`late_failure`: the rest cannot be read from now on."""

    def close(self) -> None:  # noqa: B027 - a directory of the test needs no clearing away
        """Remove what was made."""

    def connect(self) -> Connector:
        """A connector, as production makes one."""
        return connect(self.source)


def text_of(value: Any, kind: LogicalType) -> str | None:
    """A plain value as the text that engines without the type hold."""
    if value is None:
        return None
    match kind.name:
        case "bool":
            return "true" if value else "false"
        case "float":
            return repr(float(value))
        case "bytes":
            return bytes(value).hex()
        case "date":
            return infinite(value) or (dt.date(1970, 1, 1) + dt.timedelta(days=value)).isoformat()
        case "time":
            return clock(value)
        case "timestamp":
            return infinite(value) or moment(value) + "Z"
        case "datetime":
            return infinite(value) or moment(value)
        case "uuid":
            return str(uuid.UUID(bytes=value))
        case _:
            return str(value)


def infinite(value: int) -> str:
    return {INT64_MAX: "infinity", INT64_MIN: "-infinity"}.get(value, "")


def clock(micros: int) -> str:
    seconds, rest = divmod(micros, 1_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:06}"


def moment(micros: int) -> str:
    return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=micros)).isoformat(" ", "microseconds")
