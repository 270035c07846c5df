"""The golden vectors through the compiled digester: key bytes, key digests and row digests."""

from __future__ import annotations

import json
import secrets
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from paritree.core.conformance import from_json
from paritree.core.digest import DatasetKeys
from paritree.core.fast.digester import CompiledDigester
from paritree.core.profile import Profile
from paritree.core.types import LogicalType, parse_type

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/canonical-v1.json").read_text("utf-8"))
KEYS = DatasetKeys.of(bytes.fromhex(VECTORS["master_key"]), VECTORS["dataset"])
SIMPLE = {"bool": pa.bool_(), "float": pa.float64(), "bytes": pa.binary(), "date": pa.int64(), "uuid": pa.binary(16)}
SIMPLE |= {"duration": pa.binary(16), "time": pa.int64(), "timestamp": pa.int64(), "datetime": pa.int64()}


def carrier(kind: LogicalType) -> pa.DataType:
    if kind.name in ("list", "set"):
        return pa.list_(carrier(kind.of[0]))
    if kind.name == "map":
        return pa.map_(carrier(kind.of[0]), carrier(kind.of[1]))
    if kind.name == "struct":
        return pa.struct([(name, carrier(field)) for name, field in kind.fields])
    return SIMPLE.get(kind.name, pa.utf8())


def carried(value: Any, kind: LogicalType) -> Any:
    """A plain value as pyarrow takes it for :func:`carrier`."""
    if value is None:
        return None
    match kind.name:
        case "list" | "set":
            return [carried(item, kind.of[0]) for item in value]
        case "map":
            return [(carried(key, kind.of[0]), carried(item, kind.of[1])) for key, item in value]
        case "struct":
            return {name: carried(value.get(name), field) for name, field in kind.fields}
        case "duration":
            return struct.pack(">iiq", *value)
        case "int" | "decimal":
            return str(value)
        case _:
            return value


def column(value: Any, kind: LogicalType) -> pa.Array:
    return pa.array([carried(from_json(value, kind), kind)], carrier(kind))


@pytest.mark.parametrize(
    "item", VECTORS["values"], ids=lambda item: f"{parse_type(item['type'])} {item['value']!r:.30}"
)
def test_value(item: dict[str, Any]) -> None:
    kind = parse_type(item["type"])
    profile = Profile("orders", ("id",), {"id": parse_type("int"), "value": kind})
    batch = pa.RecordBatch.from_pydict({"id": pa.array([1]), "value": column(item["value"], kind)})
    digested = CompiledDigester(profile, KEYS, secrets.token_bytes).digest(batch)
    assert len(digested.dead) == bool(item.get("dead_letter"))
    if not item.get("dead_letter"):
        row_bytes = b"\x92\x01" + bytes.fromhex(item["canonical"])
        assert digested.row_digests[0].tobytes() == KEYS.row_digest(row_bytes)


@pytest.mark.parametrize("case", VECTORS["rows"]["cases"], ids=lambda case: case["token"])
def test_row(case: dict[str, Any]) -> None:
    columns = {name: parse_type(kind) for name, kind in VECTORS["rows"]["schema"].items()}
    profile = Profile(VECTORS["dataset"], tuple(VECTORS["rows"]["key"]), columns)
    arrays = {name: column(case["values"].get(name), kind) for name, kind in columns.items()}
    digested = CompiledDigester(profile, KEYS, secrets.token_bytes).digest(pa.RecordBatch.from_pydict(arrays))
    assert digested.key_digests[0].tobytes().hex() == case["key_digest"]
    assert digested.row_digests[0].tobytes().hex() == case["row_digest"]
    assert digested.locators[0].as_py().hex() == case["key_bytes"]
