"""The present rows of given keys, by the key's index, in the same carriers as a scan gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import pq, sql
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper

from edge_agent.connectors.contract import BATCH_ROWS
from edge_agent.connectors.postgresql.decode import decode_batches
from edge_agent.connectors.postgresql.encode import array, encodable, encode, from_text
from edge_agent.connectors.postgresql.errors import translated
from edge_agent.connectors.postgresql.primitives import PLAIN
from edge_agent.connectors.postgresql.projection import Projection, column_of
from edge_agent.connectors.postgresql.session import Session
from edge_agent.connectors.postgresql.tuples import Tuples
from edge_agent.connectors.postgresql.types import EngineType
from paritree.core.canonical import encode as canonical
from paritree.core.errors import ConfigError, DeadLetter, SourceError
from paritree.core.profile import Binding, BoundColumn
from paritree.core.textual import parse_text

KEYS_MAX: Final = 1_000
"""Keys in one statement."""
BATCH_BYTES: Final = 64 << 20
"""Bytes of a batch of rows after which the next begins; a row itself is at most 1 GiB."""
SPLITS_MAX: Final = 16
"""Readings of one folded key that are sought by index; a key with more is sought by the fold's expression."""


@dataclass(frozen=True, slots=True)
class Sought:
    """One SQL expression of a key, compared by its type's own equality."""

    expression: sql.Composable
    type: EngineType

    @property
    def equals(self) -> sql.Composable:
        return sql.SQL(" OPERATOR({}.=) ").format(sql.Identifier(self.type.schema))


def demand_encodable(projection: Projection, binding: Binding) -> None:
    """Raise ConfigError for a key column in which keys of the profile's type cannot be sought."""
    for column in binding.key_columns:
        output = projection.output(column.name)
        if output is not None and not encodable(output.type, column.type):
            raise ConfigError(
                f"column {column.name}: keys of type {column.type} cannot be sought in {output.type.name}",
                next_step="convert the column with an expression in the binding, or choose another key",
            )


def lookup(
    session: Session, projection: Projection, binding: Binding, keys: Sequence[tuple[Any, ...]]
) -> Iterator[pa.RecordBatch]:
    """The rows of those keys, read now. May give rows that were not asked for (equal by collation, not by bytes)."""
    demand_encodable(projection, binding)
    for start in range(0, len(keys), KEYS_MAX):
        yield from _lookup(session, projection, binding, keys[start : start + KEYS_MAX])


def _lookup(
    session: Session, projection: Projection, binding: Binding, keys: Sequence[tuple[Any, ...]]
) -> Iterator[pa.RecordBatch]:
    query, values = statement(projection, binding, keys)
    if values is None:
        return
    try:
        result = execute(session, query, values)
    except SourceError as error:
        if not isinstance(error.__cause__, psycopg.errors.UntranslatableCharacter):
            raise
        # A character that the database's encoding lacks is in no row; the other keys are sought without it.
        session.execute("ROLLBACK")
        if len(keys) > 1:
            middle = len(keys) // 2
            yield from _lookup(session, projection, binding, keys[:middle])
            yield from _lookup(session, projection, binding, keys[middle:])
        return
    for tuples in tuples_of(result):
        yield from decode_batches(projection, tuples, PLAIN)


def statement(
    projection: Projection, binding: Binding, keys: Sequence[tuple[Any, ...]]
) -> tuple[sql.Composed, list[BinaryValue] | None]:
    """The SELECT with its parameters ($1, $2, ...); None instead of parameters where no row can have such a key."""
    sought, wanted = _sought(projection, binding, keys)
    if not wanted:
        return sql.Composed([]), None
    source = projection.relation.identifier
    if not sought:  # every key column is a constant
        return projection.select(source), []
    items: sql.Composable
    if all(part.type.array_oid for part in sought):
        values = [
            BinaryValue(part.type.array_oid, array(part.type.oid, [key[place] for key in wanted]))
            for place, part in enumerate(sought)
        ]
        if len(sought) == 1:
            return projection.select(source, sought[0].expression + sought[0].equals + sql.SQL("ANY ($1)")), values
        items = sql.SQL("unnest({})").format(_numbered(0, len(sought)))
    else:  # there are no arrays of arrays: a parameter for each part of each key
        values = [BinaryValue(part.type.oid, item) for key in wanted for part, item in zip(sought, key, strict=True)]
        starts = range(0, len(values), len(sought))
        lines = [sql.SQL("({})").format(_numbered(start, len(sought))) for start in starts]
        items = sql.SQL("(VALUES {})").format(sql.SQL(", ").join(lines))
    # Odd names, which no expression of the operator means by mistake; EXISTS, because several keys may equal a row.
    names = [sql.Identifier(f"paritree.{place}") for place in range(len(sought))]
    columns = [sql.SQL("{}.{}").format(sql.Identifier("paritree.key"), name) for name in names]
    equal = [part.expression + part.equals + column for part, column in zip(sought, columns, strict=True)]
    condition = sql.SQL("EXISTS (SELECT FROM {} AS {} ({}) WHERE {})").format(
        items, sql.Identifier("paritree.key"), sql.SQL(", ").join(names), sql.SQL(" AND ").join(equal)
    )
    return projection.select(source, condition), values


def _numbered(first: int, count: int) -> sql.SQL:
    return sql.SQL(", ".join(f"${first + place + 1}" for place in range(count)))


