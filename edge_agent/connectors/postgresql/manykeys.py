"""Look-ups of many keys at once: the keys as array literals inside of a COPY, the rows as a scan reads them.

COPY takes no parameters, and nothing else hands out rows in masses. A literal of 50,000 keys is half a megabyte, which
the server reads in some milliseconds. Keys of types whose text needs more than a glance take the way of ``lookup``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa
from psycopg import sql

from edge_agent.connectors.postgresql.copy import open_stream
from edge_agent.connectors.postgresql.primitives import Primitives
from edge_agent.connectors.postgresql.projection import Output, Projection
from edge_agent.connectors.postgresql.session import Session
from edge_agent.connectors.postgresql.tuples import TupleReader, Tuples
from edge_agent.connectors.postgresql.types import EngineType
from paritree.core.profile import Binding

STATEMENT_KEYS: Final = 50_000
"""Keys of one statement; fewer where they are long."""
STATEMENT_BYTES: Final = 32 << 20
"""Bytes of keys in one statement, far below the 1 GB that the server takes."""


def possible(session: Session, projection: Projection, binding: Binding) -> bool:
    """Whether the keys of a binding can be written as literals here: source columns and constants of plain types."""
    outputs = [projection.output(column.name) for column in binding.key_columns if column.constant is None]
    return (
        session.client_encoding == "UTF8"
        and any(outputs)
        and all(output is not None and output.column.source is not None and _speller(output.type) for output in outputs)
    )


def lookup_tuples(
    session: Session, projection: Projection, binding: Binding, keys: pa.RecordBatch, use: Primitives
) -> Iterator[Tuples]:
    """The rows of those keys, read now, located only: distinct keys without NULL, where it is ``possible``."""
    sought = [output for name in binding.key if (output := projection.output(name)) is not None]
    for some in _portions(keys):
        literals = [_literal(some.column(output.name), output.type) for output in sought]
        query = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(_select(projection, sought, literals))
        text = query.as_bytes(session.connection)
        stream = open_stream(session, text, doing=f"reading {some.num_rows} keys of {projection.relation}")
        try:
            yield from TupleReader(stream, len(projection.outputs), use.locate)
        finally:
            stream.close()


def _portions(keys: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for first in range(0, keys.num_rows, STATEMENT_KEYS):
        some = keys.slice(first, STATEMENT_KEYS)
        pieces = min(-(-some.nbytes // STATEMENT_BYTES), some.num_rows)
        step = -(-some.num_rows // max(pieces, 1))
        for start in range(0, some.num_rows, step):
            yield some.slice(start, step)


def _select(projection: Projection, sought: list[Output], literals: Sequence[sql.Composable]) -> sql.Composed:
    source = projection.relation.identifier
    equals = [sql.SQL(" OPERATOR({}.=) ").format(sql.Identifier(output.type.schema)) for output in sought]
    if len(sought) == 1:
        return projection.select(source, sought[0].expression + equals[0] + sql.SQL("ANY ({})").format(literals[0]))
    names = [sql.Identifier(f"paritree.{place}") for place in range(len(sought))]
    parts = [
        output.expression + equal + sql.SQL("{}.{}").format(sql.Identifier("paritree.key"), name)
        for output, equal, name in zip(sought, equals, names, strict=True)
    ]
    condition = sql.SQL("EXISTS (SELECT FROM ROWS FROM ({}) AS {} ({}) WHERE {})").format(
        sql.SQL(", ").join(sql.SQL("pg_catalog.unnest({})").format(literal) for literal in literals),
        sql.Identifier("paritree.key"),
        sql.SQL(", ").join(names),
        sql.SQL(" AND ").join(parts),
    )
    return projection.select(source, condition)


def _literal(array: pa.Array, kind: EngineType) -> sql.Composed:
    """An array of the type, of values that are not NULL."""
    spell = _speller(kind)
    assert spell is not None
    return sql.SQL("{}::{}[]").format(sql.Literal("{" + spell(array) + "}"), sql.Identifier(kind.schema, kind.typname))


def _plainly(array: pa.Array) -> str:
    return ",".join(map(str, array.to_pylist()))


def _quoted(array: pa.Array) -> str:
    texts = (text.replace("\\", "\\\\").replace('"', '\\"') for text in array.to_pylist())
    return ",".join(f'"{text}"' for text in texts)


def _hexadecimal(array: pa.Array) -> str:
    return ",".join(value.hex() for value in array.to_pylist())


_SPELLERS: Final[Mapping[str, Callable[[pa.Array], str]]] = {
    "int2": _plainly,
    "int4": _plainly,
    "int8": _plainly,
    "numeric": _plainly,
    "text": _quoted,
    "varchar": _quoted,
    "bpchar": _quoted,
    "uuid": _hexadecimal,
}
"""pg_type.typname -> how a column of its carriers is written inside of an array literal."""


def _speller(kind: EngineType) -> Callable[[pa.Array], str] | None:
    return _SPELLERS.get(kind.typname) if kind.schema == "pg_catalog" and not kind.labels else None
