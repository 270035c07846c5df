"""Check a file of golden vectors against this implementation; the form is that of ``canonical-v1.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from paritree.core.canonical import RowEncoder, encode, shifted_encoder
from paritree.core.digest import DatasetKeys, column_digest, token
from paritree.core.errors import ConfigError, DeadLetter
from paritree.core.profile import CANONICAL_VERSION, WHOLE_ROW, Profile
from paritree.core.textual import parse_text
from paritree.core.types import LogicalType, parse_type

SECTIONS = frozenset(
    {"version", "master_key", "dataset", "dataset_key", "key_id", "note", "values", "rows", "whole_rows", "profiles"}
)
DEAD_LETTER = "dead letter"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One checked item; ``expected`` and ``got`` are equal where it passed."""

    where: str
    expected: str
    got: str

    @property
    def passed(self) -> bool:
        return self.expected == self.got


def check(document: object) -> Iterator[Outcome]:
    """Check every value, dead letter, row, digest, token and profile id.

    Raises ConfigError for a file of another form, naming the place. :func:`not_checked` names what is left out.
    """
    where = "the vectors"
    try:
        top = _mapping(document, where)
        if top.get("version") != CANONICAL_VERSION:
            raise ConfigError(f"the vectors are for canonical version {top.get('version')}, not {CANONICAL_VERSION}")
        where = "dataset_key"
        keys = DatasetKeys.of(bytes.fromhex(top["master_key"]), top["dataset"])
        yield Outcome("dataset_key", top["dataset_key"], keys.dataset_key.hex())
        yield Outcome("key_id", top["key_id"], keys.key_id.hex())
        for index, item in enumerate(top["values"]):
            where = f"values[{index}]"
            yield _check_value(where, item)
            if "shifted" in item:
                yield _check_shifted(f"{where}.shifted", item)
        for section in ("rows", *(("whole_rows",) if "whole_rows" in top else ())):
            where = section
            schema = _Schema.of(section, top[section], top["dataset"])
            for index, case in enumerate(top[section]["cases"]):
                where = f"{section}.cases[{index}]"
                yield from _check_row(where, case, schema, keys)
        for index, item in enumerate(top.get("profiles", [])):
            where = f"profiles[{index}]"
            yield _check_profile(where, item)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{where} is malformed: {type(error).__name__}: {error}") from None


def not_checked(document: Mapping[str, Any]) -> list[str]:
    """The sections of a file that this version knows nothing of, so that nobody takes them as checked."""
    return sorted(set(document) - SECTIONS)


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what}: an object is needed, not {type(value).__name__}")
    return value


def _check_value(where: str, item: Mapping[str, Any]) -> Outcome:
    kind = parse_type(item["type"], f"{where}.type")
    if ("canonical" in item) == (item.get("dead_letter", False) is True):
        raise ConfigError(f"{where}: exactly one of canonical and dead_letter = true is needed")
    expected = item.get("canonical", DEAD_LETTER)
    try:
        got = encode(from_json(item["value"], kind), kind).hex()
    except DeadLetter as error:
        got = DEAD_LETTER if expected == DEAD_LETTER else f"{DEAD_LETTER} ({error.message})"
    return Outcome(f"{where} {kind} {_shown(item['value'])}", expected, got)


def _check_shifted(where: str, item: Mapping[str, Any]) -> Outcome:
    kind = parse_type(item["type"], f"{where}.type")
    if kind.tolerance is None:
        raise ConfigError(f"{where}: a {kind} without a tolerance has no shifted grid")
    try:
        got = shifted_encoder(kind)(from_json(item["value"], kind)).hex()
    except DeadLetter as error:
        got = f"{DEAD_LETTER} ({error.message})"
    return Outcome(where, item["shifted"], got)


