"""Values written into real engines and scanned back have the canonical bytes of the plain value."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores.base import Store
from stores.databases import Cassandra, Duckdb, Postgresql, Sqlite
from stores.files import Csv, Parquet

from edge_agent.connectors.contract import REJECTS
from edge_agent.connectors.registry import connect
from paritree.core.canonical import encode
from paritree.core.carrier import plain_values
from paritree.core.errors import DeadLetter
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import LogicalType, parse_type

BATCH = 60
"""Values of one example: one table, one scan."""
ENGINES: dict[str, type[Store]] = {kind.engine: kind for kind in (Postgresql, Cassandra, Sqlite, Duckdb, Parquet, Csv)}
INT = parse_type("int")
INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)
DAY_US = 86_400_000_000
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
WHOLE = st.one_of(st.integers(INT64_MIN, INT64_MAX), st.integers(-300, 300))
DAYS = st.one_of(st.integers(-719_162, 2_932_896), st.integers(-2, 2))
MOMENTS = st.one_of(st.integers(-719_162 * DAY_US, 2_932_897 * DAY_US - 1), st.integers(-3_000_000, 3_000_000))
ENDS = st.sampled_from([INT64_MAX, INT64_MIN])
HOSTS = st.ip_addresses().map(str)
PLAIN: Mapping[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int": WHOLE,
    "decimal": st.decimals(-(10**20), 10**20, places=15).map(lambda d: Decimal(f"{d:f}")),
    "float": st.floats(),
    "text": TEXT,
    "bytes": st.binary(max_size=40),
    "date": DAYS,
    "time(us)": st.integers(0, DAY_US - 1),
    "timestamp": MOMENTS,
    "datetime": MOMENTS,
    "uuid": st.binary(min_size=16, max_size=16),
    "inet": HOSTS,
    "list<int>": st.lists(WHOLE, max_size=5),
    "list<text>": st.lists(TEXT, max_size=5),
    "set<text>": st.lists(TEXT, max_size=5),
    "map<text, int>": st.lists(st.tuples(TEXT, WHOLE), max_size=5, unique_by=lambda pair: pair[0]),
    "struct{no: int, street: text}": st.fixed_dictionaries({"no": st.none() | WHOLE, "street": st.none() | TEXT}),
}
"""What every engine that has the type can hold of it."""


def _documents(numbers: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON texts whose numbers are written as they come, with spaces where JSON allows them."""
    leaves = st.one_of(st.sampled_from(["null", "true", "false"]), numbers, TEXT.map(json.dumps))
    pairs = st.tuples(TEXT.map(json.dumps), st.sampled_from([":", " : "]))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(lambda items: "[" + " ,".join(items) + "]"),
            st.lists(st.tuples(pairs, inner), max_size=4).map(
                lambda items: "{" + ", ".join(name + colon + item for (name, colon), item in items) + "}"
            ),
        ),
        max_leaves=8,
    )


FRACTIONS = st.builds(
    lambda n, f, e: f"{n}.{f}e{e}", st.integers(-(10**9), 10**9), st.integers(0, 999), st.integers(-20, 20)
)
DOCUMENTS = _documents(st.one_of(st.integers().map(str), FRACTIONS))
SPANS = st.tuples(st.integers(-100_000, 100_000), st.integers(-100_000, 100_000), st.integers(-(10**15), 10**15))
ONE_SIGN = SPANS.map(lambda span: tuple(abs(part) * (-1 if span[0] < 0 else 1) for part in span))
WIDER: Mapping[str, Mapping[str, st.SearchStrategy[Any]]] = {
    "postgresql": {
        "decimal": st.one_of(
            st.decimals(allow_nan=False, allow_infinity=False, places=40),
            st.sampled_from(
                [Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal("1e-300"), Decimal("-1E+300")]
            ),
        ),
        "date": st.one_of(DAYS, ENDS, st.integers(-2_440_588, 100_000_000)),
        "time(us)": st.integers(0, DAY_US),
        "timestamp": st.one_of(MOMENTS, ENDS, st.integers(-2_440_588 * DAY_US, 106_000_000 * DAY_US)),
        "datetime": st.one_of(MOMENTS, ENDS, st.integers(-2_440_588 * DAY_US, 106_000_000 * DAY_US)),
        "duration": SPANS,
        "inet": st.one_of(HOSTS, st.builds(lambda a, p: f"{a}/{p}", st.ip_addresses(v=4), st.integers(0, 32))),
        "json": DOCUMENTS,
        "list<int>": st.lists(st.none() | WHOLE, max_size=5),
        "list<text>": st.lists(st.none() | TEXT, max_size=5),
        "set<text>": st.lists(st.none() | TEXT, max_size=5),
    },
    "cassandra": {
        "decimal": st.decimals(allow_nan=False, allow_infinity=False).filter(lambda d: abs(d.adjusted()) < 10_000),
        "date": st.integers(-(2**31), 2**31 - 1),
        "timestamp": st.integers(-9_223_372_036_854_775, 9_223_372_036_854_775).map(lambda ms: ms * 1_000),
        "duration": ONE_SIGN,
        "json": DOCUMENTS,
    },
    "sqlite": {
        "decimal": st.decimals(allow_nan=False, allow_infinity=False, places=40),
        "date": st.one_of(st.integers(-(10**8), 10**8), ENDS),
        "timestamp": st.one_of(MOMENTS, ENDS),
        "datetime": st.one_of(MOMENTS, ENDS),
        "json": DOCUMENTS,
    },
    "csv": {
        "decimal": st.decimals(allow_infinity=True, allow_nan=False, places=40),
        "date": st.one_of(st.integers(-(10**8), 10**8), ENDS),
        "timestamp": st.one_of(MOMENTS, ENDS),
        "datetime": st.one_of(MOMENTS, ENDS),
        "json": DOCUMENTS,
    },
    "duckdb": {
        "date": st.one_of(DAYS, ENDS),
        "timestamp": st.one_of(MOMENTS, ENDS),
        "datetime": st.one_of(MOMENTS, ENDS),
        "duration": SPANS,
        "json": DOCUMENTS,
        "list<int>": st.lists(st.none() | WHOLE, max_size=5),
        "set<text>": st.lists(st.none() | TEXT, max_size=5),
    },
    "parquet": {
        "decimal": st.decimals(-(10**40), 10**40, places=30).map(lambda d: Decimal(f"{d:f}")),
        "date": st.integers(-(2**31), 2**31 - 1),
        "timestamp": st.integers(INT64_MIN + 1, INT64_MAX - 1),
        "datetime": st.integers(INT64_MIN + 1, INT64_MAX - 1),
        "json": DOCUMENTS,
        "list<int>": st.lists(st.none() | WHOLE, max_size=5),
        "set<text>": st.lists(st.none() | TEXT, max_size=5),
    },
}
"""What one engine holds beyond that."""
CASES = [
    (engine, written)
    for engine in ENGINES
    for written in sorted({*PLAIN, *WIDER[engine]})
    if parse_type(written).name not in ENGINES[engine].no_types
]


