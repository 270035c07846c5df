"""Scopes: how a region cuts a dataset into buckets, so that one of them can be swept alone.

A scope is declared over columns of the dataset that never change in a row. A row's *bucket* is worked out from its
canonical values, so every engine puts an equal row into the same one; times are cut in UTC, and what is NULL is a
bucket of its own. A row whose value in such a column cannot be canonicalised is in no bucket, and is never passed over.

Bucket bytes are a MessagePack array: the canonical bytes of the columns (``value``), one int (``hash``), or year,
month and day as far as the kind goes; ``[nil]`` for NULL, ``["infinity"]`` and ``["-infinity"]`` for infinite times.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from msgpack import packb, unpackb

from paritree.core.canonical import NIL
from paritree.core.canonical.pack import array_header
from paritree.core.canonical.times import DAY_US, INT64_MAX, INT64_MIN
from paritree.core.civil import civil, days_since_epoch
from paritree.core.display import key_values
from paritree.core.errors import ConfigError
from paritree.core.profile import CANONICAL_VERSION, Profile, sorted_spec
from paritree.core.types import LogicalType

DEPTHS: Final[Mapping[str, int]] = {"year": 1, "month": 2, "day": 3}
"""Kinds that cut by time -> how many of year, month and day name a bucket."""
KINDS: Final = ("value", "hash", *DEPTHS)
INSTANTS: Final = frozenset({"timestamp", "datetime", "date"})
VALUES: Final = frozenset({"text", "int", "uuid", "bool", "date"})
"""Types by whose values rows are told apart: each has one canonical form that people can write down."""
HASH_BUCKETS_MAX: Final = 1 << 16
NULL: Final = b"\x91\xc0"
INFINITIES: Final[Mapping[int, str]] = {INT64_MAX: "infinity", INT64_MIN: "-infinity"}


@dataclass(frozen=True, slots=True)
class Scope:
    """One way to cut a dataset: by the ``columns``' values, by a hash of them (``buckets`` many), or by one's time."""

    name: str
    kind: str
    columns: tuple[str, ...]
    buckets: int = 0

    def check(self, profile: Profile, where: str) -> None:
        """Raise ConfigError unless the profile's rows can be cut so; ``where`` names the file and key."""
        if self.kind not in KINDS:
            raise ConfigError(f"{where}: no kind '{self.kind}'", next_step=f"one of {', '.join(KINDS)}")
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise ConfigError(f"{where}: a scope has columns, each once")
        if self.kind in DEPTHS and len(self.columns) > 1:
            raise ConfigError(f"{where}: {self.kind} is of one column", next_step="name one column, or kind = 'value'")
        if (self.kind == "hash") != (self.buckets > 0) or self.buckets > HASH_BUCKETS_MAX:
            raise ConfigError(f"{where}: kind = 'hash', and it alone, has 1 to {HASH_BUCKETS_MAX} buckets")
        for name in self.columns:
            if name not in profile.columns:
                raise ConfigError(
                    f"{where}: dataset {profile.dataset} does not compare a column '{name}'",
                    next_step=f"its columns: {', '.join(profile.row_columns)}",
                )
            allowed = INSTANTS if self.kind in DEPTHS else VALUES
            if profile.columns[name].name not in allowed:
                raise ConfigError(
                    f"{where}: '{name}' is {profile.columns[name]}, and {self.kind} is of {', '.join(sorted(allowed))}",
                    next_step="choose another column or kind",
                )

    def definition(self, profile: Profile) -> bytes:
        """What regions have to agree on, as canonical MessagePack: name, kind, columns with their types, buckets."""
        columns = [[name, sorted_spec(profile.columns[name].spec())] for name in self.columns]
        content: dict[str, object] = {
            "buckets": self.buckets,
            "canonical": CANONICAL_VERSION,
            "columns": columns,
            "kind": self.kind,
            "name": self.name,
        }
        return bytes(packb(content))