@dataclass(frozen=True, slots=True)
class _Schema:
    columns: Mapping[str, LogicalType]
    encoder: RowEncoder

    @classmethod
    def of(cls, section: str, rows: Mapping[str, Any], dataset: str) -> _Schema:
        columns = {name: parse_type(kind, f"{section}.schema.{name}") for name, kind in rows["schema"].items()}
        return cls(columns, RowEncoder(_profile(dataset, columns, rows)))

    def check(self, where: str, case: Mapping[str, Any]) -> None:
        if missing := sorted(set(self.columns) - set(case["values"])):
            raise ConfigError(f"{where}.values: column '{missing[0]}' is missing; write null where it is null")
        for part in ("values", "column_digests"):
            if unknown := sorted(set(case[part]) - set(self.columns)):
                raise ConfigError(f"{where}.{part}: the schema has no column '{unknown[0]}'")


def _check_row(where: str, case: Mapping[str, Any], schema: _Schema, keys: DatasetKeys) -> Iterator[Outcome]:
    schema.check(where, case)
    try:
        packed = {
            name: schema.encoder.value_bytes(name, from_json(case["values"][name], kind))
            for name, kind in schema.columns.items()
        }
        key_bytes = schema.encoder.key_bytes(packed)
    except DeadLetter as error:
        yield Outcome(f"{where}.values", "a row", f"{DEAD_LETTER} ({error.message})")
        return
    row_bytes, key_digest = schema.encoder.row_bytes(packed), keys.key_digest(key_bytes)
    yield Outcome(f"{where}.key_bytes", case["key_bytes"], key_bytes.hex())
    yield Outcome(f"{where}.row_bytes", case["row_bytes"], row_bytes.hex())
    yield Outcome(f"{where}.key_digest", case["key_digest"], key_digest.hex())
    yield Outcome(f"{where}.row_digest", case["row_digest"], keys.row_digest(row_bytes).hex())
    yield Outcome(f"{where}.token", case["token"], token(key_digest))
    for name, expected in case["column_digests"].items():
        got = column_digest(keys.column(name), key_bytes, packed[name]).hex()
        yield Outcome(f"{where}.column_digests.{name}", expected, got)


def _check_profile(where: str, item: Mapping[str, Any]) -> Outcome:
    columns = {name: parse_type(kind, f"{where}.columns.{name}") for name, kind in item["columns"].items()}
    profile = _profile(item["dataset"], columns, item)
    return Outcome(f"{where}.profile_id", item["profile_id"], profile.profile_id.hex())


def _profile(dataset: str, columns: Mapping[str, LogicalType], declared: Mapping[str, Any]) -> Profile:
    empty = declared.get("empty_collection", "keep")
    if declared["key"] == WHOLE_ROW:
        return Profile.keyless(dataset, columns, empty)
    return Profile(dataset, tuple(declared["key"]), columns, empty)


def _shown(value: object) -> str:
    try:
        return f"{value!r:.60}"
    except ValueError:  # an int with more digits than Python writes
        return f"a {type(value).__name__}"


def from_json(value: Any, kind: LogicalType) -> Any:
    """The plain value of a vector's JSON value (see the note in the vectors). Raises DeadLetter, TypeError, ValueError.

    Numbers may have been read as Decimal, which keeps what was written.
    """
    if value is None:
        return None
    match kind.name:
        case "list" | "set":
            return [from_json(item, kind.of[0]) for item in _array(value)]
        case "map":
            pairs = [_array(pair) for pair in _array(value)]
            return [(from_json(k, kind.of[0]), from_json(v, kind.of[1])) for k, v in pairs]
        case "struct":
            fields = dict(kind.fields)
            return {k: from_json(v, fields[k]) if k in fields else v for k, v in value.items()}
        case "date" | "uuid" | "bytes" | "float" if isinstance(value, str):
            return parse_text(value, kind)
        case "float" if isinstance(value, Decimal):
            return float(value)
        case "decimal" if isinstance(value, float):
            return repr(value)
        case "duration":
            return tuple(_array(value))
        case _:
            return value


def _array(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"an array is needed, not {type(value).__name__}")
    return value
