"""Samples of Arrow's types, for the engines that have them: Parquet files and in-process tables."""

from __future__ import annotations

import decimal
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from switches.base import INT64_MAX, Dead, Refused, Typed

from paritree.core.types import LogicalType

ARROW = {
    "int": pa.int64(),
    "text": pa.utf8(),
    "decimal": pa.decimal128(30, 6),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "bytes": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us", "UTC"),
    "datetime": pa.timestamp("us"),
    "uuid": pa.uuid(),
}
EXACT = decimal.Context(prec=76)
INTEGERS = {f"{sign}int{bits}": (sign, bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
VIEW = pa.array(["x", None, "a longer text than fits in a view"], pa.string_view())


def arrow_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Plain values as an Arrow array; times are given as their ticks."""
    if pa.types.is_temporal(kind) and kind != pa.month_day_nano_interval():
        ticks = pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64())
        return ticks.cast(kind) if not pa.types.is_date64(kind) else ticks.view(kind)
    if pa.types.is_decimal(kind):
        step = decimal.Decimal(1).scaleb(-kind.scale)
        return pa.array([None if v is None else decimal.Decimal(v).quantize(step, context=EXACT) for v in values], kind)
    if kind in (pa.uuid(), pa.json_()):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode()
    return pa.array(values, kind)


def table_of(columns: Mapping[str, LogicalType], rows: Sequence[Sequence[Any]]) -> pa.Table:
    """A table of plain values."""
    parts = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = [arrow_of(list(part), ARROW[kind.name]) for part, kind in zip(parts, columns.values(), strict=True)]
    return pa.table(arrays, names=list(columns))


def typed_table(declared: Any, natives: Sequence[Any]) -> pa.Table:
    """``id`` and ``c`` of an Arrow type; a ready array is taken as it is, with a null at its end."""
    column = pa.concat_arrays([declared, pa.nulls(1, declared.type)]) if isinstance(declared, pa.Array) else None
    if column is None:
        column = arrow_of(natives, declared)
    return pa.table({"id": pa.array(range(len(column)), pa.int64()), "c": column})


def instants(unit: str, zone: str | None) -> Typed:
    kind = pa.timestamp(unit, zone)
    per_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[unit]
    cases: list[tuple[int, Any]] = [(0, 0), (-per_second, -1_000_000), (86_400 * per_second, 86_400_000_000)]
    if unit == "ns":
        cases += [(-1, -1), (1_999, 1)]  # floor
    else:
        cases += [(INT64_MAX, Dead("outside the range"))]
    return Typed(kind, "datetime" if zone is None else "timestamp", cases)


def elapsed(unit: str) -> Typed:
    factor = {"s": 1_000_000, "ms": 1_000, "us": 1}.get(unit)
    if factor is None:
        return Typed(pa.duration("ns"), "duration", [(-2_000, (0, 0, -2)), (1, Dead("finer than a microsecond"))])
    cases: list[tuple[int, Any]] = [(0, (0, 0, 0)), (-5, (0, 0, -5 * factor))]
    return Typed(pa.duration(unit), "duration", cases + ([(2**62, Dead("range"))] if factor > 1 else []))


def text(kind: pa.DataType) -> Typed:
    return Typed(kind, "text", [("é ", "é "), ("", ""), ("x" * 100, "x" * 100), ("a\0", Dead("NUL"))])


def binary(kind: pa.DataType) -> Typed:
    return Typed(kind, "bytes", [(b"\0\xff", b"\0\xff"), (b"", b""), (b"x" * 100, b"x" * 100)])


def numbers(kind: pa.DataType, digits: int, scale: int) -> Typed:
    top = "9" * (digits - scale) + "." + "9" * scale
    return Typed(kind, "decimal", [("1.10", "1.1"), (f"-{top}", f"-{top}"), ("0", "0")])


def lists(kind: pa.DataType) -> Typed:
    return Typed(kind, "list<text>", [(["a", None], ["a", None]), (["b", "c"], ["b", "c"])])


ARROW_SAMPLES: dict[str, Typed | Refused] = {
    "bool": Typed(pa.bool_(), "bool", [(True, True), (False, False)]),
    **{
        name: Typed(
            getattr(pa, name)(),
            "int",
            [(0, 0), ((n := -(2 ** (b - 1)) if not s else 0), n), ((m := 2 ** (b - (not s)) - 1), m)],
        )
        for name, (s, b) in INTEGERS.items()
    },
    "halffloat": Typed(pa.float16(), "float", [(1.5, 1.5), (math.nan, math.nan), (-math.inf, -math.inf)]),
    "float": Typed(pa.float32(), "float", [(0.1, 0.10000000149011612), (math.nan, math.nan), (-0.0, 0.0)]),
    "double": Typed(pa.float64(), "float", [(0.1, 0.1), (5e-324, 5e-324), (math.inf, math.inf)]),
    "decimal32": numbers(pa.decimal32(9, 2), 9, 2),
    "decimal64": numbers(pa.decimal64(18, 4), 18, 4),
    "decimal128": numbers(pa.decimal128(38, 10), 38, 10),
    "decimal256": numbers(pa.decimal256(76, 30), 76, 30),
    "string": text(pa.utf8()),
    "large_string": text(pa.large_utf8()),
    "string_view": text(pa.string_view()),
    "binary": binary(pa.binary()),
    "large_binary": binary(pa.large_binary()),
    "binary_view": binary(pa.binary_view()),
    "fixed_size_binary": Typed(pa.binary(3), "bytes", [(b"\0\xffa", b"\0\xffa")]),
    "date32[day]": Typed(pa.date32(), "date", [(0, 0), (-719162, -719162), (2**31 - 1, 2**31 - 1)]),
    "date64[ms]": Typed(pa.date64(), "date", [(-86_400_000, -1), (1, Dead("midnight"))]),
    "time32[s]": Typed(pa.time32("s"), "time", [(86_399, 86_399_000_000)]),
    "time32[ms]": Typed(pa.time32("ms"), "time", [(1, 1_000), (86_399_999, 86_399_999_000)]),
    "time64[us]": Typed(pa.time64("us"), "time", [(1, 1), (86_399_999_999, 86_399_999_999)]),
    "time64[ns]": Typed(pa.time64("ns"), "time", [(1_999, 1)]),
    **{f"timestamp[{unit}]": instants(unit, None) for unit in ("s", "ms", "us", "ns")},
    **{f"timestamp[{unit}, tz]": instants(unit, "Europe/Berlin") for unit in ("s", "ms", "us", "ns")},
    **{f"duration[{unit}]": elapsed(unit) for unit in ("s", "ms", "us", "ns")},
    "month_day_nano_interval": Typed(
        pa.month_day_nano_interval(),
        "duration",
        [((1, -2, 3_000), (1, -2, 3)), ((0, 0, 1), Dead("finer than a microsecond"))],
    ),
    "arrow.uuid": Typed(pa.uuid(), "uuid", [(bytes(range(16)), bytes(range(16)))]),
    "arrow.json": Typed(pa.json_(), "json", [('{"b": 1.0, "a": []}', '{"a":[],"b":1}'), ("{", Dead("JSON"))]),
    "list": lists(pa.list_(pa.dictionary(pa.int8(), pa.utf8()))),
    "large_list": lists(pa.large_list(pa.utf8())),
    "fixed_size_list": lists(pa.list_(pa.utf8(), 2)),
    "list_view": lists(pa.list_view(pa.utf8())),
    "large_list_view": lists(pa.large_list_view(pa.utf8())),
    "map": Typed(
        pa.map_(pa.utf8(), pa.list_(pa.int8())),
        "map<text, list<int>>",
        [([("k", [1, None]), ("l", None)],) * 2, ([], [])],
    ),
    "struct": Typed(
        pa.struct([("b", pa.uuid().storage_type), ("a", pa.struct([("x", pa.int8())]))]),
        "struct{a: struct{x: int}, b: bytes}",
        [({"b": b"x" * 16, "a": {"x": 1}},) * 2, ({"b": None, "a": None},) * 2],
    ),
    "null": Refused(pa.null()),
    "union": Refused(pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1]), pa.array(["x"])], ["a", "b"])),
}
