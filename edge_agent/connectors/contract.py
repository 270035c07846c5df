"""What every connector does. Sync and small; Arrow record batches are the interface to the digester.

**Carriers.** ``scan`` and ``lookup`` return record batches whose columns are named by the *logical* names of the
binding and hold the values in one of the Arrow types ("carriers") that ``paritree.core.carrier`` accepts for the
column's logical type. A connector hands out what it has natively and never rounds, trims or re-zones a value. Arrow's
own date, time and timestamp types are finite: an engine with infinite dates or times hands out int64, and a
timestamp[us] that equals an int64 sentinel is a dead letter:

============  =====================================================================================================
logical type  accepted Arrow carriers
============  =====================================================================================================
bool          bool
int           any integer type, decimal128/256 with an integral value, utf8 (decimal digits)
decimal       decimal128/256, any integer type, utf8 (``1.10``, ``1E+3``, ``NaN``, ``-Infinity``)
float         float16/32/64
text          utf8, large_utf8, binary (checked to be UTF-8)
bytes         binary, large_binary, fixed_size_binary
date          date32, int64 (days since 1970-01-01; int64 max/min = plus/minus infinity), utf8
time          time32, time64 (ns too), int64 (microseconds since midnight, 86,400,000,000 allowed), utf8
timestamp     timestamp(any unit, tz), int64 (microseconds since 1970-01-01 UTC, max/min = plus/minus infinity), utf8
datetime      timestamp(any unit, no tz), int64 (as above, no zone), utf8
uuid          fixed_size_binary(16), binary of 16 bytes, utf8
duration      fixed_size_binary(16) = int32 BE months, int32 BE days, int64 BE microseconds; month_day_nano_interval
inet          utf8
json          utf8, large_utf8 (JSON text)
list, set     list, large_list of a carrier
map           map of carriers
struct        struct of carriers (fields by name)
============  =====================================================================================================

**Rejects.** A value that the engine has but no carrier can hold (malformed, another storage class than declared) is
null in its column and named in the extra column :data:`REJECTS` of type :data:`REJECTS_TYPE`; the row becomes a dead
letter. A connector never drops a row and never invents a value.

**Versions.** ``lookup_versioned`` may add a column :data:`VERSION` of type :data:`VERSION_TYPE`; null where the time is
not known. It is ``whole`` only where two rows of one key and one version, in any two regions, are the same write.

**Look-up keys** are plain Python values, one tuple a key in the order of ``binding.key`` (see
``paritree.core.carrier`` for the plain value of each type: times are integer microseconds, uuid is 16 bytes, ...).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal, Self

import pyarrow as pa

from edge_agent.connectors.changes import ChangeSource
from paritree.core.carrier import plain_values
from paritree.core.errors import ConfigError
from paritree.core.placed import Placed
from paritree.core.profile import Binding
from paritree.core.schema import TableSchema

REJECTS: Final = "paritree.rejects"
REJECTS_TYPE: Final = pa.list_(pa.struct([("column", pa.utf8()), ("reason", pa.utf8())]))
VERSION: Final = "paritree.version"
VERSION_TYPE: Final = pa.struct([("at", pa.int64()), ("whole", pa.bool_())])
"""When a row was written, in microseconds since 1970, and whether that is so of all of the row."""
BATCH_ROWS: Final = 16_384
"""Rows a record batch has at most, unless a connector says why."""
LOOKUP_KEYS: Final = 1_000
"""Keys of one look-up where a connector has no better way to look up many: a statement that every engine takes."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a connector connects: a URL without a password, options, and secrets resolved by the caller.

    ``secrets`` (e.g. ``{"password": ...}``) never appears in repr, logs or errors.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Shard:
    """A native local range of the source that one task scans; small, picklable, meaningful to its connector only.

    ``label`` is for people (progress, dead letters), ``range`` for the connector; ``rows_estimate`` for planning.
    ``version``: shards of one label and one version that is not "" have the same rows, whenever they are read;
    ``content``, known once it was scanned: shards of one content have the same rows, wherever those lie.
    """

    number: int
    label: str
    range: Mapping[str, Any]
    rows_estimate: int = 0
    version: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class Position:
    """How far the source had been read: a point (LSN, snapshot, file version) or an interval of wall time.

    ``point`` is True when every shard saw exactly one state of the table. ``text`` is shown in the report.
    """

    text: str
    point: bool


