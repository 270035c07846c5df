"""Check a file of golden vectors against this implementation; the form is that of ``canonical-v1.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paritree.core.canonical import RowEncoder, encode
from paritree.core.digest import DatasetKeys, column_digest, token
from paritree.core.errors import ConfigError, DeadLetter
from paritree.core.profile import CANONICAL_VERSION, Profile
from paritree.core.textual import parse_text
from paritree.core.types import LogicalType, parse_type


@dataclass(frozen=True, slots=True)
class Outcome:
    """One checked item; ``expected`` and ``got`` are equal where it passed."""

    where: str
    expected: str
    got: str

    @property
    def passed(self) -> bool:
        return self.expected == self.got


def check(document: Mapping[str, Any]) -> Iterator[Outcome]:
    """Check every value, dead letter, row, digest and token. Raises ConfigError for a file of another form."""
    if document.get("version") != CANONICAL_VERSION:
        raise ConfigError(f"the vectors are for canonical version {document.get('version')}, not {CANONICAL_VERSION}")
    try:
        keys = DatasetKeys.of(bytes.fromhex(document["master_key"]), document["dataset"])
        yield Outcome("dataset_key", document["dataset_key"], keys.dataset_key.hex())
        yield Outcome("key_id", document["key_id"], keys.key_id.hex())
        for index, item in enumerate(document["values"]):
            yield _check_value(index, item)
        yield from _check_rows(document["rows"], document["dataset"], keys)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"the vectors are malformed: {type(error).__name__}: {error}") from None


def _check_value(index: int, item: Mapping[str, Any]) -> Outcome:
    kind = parse_type(item["type"], f"values[{index}].type")
    expected = "dead letter" if item.get("dead_letter") else item["canonical"]
    try:
        got = encode(from_json(item["value"], kind), kind).hex()
    except DeadLetter:
        got = "dead letter"
    return Outcome(f"values[{index}] {kind} {item['value']!r:.60}", expected, got)


def _check_rows(rows: Mapping[str, Any], dataset: str, keys: DatasetKeys) -> Iterator[Outcome]:
    columns = {name: parse_type(kind, f"rows.schema.{name}") for name, kind in rows["schema"].items()}
    encoder = RowEncoder(Profile(dataset, tuple(rows["key"]), columns))
    for index, case in enumerate(rows["cases"]):
        where = f"rows.cases[{index}]"
        packed = {
            name: encoder.value_bytes(name, from_json(case["values"].get(name), columns[name])) for name in columns
        }
        key_bytes, row_bytes = encoder.key_bytes(packed), encoder.row_bytes(packed)
        key_digest = keys.key_digest(key_bytes)
        yield Outcome(f"{where}.key_bytes", case["key_bytes"], key_bytes.hex())
        yield Outcome(f"{where}.row_bytes", case["row_bytes"], row_bytes.hex())
        yield Outcome(f"{where}.key_digest", case["key_digest"], key_digest.hex())
        yield Outcome(f"{where}.row_digest", case["row_digest"], keys.row_digest(row_bytes).hex())
        yield Outcome(f"{where}.token", case["token"], token(key_digest))
        for name, expected in case["column_digests"].items():
            got = column_digest(keys.column(name), key_bytes, packed[name]).hex()
            yield Outcome(f"{where}.column_digests.{name}", expected, got)


def from_json(value: Any, kind: LogicalType) -> Any:
    """The plain value of a vector's JSON value (see the note in the vectors). Raises DeadLetter."""
    if value is None:
        return None
    match kind.name:
        case "list" | "set":
            return [from_json(item, kind.of[0]) for item in value]
        case "map":
            return [(from_json(k, kind.of[0]), from_json(v, kind.of[1])) for k, v in value]
        case "struct":
            fields = dict(kind.fields)
            return {k: from_json(v, fields[k]) if k in fields else v for k, v in value.items()}
        case "date" | "uuid" | "bytes" | "float" if isinstance(value, str):
            return parse_text(value, kind)
        case "duration":
            return tuple(value)
        case _:
            return value
