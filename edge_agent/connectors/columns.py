"""From what a source gives (one array an item) to the record batch of a binding: folds, constants, rejects.

A connector asks :func:`items` what to fetch for every row, fetches one carrier array an item, in that order, and hands
them to :func:`assemble`. A source column or expression is one item, a fold one item a part, a constant none.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from edge_agent.connectors.contract import REJECTS, REJECTS_TYPE
from edge_agent.connectors.names import absent
from paritree.core import compute as pc
from paritree.core.errors import ConfigError
from paritree.core.profile import Binding, BoundColumn
from paritree.core.schema import TableSchema
from paritree.core.types import LogicalType

Reject = tuple[int, str, str]
"""Row number in the batch, logical column, reason."""
_TEXT = LogicalType("text")
_OWN_CARRIERS = frozenset({"bool", "float", "bytes", "list", "set", "map", "struct"})
"""Logical types whose constant does not go out as its text."""


@dataclass(frozen=True, slots=True)
class Item:
    """One value to fetch a row: exactly one of ``source`` and ``expression``. A part of a fold is fetched as text."""

    column: str
    type: LogicalType
    source: str | None
    expression: str | None = None
    part: bool = False


def items(columns: Sequence[BoundColumn]) -> list[Item]:
    """What to fetch for these columns, in the order that :func:`assemble` takes."""
    out: list[Item] = []
    for column in columns:
        if column.parts:
            out += [Item(column.name, _TEXT, part, part=True) for part in column.parts]
        elif column.constant is None:
            out.append(Item(column.name, column.type, column.source, column.expression))
    return out


def assemble(
    columns: Sequence[BoundColumn], arrays: Sequence[pa.Array], rows: int, rejects: Sequence[Reject] = ()
) -> pa.RecordBatch:
    """The batch of a binding: columns by logical name, plus :data:`REJECTS` where a row of the batch has any.

    ``arrays`` has one array of ``rows`` values for each of :func:`items`. Raises ConfigError for a constant or fold
    that cannot be made.
    """
    fetched = iter(arrays)
    found = list(rejects)
    made: list[pa.Array] = []
    for column in columns:
        if column.parts:
            folded, bad = fold(column, list(itertools.islice(fetched, len(column.parts))))
            made.append(folded)
            found += bad
        elif column.constant is not None:
            made.append(constant(column, rows))
        else:
            made.append(next(fetched))
    names = [column.name for column in columns]
    if found:
        made.append(_rejects(found, rows))
        names.append(REJECTS)
    return pa.RecordBatch.from_arrays(made, names=names)


def bound(batch: pa.RecordBatch, binding: Binding) -> pa.RecordBatch:
    """A batch of source columns, all of them carriers already, as the binding's batch."""
    return assemble(binding.columns, [batch.column(item.source) for item in items(binding.columns)], batch.num_rows)


def _rejects(found: Sequence[Reject], rows: int) -> pa.Array:
    listed: list[list[dict[str, str]] | None] = [None] * rows
    for row, column, reason in found:
        listed[row] = [*(listed[row] or []), {"column": column, "reason": reason}]
    return pa.array(listed, REJECTS_TYPE)


def constant(column: BoundColumn, rows: int) -> pa.Array:
    """``rows`` times the column's constant, as a carrier of its type. Raises ConfigError where it does not parse."""
    text, name = column.constant or "", column.type.name
    try:
        if name not in _OWN_CARRIERS:
            return pa.repeat(pa.scalar(text, pa.utf8()), rows)
        if name == "bool" and text in ("true", "false"):
            return pa.repeat(pa.scalar(text == "true", pa.bool_()), rows)
        if name == "float":
            return pa.repeat(pa.scalar(float(text), pa.float64()), rows)
        if name == "bytes":
            return pa.repeat(pa.scalar(bytes.fromhex(text.removeprefix("\\x")), pa.binary()), rows)
    except ValueError:
        pass  # said below, with the form that is expected
    forms = {"bool": "true or false", "float": "a number", "bytes": "hex digits"}
    raise ConfigError(
        f"column '{column.name}': the constant '{text}' is not a {column.type}",
        next_step=f"write {forms[name]}" if name in forms else f"a {name} has no constant form: use an expression",
    )