def values(engine: str, written: str) -> st.SearchStrategy[list[Any]]:
    """As many values as one example takes; nulls among them."""
    some = WIDER[engine].get(written, PLAIN.get(written, st.nothing()))
    return st.lists(st.one_of(st.none(), some, some, some), min_size=BATCH, max_size=BATCH)


@pytest.fixture(scope="module")
def stores(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Store]]:
    made: dict[str, Store] = {}
    with contextlib.ExitStack() as exits:

        def open_store(engine: str) -> Store:
            if engine not in made:
                kind = ENGINES[engine]
                server = request.getfixturevalue(kind.server) if kind.server else None
                made[engine] = exits.enter_context(contextlib.closing(kind(tmp_path_factory.mktemp(engine), server)))
            return made[engine]

        yield open_store


def scanned(store: Store, table: str, kind: LogicalType, *, may_reject: bool = False) -> dict[int, Any]:
    """id -> value as the connector's scan gives it, a rejected one as its DeadLetter."""
    columns = (BoundColumn("id", INT, source="id"), BoundColumn("c", kind, source="c"))
    binding = Binding("trips", store.name(table), ("id",), columns)
    found: dict[int, Any] = {}
    with connect(store.source(table)) as connector, connector.plan(binding, 25) as plan:
        for batch in itertools.chain.from_iterable(connector.scan(binding, shard) for shard in plan.shards):
            rejects = batch.column(REJECTS).to_pylist() if REJECTS in batch.schema.names else [None] * batch.num_rows
            assert may_reject or not any(rejects)
            ids = [int(number) for number in plain_values(batch.column("id"), INT)]
            assert not found.keys() & set(ids), "a row came twice"
            for number, value, bad in zip(ids, plain_values(batch.column("c"), kind), rejects, strict=True):
                found[number] = DeadLetter(bad[0]["reason"]) if bad else value
    return found


def same_bytes(given: Any, found: Any, kind: LogicalType, empty_is_null: bool) -> bool:
    """Whether both have equal canonical bytes; an engine without empty collections gives null for one."""
    if empty_is_null and kind.is_collection and not given:
        return found is None or found == []
    if empty_is_null and kind.name == "struct" and given is not None and not any(v is not None for v in given.values()):
        return found is None or encode(found, kind) == encode(given, kind)
    return encode(found, kind) == encode(given, kind)


@pytest.mark.parametrize(("engine", "written"), CASES)
def test_canonical_bytes_survive(stores: Callable[[str], Store], engine: str, written: str) -> None:
    store = stores(engine)
    kind = parse_type(written)
    table = "trip_" + "".join(letter if letter.isalnum() else "_" for letter in written)

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(values(engine, written))
    def trip(given_values: list[Any]) -> None:
        rows = [{"id": number, "c": value} for number, value in enumerate(given_values)]
        store.put(table, {"id": INT, "c": kind}, ("id",), rows)
        found = scanned(store, table, kind)
        assert sorted(found) == list(range(BATCH))
        for number, value in enumerate(given_values):
            assert same_bytes(value, found[number], kind, store.empty_is_null), (value, found[number])

    trip()


@pytest.mark.parametrize("engine", ["postgresql", "sqlite", "csv", "duckdb"])
@pytest.mark.parametrize("written", ["timestamp", "datetime"])
def test_a_finite_time_is_never_an_infinity(stores: Callable[[str], Store], engine: str, written: str) -> None:
    """The last microseconds of 64 bits: the one that would read as infinity is a dead letter, its neighbour a time."""
    store = stores(engine)
    kind = parse_type(written)
    last = INT64_MAX - 1
    held = [last, INT64_MAX, None] if engine == "duckdb" else [last, INT64_MAX, None, Finite(INT64_MAX)]
    rows = [{"id": number, "c": value} for number, value in enumerate(held)]
    store.put(f"ends_{written}", {"id": INT, "c": kind}, ("id",), rows)
    found = scanned(store, f"ends_{written}", kind, may_reject=True)
    assert encode(found[0], kind) == encode(last, kind)
    assert encode(found[1], kind) == encode(INT64_MAX, kind)
    assert found[2] is None
    if engine != "duckdb":  # whose last finite time is the one before
        with pytest.raises(DeadLetter):
            encode(found[3], kind)


class Finite(int):
    """A finite time that equals a sentinel: as a number it is the infinity, as text it is not."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = int.__hash__
