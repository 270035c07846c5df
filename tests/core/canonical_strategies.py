"""Hypothesis strategies for logical types and their plain values, and what a value means, told without the encoder."""

from __future__ import annotations

import ipaddress
import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from paritree.core.types import LogicalType

INT64_MAX = (1 << 63) - 1
SIMPLE = ("bool", "int", "decimal", "float", "text", "bytes", "date", "time", "timestamp", "datetime", "uuid")
PRIMITIVES = (*SIMPLE, "duration", "inet", "json")

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
INTS = st.one_of(st.integers(), st.integers(-70_000, 70_000), st.integers(0, 66).map(lambda n: 1 << n))
DECIMALS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=3),
    st.builds(lambda digits, exponent: Decimal(f"{digits}E{exponent}"), st.integers(), st.integers(-60, 60)),
    st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal("-0.00")]),
)
MOMENTS = st.one_of(
    st.integers(-INT64_MAX, INT64_MAX - 1), st.integers(-3_000_000, 3_000_000), st.sampled_from([INT64_MAX, ~INT64_MAX])
)
INETS = st.one_of(
    st.ip_addresses().map(str),
    st.builds(lambda a, p: f"{a}/{p}", st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds(lambda a, p: f"{a}/{p}", st.ip_addresses(v=6), st.integers(0, 128)),
    st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv6Address(0xFFFF_0000_0000 + n))),
)
DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-3, 3), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=8,
)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int": INTS,
    "decimal": DECIMALS,
    "float": st.floats(),
    "text": TEXT,
    "bytes": st.binary(max_size=40),
    "date": MOMENTS,
    "time": st.integers(0, 86_400_000_000),
    "timestamp": MOMENTS,
    "datetime": MOMENTS,
    "uuid": st.binary(min_size=16, max_size=16),
    "duration": st.tuples(
        st.integers(-(1 << 31), (1 << 31) - 1),
        st.integers(-(1 << 31), (1 << 31) - 1),
        st.integers(-(1 << 63), (1 << 63) - 1),
    ),
    "inet": INETS,
    "json": DOCUMENTS.map(json.dumps),
}


def bare_kinds() -> st.SearchStrategy[LogicalType]:
    """Any logical type without rules, nested to a few levels."""
    return st.recursive(
        st.sampled_from(PRIMITIVES).map(LogicalType),
        lambda inner: st.one_of(
            st.tuples(st.sampled_from(["list", "set"]), inner).map(lambda p: LogicalType(p[0], of=(p[1],))),
            st.tuples(inner, inner).map(lambda p: LogicalType("map", of=p)),
            st.dictionaries(TEXT.filter(bool), inner, min_size=1, max_size=3).map(struct_kind),
        ),
        max_leaves=4,
    )


def struct_kind(fields: dict[str, LogicalType]) -> LogicalType:
    """A struct type with its fields in the order that types.py promises."""
    return LogicalType("struct", fields=tuple(sorted(fields.items(), key=lambda item: item[0].encode())))


def values(kind: LogicalType, nullable: bool = False) -> st.SearchStrategy[Any]:
    """Plain values that fit the type; elements, map values and fields may be null."""
    strategy = _some(kind)
    return st.one_of(st.none(), strategy) if nullable else strategy


def _some(kind: LogicalType) -> st.SearchStrategy[Any]:
    match kind.name:
        case "list" | "set":
            return st.lists(values(kind.of[0], nullable=True), max_size=4)
        case "map":
            keys = values(kind.of[0]).filter(lambda key: meaning(key, kind.of[0]) is not None)
            pairs = st.tuples(keys, values(kind.of[1], nullable=True))
            return st.lists(pairs, max_size=4, unique_by=lambda pair: meaning(pair[0], kind.of[0]))
        case "struct":
            return st.fixed_dictionaries(
                {}, optional={name: values(field, nullable=True) for name, field in kind.fields}
            )
        case _:
            return _VALUES[kind.name]


def meaning(value: Any, kind: LogicalType) -> Any:
    """What two values of a bare type must share to be equal: hashable, made without the code under test."""
    if value is None:
        return None
    match kind.name:
        case "list":
            return tuple(meaning(item, kind.of[0]) for item in value)
        case "set":
            return frozenset(meaning(item, kind.of[0]) for item in value)
        case "map":
            return frozenset((meaning(k, kind.of[0]), meaning(v, kind.of[1])) for k, v in value)
        case "struct":
            return tuple((name, meaning(value.get(name), field)) for name, field in kind.fields)
        case "bool":
            return ("bool", value)
        case "decimal":
            return Fraction(value) if Decimal(value).is_finite() else str(value)
        case "float":
            return "nan" if math.isnan(value) else value
        case "inet":
            interface = ipaddress.ip_interface(value)
            return (interface.version, int(interface.ip), interface.network.prefixlen)
        case "json":
            return json_meaning(json.loads(value, parse_float=Fraction))
        case _:
            return value


def json_meaning(node: Any) -> Any:
    """A JSON document as a hashable value in which true is not 1, and null at the top is SQL's null."""
    match node:
        case None:
            return None
        case bool():
            return ("bool", node)
        case list():
            return ("list", tuple(json_meaning(item) for item in node))
        case dict():
            return ("map", frozenset((key, json_meaning(item)) for key, item in node.items()))
        case str():
            return ("text", node)
        case _:
            return Fraction(node)