@dataclass(frozen=True, slots=True)
class Cut:
    """A scope over the types of one profile: a row's bucket from the canonical bytes of its columns.

    ``hash_key`` (32 bytes) keys the hash, so that nobody outside of the regions can tell which bucket a value is in.
    """

    scope: Scope
    types: tuple[LogicalType, ...]
    hash_key: bytes = field(repr=False)

    @classmethod
    def of(cls, scope: Scope, profile: Profile, hash_key: bytes) -> Cut:
        """The cut of a profile's rows."""
        return cls(scope, tuple(profile.columns[name] for name in scope.columns), hash_key)

    @property
    def profile(self) -> Profile:
        """The columns alone, as the key of a profile: bucket bytes by ``value`` read as its key bytes."""
        names = self.scope.columns
        return Profile(f"scope {self.scope.name}", names, dict(zip(names, self.types, strict=True)))

    def bucket(self, packed: Sequence[bytes]) -> bytes:
        """Bucket bytes of the row whose columns have those canonical bytes."""
        if self.scope.kind == "value":
            return array_header(len(packed)) + b"".join(packed)
        if all(part == NIL for part in packed):
            return NULL
        if self.scope.kind == "hash":
            digest = blake2b(b"".join(packed), key=self.hash_key, digest_size=8).digest()
            return bytes(packb([int.from_bytes(digest, "big") % self.scope.buckets]))
        return self.bucket_at(_units(packed[0]))

    def bucket_at(self, units: int) -> bytes:
        """Bucket bytes of a time in microseconds (a date: days) since 1970, for kinds that cut by time."""
        if units in INFINITIES:
            return bytes(packb([INFINITIES[units]]))
        days = units if self.types[0].name == "date" else units // DAY_US
        return bytes(packb(civil(days)[: DEPTHS[self.scope.kind]]))


def _units(packed: bytes) -> int:
    """The number of a canonical date, timestamp or datetime: the last 8 bytes."""
    (units,) = struct.unpack(">q", packed[-8:])
    return int(units)


@dataclass(frozen=True, slots=True)
class Condition:
    """What rows of a bucket have in one column, as a source can be asked: more rows may have it, never fewer.

    ``column`` is the logical name. Either the value is NULL, or it ``equals`` a plain value, or low <= value < high in
    the plain values of times (see the connector contract).
    """

    column: str
    type: LogicalType
    null: bool = False
    equals: Any = None
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket of a cut, by its bytes."""

    cut: Cut
    content: bytes

    def conditions(self) -> tuple[Condition, ...]:
        """What its rows have in each column; columns of which nothing can be asked are left out."""
        scope, types = self.cut.scope, self.cut.types
        if scope.kind == "hash":
            if self.content != NULL:
                return ()
            return tuple(Condition(name, kind, null=True) for name, kind in zip(scope.columns, types, strict=True))
        if scope.kind == "value":
            return tuple(self._values())
        if self.content == NULL:
            return (Condition(scope.columns[0], types[0], null=True),)
        span = self.span()
        if span is None:
            return ()
        spare = 0 if types[0].rounding_mode == "floor" else types[0].unit_us  # what rounding may carry over the edge
        return (Condition(scope.columns[0], types[0], low=span[0] - spare, high=span[1] + spare),)

    def _values(self) -> list[Condition]:
        scope, types = self.cut.scope, self.cut.types
        found: list[Condition] = []
        values = key_values(self.content, self.cut.profile)
        for name, kind, value in zip(scope.columns, types, values, strict=True):
            if value is None:
                found.append(Condition(name, kind, null=True))
            elif not kind.rules:  # other texts become this one by a rule
                found.append(Condition(name, kind, equals=value))
        return found

    def span(self) -> tuple[int, int] | None:
        """The canonical times of the bucket, from the first up to, not including, the last; None without a span."""
        if self.cut.scope.kind not in DEPTHS or self.content == NULL:
            return None
        parts = unpackb(self.content)
        if isinstance(parts[0], str):
            return None
        first, end = days_since_epoch(*_from(parts)), days_since_epoch(*_after(parts))
        unit = 1 if self.cut.types[0].name == "date" else DAY_US
        return first * unit, end * unit


def _from(parts: Sequence[int]) -> tuple[int, int, int]:
    year, month, day = (*parts, 1, 1)[:3]
    return year, month, day


def _after(parts: Sequence[int]) -> tuple[int, int, int]:
    """The first day after a year, month or day."""
    year, month, day = _from(parts)
    if len(parts) == 3:
        return civil(days_since_epoch(year, month, day) + 1)
    if len(parts) == 2 and month < 12:
        return year, month + 1, 1
    return year + 1, 1, 1
