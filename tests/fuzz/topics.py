"""What a change topic sends: envelopes and keys, read to batches of the dataset's key."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any, Final

from parser import Parser

from edge_agent.topic.envelope import Malformed, Said, read_debezium, read_keys
from edge_agent.topic.keys import KeyField, KeyReader
from paritree.core.carrier import plain_values
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import parse_type

KINDS: Final = {
    "id": "int",
    "at": "timestamp",
    "on": "date",
    "price": "decimal",
    "code": "text",
    "raw": "bytes",
    "u": "uuid",
    "f": "float",
    "b": "bool",
    "t": "time",
}
COLUMNS: Final = tuple(BoundColumn(name, parse_type(kind), source=name) for name, kind in KINDS.items())
BINDING: Final = Binding("orders", "orders", tuple(KINDS), COLUMNS)
READERS: Final = (
    KeyReader.of(BINDING, {"at": KeyField("at", "us"), "price": KeyField("price", "text")}, native=True),
    KeyReader.of(BINDING, {}, native=True),
)
ROW: Final = {
    "id": 1,
    "at": 1_700_000_000_000_000,
    "on": "2026-01-31",
    "price": "1.10",
    "code": "é",
    "raw": "AAEC",
    "u": "f47ac10b-58cc-11e4-8ed6-0800200c9a66",
    "f": 1.5,
    "b": True,
    "t": "12:00:00.5",
}
SCHEMA: Final = {
    "type": "struct",
    "fields": [
        {
            "field": "after",
            "fields": [
                {"field": "at", "name": "io.debezium.time.MicroTimestamp"},
                {"field": "on", "name": "io.debezium.time.Date"},
                {
                    "field": "price",
                    "name": "org.apache.kafka.connect.data.Decimal",
                    "parameters": {"scale": "2"},
                },
            ],
        }
    ],
}


def messages() -> list[bytes]:
    """Behind a byte that says the format."""
    told = {**ROW, "on": 20_000, "price": base64.b64encode(b"\x01\x02").decode()}
    cells = {name: {"value": value, "deletion_ts": None, "set": True} for name, value in ROW.items()}
    debezium: list[Any] = [
        {"op": "u", "before": ROW, "after": ROW, "source": {"table": "orders"}, "ts_ms": 1},
        {"schema": SCHEMA, "payload": {"op": "c", "before": None, "after": told}},
        {"op": "d", "before": ROW, "after": None},
        {"op": "d", "before": None, "after": {"_range_start": None, **cells}},
        {"op": "t"},
        {"op": "m", "message": {"prefix": "paritree", "content": base64.b64encode(b"2026-01-31 12:00:00+00").decode()}},
        {"ts_ms": 5},
        {"source": {}, "ddl": "ALTER", "tableChanges": [{"id": "orders"}]},
        {"paritree_marker": 1.7e9},
    ]
    keys: list[Any] = [ROW, list(ROW.values()), {"paritree_marker": "2026-01-31T12:00:00Z"}, 1, "x"]
    deep = [b"d" + b'{"op":' * 3_000, b"k" + b"[" * 30_000, b"k" + b"9" * 6_000, b"d", b"k1e999999999"]
    return (
        [b"d" + json.dumps(one).encode() for one in debezium] + [b"k" + json.dumps(one).encode() for one in keys] + deep
    )


def parse(data: bytes) -> None:
    """Every key that is read is a value of its column's type, and says the same as a batch."""
    said: Said = read_keys(data[1:]) if data[:1] == b"k" else read_debezium(data[1:], data[-40:])
    assert said.marker is None or 0 < said.marker < 1e11
    refused = [check(said, reader) for reader in READERS]
    assert not (said.rescan and said.rows)
    if None not in refused:
        raise next(one for one in refused if one is not None)


def check(said: Said, reader: KeyReader) -> Malformed | None:
    try:
        keys = reader.keys(said)
    except Malformed as refused:
        return refused
    assert len(keys) == len(said.rows)
    batch = reader.batch(keys)
    assert batch.num_rows == len(keys)
    for column in COLUMNS:
        assert all(value is not None for value in plain_values(batch.column(column.name), column.type))
    return None


def warm() -> None:
    for example in messages():
        with contextlib.suppress(Malformed):
            parse(example)


TOKENS: Final = (
    *(
        b'"op"',
        b'"before"',
        b'"after"',
        b'"d"',
        b'"u"',
        b'"t"',
        b'"m"',
        b"null",
        b"true",
        b"NaN",
        b"1e999",
        b"-0",
        b"{}",
    ),
    *(b"[]", b'"schema"', b'"payload"', b'"paritree_marker"', b'"ts_ms"', b'"ddl"', b'"\\ud800"', b'"value"', b'"set"'),
    *(b'"scale"', b'"-1"', b'"id"', b'"9999999"', b"\xff", b'"infinity"', b'"fields"', b'"name"'),
)
PARSERS: Final = (Parser("topic", messages, parse, (Malformed,), prepare=warm, tokens=TOKENS),)