def fold(column: BoundColumn, parts: Sequence[pa.Array]) -> tuple[pa.Array, list[Reject]]:
    """The parts of each row as one text with the column's joiner between; null where any part is null.

    Raises ConfigError for a part whose text is not the same in every engine (floats, times, collections).
    """
    texts: list[pa.Array] = []
    rejects: list[Reject] = []
    for source, array in zip(column.parts, parts, strict=True):
        text, bad = _part_text(column.name, source, array)
        texts.append(text)
        rejects += bad
    return pc.binary_join_element_wise(*texts, column.joiner), rejects


def _part_text(name: str, source: str, array: pa.Array) -> tuple[pa.Array, list[Reject]]:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_string(kind):
        return array, []
    if (
        pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
    ):
        return array.cast(pa.utf8()), []
    if pa.types.is_date32(kind) or (pa.types.is_decimal(kind) and kind.scale == 0) or pa.types.is_null(kind):
        return array.cast(pa.utf8()), []
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16:
        return pa.array([None if v is None else str(uuid.UUID(bytes=v)) for v in array.to_pylist()], pa.utf8()), []
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _decoded(name, source, array)
    raise ConfigError(
        f"column '{name}': a {kind} has no one text form to fold",
        next_step=f"fold text, int, uuid, bool or date columns, or write an expression for '{source}'",
    )


def _decoded(name: str, source: str, array: pa.Array) -> tuple[pa.Array, list[Reject]]:
    texts: list[str | None] = []
    rejects: list[Reject] = []
    for row, value in enumerate(array.to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            rejects.append((row, name, f"part '{source}' is not UTF-8"))
    return pa.array(texts, pa.utf8()), rejects


def unfold(text: str, joiner: str, count: int) -> Iterator[tuple[str, ...]]:
    """Every way in which ``count`` parts could have been folded into ``text``; one way where no part has the joiner.

    For look-ups by a folded key where the engine cannot compare the fold itself; the caller drops what it did not ask.
    """
    if count == 1:
        yield (text,)
        return
    at = text.find(joiner)
    while at >= 0:
        for rest in unfold(text[at + len(joiner) :], joiner, count - 1):
            yield (text[:at], *rest)
        at = text.find(joiner, at + 1)


def check(binding: Binding, schema: TableSchema, *, expressions: bool = True) -> None:
    """Raise ConfigError where the binding names a column that is absent or refused, or cannot be made at all.

    An untyped source column is never refused here: the profile's type says what its values are.
    """
    known = {column.name: column for column in schema.columns}
    for column in binding.columns:
        given = (column.source, column.expression, column.constant, column.parts or None)
        if sum(value is not None for value in given) != 1:
            raise ConfigError(
                f"column '{column.name}' of {binding.table}: exactly one of source, expression, constant and parts"
            )
        if column.expression is not None and not expressions:
            raise ConfigError(
                f"column '{column.name}' of {binding.table}: this engine has no expressions",
                next_step="bind a source column, or compute the value in the source",
            )
        if column.parts and column.type.name != "text":
            raise ConfigError(f"column '{column.name}' of {binding.table}: a fold is text, not {column.type}")
        if column.constant is not None:
            constant(column, 1)
        for source in column.parts or ((column.source,) if column.source is not None else ()):
            if source not in known:
                raise absent("column", source, known, binding.table)
            if known[source].logical is None and known[source].typed:
                raise ConfigError(
                    f"column '{source}' of {binding.table} ({known[source].engine_type}): {known[source].refusal}",
                    next_step="ignore the column or bind an expression",
                )
