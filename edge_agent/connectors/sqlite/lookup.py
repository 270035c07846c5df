"""Look-ups by key: conditions that an index can serve where a value has one stored form, then an exact filter.

A condition may match more than was asked (a caseless collation, a day instead of an instant), never less. Where a value
has forms that no condition covers (a decimal in a TEXT column, a uuid's spellings), the column has no condition and the
filter decides; where no key column has one, the table is scanned once for all keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from edge_agent.connectors.keyfilter import Key, KeyFilter, askable
from edge_agent.connectors.spellings import SPELLINGS
from edge_agent.connectors.sqlite.database import Database
from edge_agent.connectors.sqlite.scan import Condition, column_sql, rows
from edge_agent.connectors.sqlite.schema import Table
from paritree.core.profile import Binding, BoundColumn

KEYS_A_QUERY = 100
"""Keys of one statement: SQLite allows expressions 1,000 deep, and each key adds one OR."""
NONE: Condition = ("0", ())
HEAD_END = "\U0010ffff"
"""Follows every text that begins as the head does: no digit, sign or letter of a time is greater."""
_INT64 = 1 << 63
Predicate = Callable[[Any], Condition | None]


def find(database: Database, binding: Binding, table: Table, keys: Sequence[Key]) -> Iterator[pa.RecordBatch]:
    """The rows of those keys, each row once."""
    asked = list(dict.fromkeys(askable(keys)))
    predicates = [predicate(column, table) for column in binding.key_columns]
    narrowed: list[tuple[Key, Condition]] = []
    broad: list[Key] = []
    for key in asked:
        condition = _key_condition(predicates, key)
        if condition is None:
            broad.append(key)
        else:
            narrowed.append((key, condition))
    for start in range(0, len(narrowed), KEYS_A_QUERY):
        chunk = narrowed[start : start + KEYS_A_QUERY]
        wanted = KeyFilter(binding, [key for key, _ in chunk])
        yield from wanted.matching(rows(database, binding, any_of([condition for _, condition in chunk])))
    if broad:
        yield from KeyFilter(binding, broad).matching(rows(database, binding))


def _key_condition(predicates: Sequence[Predicate], key: Key) -> Condition | None:
    conditions = [predicate(part) for predicate, part in zip(predicates, key, strict=True)]
    known = [condition for condition in conditions if condition is not None]
    return all_of(known) if known else None


def all_of(conditions: Sequence[Condition]) -> Condition:
    """What fulfils all of them."""
    return _joined(conditions, " AND ")


def any_of(conditions: Sequence[Condition]) -> Condition:
    """What fulfils one of them."""
    return _joined(conditions, " OR ")


def _joined(conditions: Sequence[Condition], word: str) -> Condition:
    return word.join(f"({text})" for text, _ in conditions), [value for _, values in conditions for value in values]


def predicate(column: BoundColumn, table: Table) -> Predicate:
    """The condition of a key part for one column; None for a part that only the filter can judge."""
    if column.parts:
        joined = " || ? || ".join(f"CAST({column_sql(part)} AS TEXT)" for part in column.parts)
        return lambda part: (f"{joined} = ?", [column.joiner] * (len(column.parts) - 1) + [part])
    if column.expression is not None and column.type.name in ("text", "bytes"):
        return lambda part: _equals(f"({column.expression})", part)
    if column.source is None:
        return _unknown
    left = column_sql(column.source)
    numeric = table.affinity(column.source) in ("INTEGER", "REAL", "NUMERIC")
    make = _BY_TYPE.get(column.type.name)
    if make is None or (column.type.name in _NUMERIC_ONLY and not numeric):
        return _unknown
    return lambda part: make(left, part)


def _unknown(_: Any) -> None:
    """No condition: the filter decides."""


def _equals(left: str, part: Any) -> Condition:
    try:
        str(part).encode()
    except UnicodeEncodeError:
        return NONE  # no text of the file is equal to a lone surrogate
    return f"{left} = ?", [part]


def _int(left: str, part: int) -> Condition:
    """A column of numeric affinity holds every integer of 64 bits as INTEGER, and no larger one as text."""
    return _equals(left, part) if -_INT64 <= part < _INT64 else NONE


def _bool(left: str, part: bool) -> Condition:
    return f"{left} = ? OR typeof({left}) = 'text'", [int(part)]


def _float(left: str, part: float) -> Condition | None:
    return _equals(left, part) if math.isfinite(part) else None


def _decimal(left: str, part: Any) -> Condition | None:
    """INTEGER or REAL: the decimal read from a REAL is its shortest text, so the nearest REAL of the decimal is it."""
    number = Decimal(part)
    if not number.is_finite():
        return None
    candidates: list[Any] = [float(number)]
    if number == number.to_integral_value() and -_INT64 <= number < _INT64:
        candidates.append(int(number))
    return " OR ".join([f"{left} = ?"] * len(candidates)), candidates


def _spelled(name: str) -> Callable[[str, Any], Condition | None]:
    """By the heads of the texts that may mean the value; unusual forms of dates begin with a plus sign."""

    def by_head(left: str, part: Any) -> Condition | None:
        heads = SPELLINGS[name].heads(part)
        if heads is None:
            return None
        ranges = [*((head, head + HEAD_END) for head in heads), ("+", ",")]
        return any_of([(f"{left} >= ? AND {left} < ?", bounds) for bounds in ranges])

    return by_head


_BY_TYPE: dict[str, Callable[[str, Any], Condition | None]] = {
    "int": _int,
    "bool": _bool,
    "float": _float,
    "decimal": _decimal,
    "text": _equals,
    "bytes": _equals,
    **{name: _spelled(name) for name in ("date", "time", "datetime", "timestamp")},
}
_NUMERIC_ONLY = frozenset({"int", "bool", "float", "decimal"})
"""Types whose conditions hold for columns of numeric affinity only: others may keep numbers as text."""
