"""One data set with every common type in every engine: pair by pair one root, and another one for any changed value."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from stores.base import Row, Store
from stores.databases import Cassandra, Duckdb, Postgresql, Sqlite
from stores.files import Csv, Memory, Parquet

from edge_agent.build import Built, Copy, build_index
from edge_agent.executors import SerialExecutor
from paritree.core.digest import DatasetKeys
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type

ENGINES: dict[str, type[Store]] = {
    kind.engine: kind for kind in (Postgresql, Cassandra, Sqlite, Duckdb, Parquet, Csv, Memory)
}
PAIRS = list(itertools.combinations(ENGINES, 2))
KEYS: dict[str, tuple[str, ...]] = {
    "int": ("k_int",),
    "text": ("k_text",),
    "uuid": ("k_uuid",),
    "timestamp": ("k_stamp",),
    "composite": ("k_int", "k_text", "k_day"),
}
TYPES = {
    "k_int": "int",
    "k_text": "text",
    "k_uuid": "uuid",
    "k_stamp": "timestamp(ms)",
    "k_day": "date",
    "flag": "bool",
    "whole": "int",
    "amount": "decimal",
    "wide": "decimal",
    "odd": "decimal",
    "rounded": "decimal(2)",
    "ratio": "float",
    "name": "text",
    "raw": "bytes",
    "day": "date",
    "until": "date",
    "clock": "time(us)",
    "stamp": "timestamp(ms)",
    "fine": "timestamp",
    "forever": "timestamp",
    "local": "datetime",
    "ref": "uuid",
    "span": "duration",
    "host": "inet",
    "net": "inet",
    "doc": "json",
    "counts": "list<int>",
    "gaps": "list<int>",
    "tags": "set<text>",
    "scores": "map<text, int>",
    "place": "struct{no: int, street: text}",
}
COLUMNS = {name: parse_type(written) for name, written in TYPES.items()}
INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)
VALUES: Mapping[str, list[Any]] = {
    "flag": [True, False],
    "whole": [0, -1, 127, -128, 2**31, INT64_MAX, INT64_MIN],
    "amount": [Decimal(text) for text in ("0", "1.10", "1.1000", "-0.05", "1234567890123.456789", "-99999", "1E+3")],
    "wide": [Decimal("9" * 40 + "." + "9" * 25), Decimal("-1e-30"), Decimal("12345678901234567890123456789012345678")],
    "odd": [Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal("1." + "3" * 80)],
    "rounded": [Decimal("1.005"), Decimal("-1.005"), Decimal("2.675"), Decimal("7")],
    "ratio": [0.0, -0.0, 0.1, -1.5, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf],
    "name": ["", " ", "a ", "é", "e\u0301", "😀", "\uff5e", 'it\'s "quoted", \\N', "tab\tnew\nline", "NULL", "x" * 300],
    "raw": [b"", b"\0", b"\x00\xff\\x", bytes(range(256))],
    "day": [0, -1, 18_321, -719_162, 2_932_896],
    "until": [INT64_MAX, INT64_MIN, 1],
    "clock": [0, 1, 37_230_000_001, 86_399_999_999],
    "stamp": [0, -1_000, 1_577_836_800_123_000, -62_135_596_800_000_000, 253_402_300_799_999_000],
    "fine": [0, -1, 1_577_836_800_123_456, 253_402_300_799_999_999],
    "forever": [INT64_MAX, INT64_MIN, 1_000_000],
    "local": [0, -1, 1_577_836_800_123_456, -62_135_596_800_000_000],
    "ref": [bytes(16), bytes(range(16)), b"\xff" * 16],
    "span": [(0, 0, 0), (14, 3, 90_000_000), (-1, -2, -3)],
    "host": ["127.0.0.1", "::1", "2001:db8::ff00:42:8329", "::ffff:10.0.0.1"],
    "net": ["10.0.0.1/8", "10.0.0.0/8", "2001:db8::/32"],
    "doc": ['{"b": [1, 2.50, null], "a": {"x": "é"}}', "[]", "{}", '"text"', "1e2", "true", '{"a": 1.0}'],
    "counts": [[], [1], [3, 1, 1], [INT64_MAX, INT64_MIN]],
    "gaps": [[None], [None, 7], [7, None]],
    "tags": [[], ["b", "a"], ["", "é", "e\u0301"], ["z", "a", "m"]],
    "scores": [[], [("a", 1)], [("b", 2), ("a", 1), ("", -7)]],
    "place": [{"no": 1, "street": "Hauptstraße"}, {"no": None, "street": ""}, {"no": None, "street": None}],
}
"""Every value of a column also meets a null. Values that only some engines have are in columns of their own."""

NO_NAN = "decimals there have neither NaN nor infinity"
HOLES: Mapping[str, Mapping[str, str]] = {
    "postgresql": {},
    "cassandra": {
        "odd": NO_NAN,
        "until": "dates there are finite",
        "gaps": "collections there hold no null",
        "fine": "timestamps there have milliseconds",
        "forever": "timestamps there are finite",
        "net": "inet there has no prefix",
    },
    "sqlite": {},
    "duckdb": {"wide": "decimals there have at most 38 digits", "odd": NO_NAN},
    "parquet": {"odd": NO_NAN, "until": "Arrow's dates are finite", "forever": "Arrow's time stamps are finite"},
    "csv": {},
    "memory": {"odd": NO_NAN, "until": "Arrow's dates are finite", "forever": "Arrow's time stamps are finite"},
}
"""Engine -> column -> why the engine cannot hold its values; types that an engine lacks are in ``Store.no_types``."""


def rows_of() -> list[dict[str, Any]]:
    """As many rows as the longest column needs; shorter columns are repeated, each after a null."""
    count = max(map(len, VALUES.values())) + 1
    rows = []
    for number in range(count):
        row: dict[str, Any] = {
            "k_int": number * (-1) ** number * 10**number,
            "k_text": ["é", "e\u0301", " ", "a "][number] if number < 4 else f"key {number}",
            "k_uuid": bytes([number]) * 16,
            "k_stamp": (number - 3) * 86_399_999_000,
            "k_day": number * 1_000 - 5_000,
        }
        for shift, (name, values) in enumerate(VALUES.items()):
            row[name] = [None, *values][(number + shift) % (len(values) + 1)]
        rows.append(row)
    return rows


ROWS = rows_of()
REST = tuple(VALUES)


def holes(engine: str) -> dict[str, str]:
    """Column -> why the engine does not take part with it."""
    lacking = ENGINES[engine].no_types
    by_type = {name: lacking[kind.name] for name, kind in COLUMNS.items() if kind.name in lacking}
    return {**by_type, **HOLES[engine]}


def held(engine: str) -> tuple[str, ...]:
    return tuple(name for name in REST if name not in holes(engine))


class Copies:
    """The data set in every engine, under every key, and the roots that its copies have."""

    def __init__(self, stores: Mapping[str, Store], spool: Any) -> None:
        self.stores = stores
        self.spool = spool
        self.known: dict[tuple[object, ...], Built] = {}
        self.numbers = itertools.count()

    def put(self, engine: str, key: str, rows: list[Row] | list[dict[str, Any]]) -> None:
        names = dict.fromkeys((*KEYS[key], *held(engine)))
        self.stores[engine].put(f"t_{key}", {name: COLUMNS[name] for name in names}, KEYS[key], rows)
        self.known = {asked: built for asked, built in self.known.items() if asked[:2] != (engine, key)}

    def built(self, engine: str, key: str, columns: tuple[str, ...], empty: str, digester: str) -> Built:
        """The index of those columns; made once."""
        asked = (engine, key, columns, empty, digester)
        if asked not in self.known:
            store = self.stores[engine]
            kinds = {name: COLUMNS[name] for name in dict.fromkeys((*KEYS[key], *columns))}
            profile = Profile("every", KEYS[key], kinds, empty)
            bound = tuple(BoundColumn(name, kind, source=name) for name, kind in kinds.items())
            binding = Binding("every", store.name(f"t_{key}"), KEYS[key], bound)
            keys = DatasetKeys.of(bytes(range(32)), "every")
            copy = Copy(store.source(f"t_{key}"), profile, binding, keys, 5, digester)
            spool = self.spool / str(next(self.numbers))
            self.known[asked] = build_index(copy, SerialExecutor(), spool, lambda _: None)
        return self.known[asked]

    def pair(self, one: str, other: str, key: str, digester: str) -> tuple[Built, Built]:
        columns = tuple(name for name in held(one) if name in held(other))
        empty = "null" if ENGINES[one].empty_is_null or ENGINES[other].empty_is_null else "keep"
        left, right = (self.built(engine, key, columns, empty, digester) for engine in (one, other))
        return left, right


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Copies]:
    stores: dict[str, Store] = {}
    with contextlib.ExitStack() as exits:
        for engine, kind in ENGINES.items():
            server = request.getfixturevalue(kind.server) if kind.server else None
            stores[engine] = exits.enter_context(contextlib.closing(kind(tmp_path_factory.mktemp(engine), server)))
        made = Copies(stores, tmp_path_factory.mktemp("spool"))
        for engine, key in itertools.product(ENGINES, KEYS):
            made.put(engine, key, ROWS)
        yield made


def root(built: Built) -> tuple[int, int, int, bytes]:
    sums = built.index.sums
    return sums.root.count, sums.root.r, sums.root.r2, sums.r.tobytes()


@pytest.mark.parametrize("digester", ["plain", "compiled"])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_engines_have_one_root(copies: Copies, one: str, other: str, key: str, digester: str) -> None:
    left, right = copies.pair(one, other, key, digester)
    for built in (left, right):
        assert built.dead.reasons == {}
        assert built.dead.total == 0
    assert root(left)[0] == len(ROWS)
    assert root(left) == root(right)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_digesters_have_one_root(copies: Copies, engine: str, key: str) -> None:
    plain, compiled = (copies.built(engine, key, held(engine), "null", kind) for kind in ("plain", "compiled"))
    assert root(plain) == root(compiled)
    assert plain.dead.total == compiled.dead.total == 0


@pytest.mark.parametrize("digester", ["plain", "compiled"])
@pytest.mark.parametrize("engine", ENGINES)
def test_any_changed_value_gives_another_root(copies: Copies, engine: str, digester: str) -> None:
    before = root(copies.built(engine, "int", held(engine), "null", digester))
    seen = {before}
    for name in held(engine):
        changed = [dict(row) for row in ROWS]
        at = next(number for number, row in enumerate(changed) if row[name] is None)
        changed[at][name] = next(value for value in VALUES[name] if value not in ([], {"no": None, "street": None}))
        copies.put(engine, "int", changed)
        after = root(copies.built(engine, "int", held(engine), "null", digester))
        assert after[0] == before[0]
        assert after not in seen, name
        seen.add(after)
    copies.put(engine, "int", ROWS)
    assert root(copies.built(engine, "int", held(engine), "null", digester)) == before


def test_an_absent_row_gives_another_root(copies: Copies) -> None:
    columns = tuple(name for name in REST if all(name in held(engine) for engine in ENGINES))
    whole = {engine: root(copies.built(engine, "int", columns, "null", "plain")) for engine in ENGINES}
    assert len(set(whole.values())) == 1
    copies.put("sqlite", "int", ROWS[1:])
    fewer = root(copies.built("sqlite", "int", columns, "null", "plain"))
    copies.put("sqlite", "int", ROWS)
    assert fewer[0] == len(ROWS) - 1
    assert fewer != whole["sqlite"]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_hole_has_a_reason_and_a_column(engine: str) -> None:
    assert set(holes(engine)) <= set(REST)
    assert all(holes(engine).values())


@pytest.mark.parametrize("column", REST)
def test_every_column_is_held_by_two_engines(column: str, engines_of: Callable[[str], list[str]]) -> None:
    assert len(engines_of(column)) >= 2


@pytest.fixture
def engines_of() -> Callable[[str], list[str]]:
    return lambda column: [engine for engine in ENGINES if column in held(engine)]
