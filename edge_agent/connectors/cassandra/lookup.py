"""Rows by their keys: many small prepared reads at once, each for one form of one key."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa

from edge_agent.connectors.cassandra import writetime
from edge_agent.connectors.cassandra.decode import Rows
from edge_agent.connectors.cassandra.identifiers import quote
from edge_agent.connectors.cassandra.keys import FORMS_MAX, forms
from edge_agent.connectors.cassandra.pages import Page, Request, Statement
from edge_agent.connectors.cassandra.scan import decoder
from edge_agent.connectors.cassandra.select import Select
from edge_agent.connectors.cassandra.session import Session
from edge_agent.connectors.columns import unfold
from edge_agent.connectors.contract import VERSION
from paritree.core.errors import DeadLetter, SourceError
from paritree.core.textual import parse_text

CONCURRENCY: Final = 64
"""Reads in flight: a few connections' worth of streams, far below what one node queues."""
BATCH_ROWS: Final = 4_096
BATCH_BYTES: Final = 4 << 20


def lookup(
    session: Session, select: Select, keys: Sequence[tuple[Any, ...]], *, versions: bool = False
) -> Iterator[pa.RecordBatch]:
    """The rows that any form of the keys finds, with their versions where asked for and known.

    Raises SourceError for a key of too many forms.
    """
    if not keys:
        return
    plain, select = select, (writetime.dated(select) if versions else None) or select
    restricted = restricted_columns(select)
    where = " AND ".join(f"{quote(name)} = ?" for name in restricted)
    statement = select.prepare(session, where, len(restricted))
    doing = f"looking up rows of {select.table.label}"
    values = dict.fromkeys(itertools.chain.from_iterable(asked(select, restricted, key) for key in keys))
    requests = (Request(statement, each, doing) for each in values)
    for pages in _gathered(session.many(requests, CONCURRENCY)):
        yield _batch(select, plain, statement, pages)


def restricted_columns(select: Select) -> tuple[str, ...]:
    """The partition key and the clustering columns in front that the binding's key has: what WHERE can name."""
    table, known = select.table, select.key_sources
    leading = itertools.takewhile(known.__contains__, table.clustering)
    return (*table.partition, *leading)


def asked(select: Select, restricted: Sequence[str], key: tuple[Any, ...]) -> Iterator[tuple[bytes, ...]]:
    """Every tuple of bytes to bind for one key; none for a key with a null part."""
    if any(part is None for part in key):
        return
    count = 0
    for values in _unfolded(select, key):
        parts = [forms(select.table.column(n).kind, values[n], select.table.column(n).role) for n in restricted]
        for each in itertools.product(*parts):
            count += 1
            if count > FORMS_MAX:
                raise SourceError(
                    f"a key of {select.table.label} could be held in more than {FORMS_MAX} forms",
                    next_step="choose a joiner that the folded columns do not contain",
                )
            yield each


def _unfolded(select: Select, key: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    """The values of the source columns, in every way in which the folds of the key can be taken apart."""
    choices: list[list[dict[str, Any]]] = []
    for column, value in zip(select.binding.key_columns, key, strict=True):
        if column.parts:
            texts = unfold(str(value), column.joiner, len(column.parts))
            ways = (_parsed(select, column.parts, each) for each in itertools.islice(texts, FORMS_MAX + 1))
            choices.append([way for way in ways if way is not None])
        elif column.source is not None:
            choices.append([{column.source: value}])
    for each in itertools.product(*choices):
        yield {name: value for part in each for name, value in part.items()}


def _parsed(select: Select, names: Sequence[str], texts: Sequence[str]) -> dict[str, Any] | None:
    """The parts' texts as plain values, None where one is no text of its column's type."""
    out: dict[str, Any] = {}
    for name, text in zip(names, texts, strict=True):
        kind = select.table.column(name).kind.logical
        if kind is None:
            return None
        try:
            out[name] = parse_text(text, kind)
        except DeadLetter:
            return None
        if kind.name == "int":
            if not text.removeprefix("-").isdecimal() or not text.isascii():
                return None
            out[name] = text
    return out


def _gathered(pages: Iterator[Page]) -> Iterator[list[Page]]:
    """Pages that have rows, in groups worth decoding together."""
    group: list[Page] = []
    rows = size = 0
    for page in pages:
        if page.rows.count == 0:
            continue
        group.append(page)
        rows += page.rows.count
        size += len(page.rows.data)
        if rows >= BATCH_ROWS or size >= BATCH_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def _batch(select: Select, plain: Select, statement: Statement, pages: Sequence[Page]) -> pa.RecordBatch:
    data = b"".join(memoryview(page.rows.data)[page.rows.offset :] for page in pages)
    rows = Rows(data, sum(page.rows.count for page in pages))
    found = decoder(0)(rows, statement.kinds)
    batch = select.batch(rows, statement.kinds, lambda *_: found)
    return batch if select is plain else batch.append_column(VERSION, writetime.versions(select, plain, found))