def _sought(
    projection: Projection, binding: Binding, keys: Sequence[tuple[Any, ...]]
) -> tuple[list[Sought], list[tuple[bytes, ...]]]:
    """What to compare, and the distinct encoded keys. Keys with a NULL or a value that no row can hold are left out."""
    columns = binding.key_columns
    sought: list[Sought] = []
    options: list[list[list[tuple[bytes, ...]]]] = []  # by column, by key: the encoded forms that it may have
    for place, column in enumerate(columns):
        values = [key[place] for key in keys]
        if column.constant is not None:
            options.append([[()] if _is_constant(column, value) else [] for value in values])
            continue
        parts, forms = _folded(projection, column, values) if column.parts else ([], [])
        if not parts:
            output = projection.output(column.name)
            assert output is not None
            parts = [Sought(output.expression, output.type)]
            forms = [_one(output.type, value) for value in values]
        sought += parts
        options.append(forms)
    wanted = dict.fromkeys(
        tuple(itertools.chain.from_iterable(choice))
        for forms in zip(*options, strict=True)
        for choice in itertools.product(*forms)
    )
    return sought, list(wanted)


def _one(kind: EngineType, value: Any) -> list[tuple[bytes, ...]]:
    encoded = None if value is None else encode(kind, value)
    return [] if encoded is None else [(encoded,)]


def _is_constant(column: BoundColumn, value: Any) -> bool:
    kind = column.type.bare
    try:
        return canonical(parse_text(column.constant or "", kind), kind) == canonical(value, kind)
    except DeadLetter:
        return False


def _folded(
    projection: Projection, column: BoundColumn, values: Sequence[Any]
) -> tuple[list[Sought], list[list[tuple[bytes, ...]]]]:
    """A fold's parts and, by key, the readings of its text as those parts; nothing where some key has too many."""
    kinds = [projection.sources[part].type for part in column.parts]
    readings = [_splits(value, column.joiner, len(kinds)) if isinstance(value, str) else [] for value in values]
    if any(len(splits) > SPLITS_MAX for splits in readings):
        return [], []
    parts = [Sought(column_of(projection.relation, part), kind) for part, kind in zip(column.parts, kinds, strict=True)]
    forms: list[list[tuple[bytes, ...]]] = []
    for splits in readings:
        encoded = [[from_text(kind, text) for kind, text in zip(kinds, split, strict=True)] for split in splits]
        forms.append([tuple(part for part in split if part is not None) for split in encoded if None not in split])
    return parts, forms


def _splits(text: str, joiner: str, parts: int) -> list[tuple[str, ...]]:
    """Every way to read a text as that many parts; one more than SPLITS_MAX when there are too many."""
    if parts == 1:
        return [(text,)]
    found: list[tuple[str, ...]] = []
    place = text.find(joiner)
    while place >= 0 and len(found) <= SPLITS_MAX:
        found += [(text[:place], *rest) for rest in _splits(text[place + len(joiner) :], joiner, parts - 1)]
        place = text.find(joiner, place + 1) if place < len(text) else -1
    return found


@dataclass(frozen=True, slots=True)
class BinaryValue:
    """A parameter that is already in PostgreSQL's binary form."""

    oid: int
    data: bytes


class _BinaryValueDumper(Dumper):
    format = pq.Format.BINARY

    def __init__(self, cls: type, context: AdaptContext | None = None, oid: int = 0) -> None:
        super().__init__(cls, context)
        self.oid = oid

    def get_key(self, obj: BinaryValue, format: Any) -> Any:  # noqa: ARG002
        return (self.cls, obj.oid)

    def upgrade(self, obj: BinaryValue, format: Any) -> Dumper:  # noqa: ARG002
        return _BinaryValueDumper(self.cls, None, obj.oid)

    def dump(self, obj: BinaryValue) -> bytes:
        return obj.data


def execute(session: Session, query: sql.Composed, values: list[BinaryValue]) -> pq.abc.PGresult:
    """Run a query with binary parameters ($1, $2, ...), for a binary result."""
    connection = session.connection
    text = query.as_bytes(connection)
    encoding = session.client_encoding
    with translated("looking up keys"):
        cursor = psycopg.RawCursor(connection)
        cursor.adapters.register_dumper(BinaryValue, _BinaryValueDumper)
        if encoding == "UTF8":
            cursor.execute(text, values, binary=True)
        else:
            connection.execute("BEGIN READ ONLY")
            connection.execute(sql.SQL("SET LOCAL client_encoding = {}").format(sql.Literal(encoding)))
            cursor.execute(text, values, binary=True)
            connection.execute("COMMIT")
        result = cursor.pgresult
    assert result is not None
    return result


def tuples_of(result: pq.abc.PGresult) -> Iterator[Tuples]:
    """Rows of a result as located tuples, so that one decoder serves scans and look-ups."""
    row = 0
    while row < result.ntuples:
        data = bytearray()
        at: list[list[int]] = [[] for _ in range(result.nfields)]
        size: list[list[int]] = [[] for _ in range(result.nfields)]
        first = row
        while row < min(first + BATCH_ROWS, result.ntuples) and len(data) < BATCH_BYTES:
            for column in range(result.nfields):
                value = result.get_value(row, column)
                at[column].append(len(data))
                size[column].append(-1 if value is None else len(value))
                data += value or b""
            row += 1
        shape = (result.nfields, row - first)
        yield Tuples(
            np.frombuffer(data, np.uint8),
            np.array(at, np.int32).reshape(shape),
            np.array(size, np.int32).reshape(shape),
        )
