"""What a connector says of a table: its columns as logical types, its key, its size."""

from __future__ import annotations

from dataclasses import dataclass

from paritree.core.types import LogicalType


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """One column as the engine's catalogue has it.

    ``logical`` is None where the engine's type has no logical type; ``refusal`` then says why. ``precision`` is what
    the engine holds of a time (``s ms us ns``; None for other types); ``lost`` says what the translation loses, or "".
    ``typed`` is False where the engine does not enforce the type (CSV, SQLite): such a column takes the type that the
    profile or the other region declares. ``padded`` marks char(n), whose trailing spaces mean nothing;
    ``caseless`` marks citext and case-insensitive collations.
    """

    name: str
    engine_type: str
    logical: LogicalType | None
    nullable: bool = True
    precision: str | None = None
    lost: str = ""
    refusal: str = ""
    typed: bool = True
    padded: bool = False
    caseless: bool = False


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table as its catalogue describes it; types never come from sampled values.

    ``key`` is the primary key in its declared order, or () where the catalogue knows none. ``rows_estimate`` is for
    planning and progress only. ``empty_is_null`` is True where the engine cannot tell an empty collection from null
    (Cassandra). ``consistent`` is True where every shard of one plan reads one snapshot.
    """

    table: str
    columns: tuple[SourceColumn, ...]
    key: tuple[str, ...] = ()
    rows_estimate: int = 0
    empty_is_null: bool = False
    consistent: bool = True

    def column(self, name: str) -> SourceColumn | None:
        """The column of exactly that name, or None."""
        return next((c for c in self.columns if c.name == name), None)
