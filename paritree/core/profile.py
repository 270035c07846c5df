"""What is compared and how (the profile), and how a region stores it (the binding).

The profile is shared by every region and has an id; a binding stays with its agent and is never sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgpack import packb

from paritree.core.errors import ConfigError, InvariantBroken
from paritree.core.types import LogicalType

if TYPE_CHECKING:
    from paritree.core.scope import Bucket

CANONICAL_VERSION = 1
EMPTY_COLLECTIONS = ("keep", "null")
WHOLE_ROW = "*"
"""In place of a list of key columns: every compared column is the key."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The compared columns of a dataset, with types and rules, and its key columns in declared order.

    ``empty_collection`` is "null" where one binding's engine cannot tell an empty collection from null.
    ``ignored`` names columns left out on purpose; they are reported, and are not part of the id. ``whole_row``: the
    dataset has no key of its own, so every compared column is the key, in the order of the row bytes; see
    :meth:`keyless`.
    """

    dataset: str
    key: tuple[str, ...]
    columns: Mapping[str, LogicalType]
    empty_collection: str = "keep"
    ignored: tuple[str, ...] = ()
    whole_row: bool = False

    @classmethod
    def keyless(
        cls,
        dataset: str,
        columns: Mapping[str, LogicalType],
        empty_collection: str = "keep",
        ignored: tuple[str, ...] = (),
    ) -> Profile:
        """The profile of a dataset without a key: rows are told apart by all of their values, and may be NULL there.

        Equal rows are copies of one row; what is compared is how often each occurs.
        """
        key = tuple(sorted(columns, key=lambda name: name.encode()))
        return cls(dataset, key, columns, empty_collection, ignored, whole_row=True)

    def __post_init__(self) -> None:
        if not self.dataset:
            raise ConfigError("a dataset needs a name")
        if not self.key:
            raise ConfigError(f"dataset {self.dataset}: no key columns", next_step="add key = [...] or --key a,b")
        for name in self.key:
            if name not in self.columns:
                raise ConfigError(f"dataset {self.dataset}: key column '{name}' is not among its columns")
            if self.columns[name].tolerance is not None:
                raise ConfigError(
                    f"dataset {self.dataset}: key column '{name}' has a tolerance, and keys are compared exactly",
                    next_step=f"take the tolerance out of '{name}', or choose another key",
                )
        if self.whole_row and self.key != self.row_columns:
            raise InvariantBroken(f"dataset {self.dataset}: a whole row is every column, in the order of the row bytes")
        if len(set(self.key)) != len(self.key):
            raise ConfigError(f"dataset {self.dataset}: a key column is named twice")
        if self.empty_collection not in EMPTY_COLLECTIONS:
            raise ConfigError(f"dataset {self.dataset}: empty_collection is 'keep' or 'null'")

    @property
    def lookup_key(self) -> tuple[str, ...]:
        """The columns by which rows are looked up in a source: the key; () where it is the whole row."""
        return () if self.whole_row else self.key

    @property
    def row_columns(self) -> tuple[str, ...]:
        """Every compared column (key included), in the order of the row bytes: by the name's UTF-8 bytes."""
        return tuple(sorted(self.columns, key=lambda name: name.encode()))

    @property
    def tolerant_columns(self) -> tuple[str, ...]:
        """The row columns that have a tolerance, in the same order."""
        return tuple(self.tolerances)

    @property
    def tolerances(self) -> dict[str, str]:
        """The text of the tolerance of each row column that has one, in the same order."""
        kinds = ((name, self.columns[name]) for name in self.row_columns)
        return {name: kind.tolerance for name, kind in kinds if kind.tolerance is not None}

    @property
    def profile_id(self) -> bytes:
        """16 bytes of unkeyed BLAKE2b over the canonical MessagePack map of what is compared (see CANONICAL.md)."""
        content: dict[str, object] = {
            "canonical": CANONICAL_VERSION,
            "columns": {name: sorted_spec(self.columns[name].spec()) for name in self.row_columns},
            "dataset": self.dataset,
            "empty_collection": self.empty_collection,
            "key": WHOLE_ROW if self.whole_row else list(self.key),
        }
        return hashlib.blake2b(packb(content), digest_size=16).digest()


def sorted_spec(value: object) -> object:
    """The same nested mapping with keys in the order of their UTF-8 bytes, so that it packs in one way."""
    if isinstance(value, dict):
        return {k: sorted_spec(value[k]) for k in sorted(value, key=lambda k: str(k).encode())}
    return value


@dataclass(frozen=True, slots=True)
class BoundColumn:
    """Where one logical column comes from in one region: exactly one of source column, expression or constant.

    ``type`` is the profile's type. ``constant`` is text, read as that type. ``parts`` folds several source columns
    into one text, joined by ``joiner`` (key parts of another engine).
    """

    name: str
    type: LogicalType
    source: str | None = None
    expression: str | None = None
    constant: str | None = None
    parts: tuple[str, ...] = ()
    joiner: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """One dataset as one region stores it. ``where`` exists for ad hoc ``diff`` only (an SQL predicate).

    ``key`` names the columns of a look-up; () where rows cannot be looked up, because their key is the whole row. With
    a ``bucket`` only its rows are wanted: a source may be asked for them, and what it gives is sifted (``core.sieve``).
    """

    dataset: str
    table: str
    key: tuple[str, ...]
    columns: tuple[BoundColumn, ...]
    where: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    bucket: Bucket | None = None

    def column(self, name: str) -> BoundColumn:
        """The bound column of that logical name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def key_columns(self) -> tuple[BoundColumn, ...]:
        return tuple(self.column(name) for name in self.key)

    @property
    def binding_id(self) -> bytes:
        """16 bytes that change with anything declared in the binding: a changed binding means another index."""
        parts = [self.dataset, self.table, list(self.key), self.where, sorted(self.options.items())]
        columns = [
            [c.name, sorted_spec(c.type.spec()), c.source, c.expression, c.constant, list(c.parts), c.joiner]
            for c in sorted(self.columns, key=lambda c: c.name.encode())
        ]
        return hashlib.blake2b(packb([parts, columns]), digest_size=16).digest()