class Plan(ABC):
    """Shards over one state of the table. Keeps open whatever that state needs (snapshot, locks) until ``close``."""

    shards: tuple[Shard, ...]

    @abstractmethod
    def position(self) -> Position:
        """The position of what was scanned; for an interval, call it after the last shard."""

    @abstractmethod
    def close(self) -> None:
        """Release the snapshot and locks. Idempotent."""

    def between(self, first_s: float, last_s: float) -> Position:
        """The position of shards that were each read at some time in this interval (seconds since 1970)."""
        first, last = (datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds") for at in (first_s, last_s))
        return Position(f"{first} .. {last}", point=False)

    def renewed(self) -> Plan | None:
        """The same shards over the table as it is now; None where this plan holds no snapshot that could get old.

        This plan stays open. Raises SourceError where the table is no longer the one that was cut into shards.
        """
        return None

    def memento(self) -> Mapping[str, Any] | None:
        """What another process needs to take these shards up again (MessagePack); None: it has to scan anew."""
        return None

    def take_up(self, mementos: Sequence[Mapping[str, Any]], shards: tuple[Shard, ...]) -> tuple[Plan, ...] | None:
        """Follow the plans of another process, which are gone, with their ``shards``; this plan has just been made.

        Returns those plans, one for each memento, where rows that have changed since must be read again; () where what
        was read needs no second look, and the position of this plan covers it. None where the shards cannot be taken
        up: the table is another one by now, or was changed in a way that nobody can tell.
        """
        del shards
        own = self.memento()
        return () if own is not None and all(memento == own for memento in mementos) else None

    def recut(self, binding: Binding, held: Sequence[Shard]) -> Mapping[str, str]:
        """Cut anew, so that shards of an earlier plan are shards of this one where their rows are the same now.

        Returns those: by label, the label that they have among ``held``. All others are to be scanned.
        """
        del binding
        known = {shard.label: shard.version for shard in held if shard.version}
        return {shard.label: shard.label for shard in self.shards if known.get(shard.label) == shard.version}

    def changed_since(self, earlier: Plan, shard: Shard) -> Shard | None:
        """The rows of a shard of this plan that ``earlier``, which was renewed to this one, may not have seen there.

        None where a row cannot come into a shard: then having read each shard once, whenever, is having read all.
        """
        del earlier, shard
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Connector(ABC):
    """One connection to one source. Every method raises SourceError or ConfigError, never a driver's exception."""

    engine: ClassVar[str]
    concurrent: ClassVar[bool] = False
    """Whether several threads may use one connector at once; ``waited_s`` then means nothing."""
    rescans: ClassVar[Literal["", "version", "age"]] = ""
    """How an index learns which of its shards to scan again alone: their version differs, or they are old.

    "": not at all, because rows move between shards. With "age", ``Plan.take_up`` takes any shards up.
    """

    @classmethod
    @abstractmethod
    def connect(cls, source: Source) -> Self:
        """Open the source. Raises SourceError (unreachable, refused) or ConfigError (unusable URL or option)."""

    @classmethod
    def through(cls, source: Source, local_port: Callable[[str, int], int]) -> Source:
        """The same source at this machine's end of a tunnel; ``local_port`` opens one to a host and port.

        Certificates are still checked against the source's own name. Raises ConfigError where that is not possible.
        """
        del source, local_port
        raise ConfigError(
            f"{cls.engine}: there is no server that an SSH bastion could lead to",
            next_step="remove ssh from this connection",
        )

    @classmethod
    def prepare(cls, say: Callable[[str], None]) -> None:
        """Compile what a scan of a large table needs, where this machine has not yet; ``say`` hears of it first."""
        del say

    @abstractmethod
    def tables(self) -> list[str]:
        """The user's tables, as names that ``describe`` takes; what ``paritree init`` offers."""

    @abstractmethod
    def describe(self, table: str) -> TableSchema:
        """The table's schema from the catalogue. Raises ConfigError where the table is absent or unreadable."""

    @abstractmethod
    def plan(self, binding: Binding, shard_rows: int) -> Plan:
        """Cut the table into shards of about ``shard_rows`` rows (at least one shard, also for an empty table)."""

    @abstractmethod
    def scan(self, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch]:
        """The rows of one shard, each exactly once over all shards of a plan; memory bounded by a batch.

        May be called in another process than ``plan``, on a connector of its own, while the plan is open.
        """

    def content(self, binding: Binding, shard: Shard) -> str:
        """The :attr:`Shard.content` of a shard that was scanned just now; "" where it is not known or not proved."""
        del binding, shard
        return ""

    def asks(self, binding: Binding) -> bool:
        """Whether ``scan`` asks the source for the binding's bucket, instead of reading the rows of other buckets too.

        What is asked for may be more than the bucket (``Bucket.conditions``), never less but for values that cannot be
        canonicalised; the caller sifts. Raises as ``plan`` does.
        """
        del binding
        return False

    def scan_placed(self, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch | Placed]:
        """As ``scan``, for a digester that can read values where the source has put them, in its own bytes."""
        return self.scan(binding, shard)

    @abstractmethod
    def lookup(self, binding: Binding, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        """The present rows of those keys, read now, in any order; absent keys give no row, duplicates give several.

        The caller recomputes the key digests and drops every row that it did not ask for.
        """

    def lookup_batch(
        self, binding: Binding, keys: pa.RecordBatch, *, placed: bool = False
    ) -> Iterator[pa.RecordBatch | Placed]:
        """As ``lookup``, for many keys at once: ``keys`` has the key columns by logical name, in carriers of a scan.

        Distinct keys without nulls. May give rows that were not asked for. With ``placed`` it may give rows for a
        digester that can read values where the source has put them, as ``scan_placed``.
        """
        del placed
        bare = [column.type.bare for column in binding.key_columns]
        for first in range(0, keys.num_rows, LOOKUP_KEYS):
            some = keys.slice(first, LOOKUP_KEYS)
            values = [plain_values(some.column(n), kind) for n, kind in zip(binding.key, bare, strict=True)]
            yield from self.lookup(binding, list(zip(*values, strict=True)))

    def changes(self, binding: Binding, name: str) -> ChangeSource:
        """The changes of a binding's table; ``name`` tells apart who follows them (region and agent).

        Raises ConfigError where this engine or this table cannot tell its changes.
        """
        del binding, name
        raise ConfigError(
            f"{self.engine}: this engine does not tell which rows have changed",
            next_step="leave changes out for this dataset: it is scanned instead",
        )

    def lookup_versioned(self, binding: Binding, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        """As :meth:`lookup`, with a column :data:`VERSION` where the source knows when its rows were written."""
        return self.lookup(binding, keys)

    @abstractmethod
    def close(self) -> None:
        """Close the connection. Idempotent."""

    @property
    def waited_s(self) -> float | None:
        """Seconds for which the scan begun last has waited for the source so far; None where nobody measures it."""
        return None

    def load(self, replica_lag_max_s: float | None, backends_active_max: int | None) -> str:
        """Why the source is to be left alone now, "" if it is not. Raises ConfigError where that cannot be seen."""
        if replica_lag_max_s is None and backends_active_max is None:
            return ""
        raise ConfigError(
            f"{self.engine}: the load of a source is not known for this engine",
            next_step="remove replica_lag_max_s and backends_active_max for this connection",
        )

    def advice(self, table: str) -> list[str]:
        """What ``paritree doctor`` should tell about this table (privileges, settings, types), each with its fix."""
        del table
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
