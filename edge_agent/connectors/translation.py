"""Translation tables: what an engine's type means, as data in ``types.toml`` beside each connector.

One TOML table an engine type::

    ["timestamp with time zone"]
    logical = "timestamp"
    precision = "us"                       # what the engine holds (s ms us ns), for time, timestamp, datetime
    lost = "the zone the value was written in"

    ["integer[]"]                          # built of other types: the connector fills in the rest
    shape = "list"

    [money]
    refusal = "its text depends on lc_monetary"

Exactly one of ``logical``, ``shape`` (list, set, map, struct) and ``refusal`` is given. ``padded = true`` marks
char(n), ``caseless = true`` citext. The contract suite has one test a row.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from paritree.core.errors import InvariantBroken
from paritree.core.schema import SourceColumn
from paritree.core.types import LogicalType, parse_type

SHAPES = ("list", "set", "map", "struct")
PRECISIONS = ("s", "ms", "us", "ns")
_KNOWN = frozenset({"logical", "shape", "refusal", "precision", "lost", "padded", "caseless"})


@dataclass(frozen=True, slots=True)
class Translation:
    """One row of a table; ``logical`` is None where the type is refused or other types build it (``shape``)."""

    engine_type: str
    logical: LogicalType | None = None
    shape: str = ""
    refusal: str = ""
    precision: str | None = None
    lost: str = ""
    padded: bool = False
    caseless: bool = False

    def column(
        self,
        name: str,
        engine_type: str,
        *,
        logical: LogicalType | None = None,
        nullable: bool = True,
        precision: str | None = None,
        typed: bool = True,
    ) -> SourceColumn:
        """A source column of this type; ``logical`` and ``precision`` override the row's (built or declared types)."""
        return SourceColumn(
            name=name,
            engine_type=engine_type,
            logical=logical or self.logical,
            nullable=nullable,
            precision=precision or self.precision,
            lost=self.lost,
            refusal=self.refusal,
            typed=typed,
            padded=self.padded,
            caseless=self.caseless,
        )


def refused(engine_type: str, reason: str = "") -> Translation:
    """The row of a type that the table does not list: refused with a reason, never guessed."""
    return Translation(engine_type, refusal=reason or f"no translation for the type '{engine_type}'")


@cache
def load(package: str) -> Mapping[str, Translation]:
    """The table in ``types.toml`` of a connector's package (its dotted name), engine type -> row, in file order.

    Raises InvariantBroken for a table that says nothing or two things of a type: the file is ours.
    """
    with resources.files(package).joinpath("types.toml").open("rb") as file:
        rows = tomllib.load(file)
    return MappingProxyType({name: _row(name, row, f"{package}/types.toml: '{name}'") for name, row in rows.items()})


def _row(name: str, row: Mapping[str, Any], where: str) -> Translation:
    if unknown := set(row) - _KNOWN:
        raise InvariantBroken(f"{where}: unknown key {sorted(unknown)}")
    if sum(bool(row.get(key)) for key in ("logical", "shape", "refusal")) != 1:
        raise InvariantBroken(f"{where}: exactly one of logical, shape and refusal is needed")
    if row.get("shape", SHAPES[0]) not in SHAPES or row.get("precision", PRECISIONS[0]) not in PRECISIONS:
        raise InvariantBroken(f"{where}: shape is one of {SHAPES}, precision one of {PRECISIONS}")
    logical = parse_type(row["logical"], where) if "logical" in row else None
    return Translation(name, logical, **{key: value for key, value in row.items() if key != "logical"})
