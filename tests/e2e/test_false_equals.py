"""The four ways in which other tools are known to have said "equal" of tables that differ, each planted here.

Beside each stands the short way that such a tool takes, as SQL over the same rows: it has to be blind to what was
planted, or the test shows nothing. Then the sweep has to name exactly that.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from connectors.pg_case import PgCase, rows
from connectors.pg_follow import Background, settings, until
from faults import fault_proxy
from servers.postgresql import PostgresqlServer

from coordinator.sweep import Sweep, SweepOptions
from edge_agent.build import Copy
from edge_agent.connectors.contract import Source
from edge_agent.connectors.postgresql import session, slot
from edge_agent.executors import open_executor
from edge_agent.policy import Policy
from edge_agent.service import Service
from edge_agent.warm import Following, WarmIndex
from paritree.core.derive import derive_profile
from paritree.core.digest import DatasetKeys
from paritree.core.digester import PlainDigester
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.wire.loopback import LoopbackLink

pytestmark = pytest.mark.servers

KEYS: Final = DatasetKeys.of(bytes(range(32)), "orders")
ROWS: Final = 2_000
SHARD_ROWS: Final = 100
REGIONS: Final = ("eu", "us")
SLOT: Final = "SELECT {} FROM pg_replication_slots WHERE database = current_database()"
PEEK: Final = "pg_logical_slot_peek_binary_changes('{0}', NULL, NULL, 'proto_version', '1', 'publication_names', '{0}')"
Report = dict[str, Any]


class Pair:
    """Two databases with a table ``orders`` of the same rows, an agent's service each, and sweeps over both."""

    def __init__(self, server: PostgresqlServer, folder: Path) -> None:
        self.folder = folder
        self.cases: dict[str, PgCase] = {}
        self.links: dict[str, LoopbackLink] = {}
        self.warm: dict[str, WarmIndex] = {}
        self.copies: dict[str, Copy] = {}
        self._numbers = itertools.count()
        for region in REGIONS:
            server.create_database(f"pair_{region}")
            self.cases[region] = PgCase(server, f"pair_{region}")
        self.run(
            "CREATE TABLE orders (id bigint PRIMARY KEY, code text)",
            f"INSERT INTO orders SELECT i, 'c' || i FROM generate_series(1, {ROWS}) AS i",
            "ANALYZE orders",
        )

    def run(self, *statements: str) -> None:
        """The same in both databases."""
        for case in self.cases.values():
            case.run(*statements)

    def open(self, table: str = "orders", *, warm: bool = False, **ports: int) -> None:
        """Start an agent's service of each table; ``ports`` are those of proxies, by region."""
        for region, case in self.cases.items():
            schema = case.connector.describe(table)
            profile = derive_profile("orders", {region: schema}, key=["id"]).profile
            columns = tuple(BoundColumn(n, t, source=n) for n, t in profile.columns.items())
            binding = Binding("orders", table, profile.key, columns)
            url = case.server.url(case.database)
            if region in ports:
                url = url.replace(f":{case.server.port}/", f":{ports[region]}/") + "?connect_timeout=10"
            source = Source(url, {"statement_timeout_ms": "5000"} if region in ports else {})
            copy = self.copies[region] = Copy(source, profile, binding, KEYS, SHARD_ROWS)
            indexes = {}
            if warm:
                following = Following(f"{region}/a1", check_interval_s=0.0)
                indexes["orders"] = self.warm[region] = WarmIndex(copy, self.folder / f"index-{region}", following)
            service = Service(
                region,
                "a1",
                "i1",
                {"orders": copy},
                spool=self.folder / region,
                executor=lambda: open_executor("threads", 2),
                policy=Policy(disclosure="keys"),
                warm=indexes,
            )
            self.links[region] = LoopbackLink(service)

    @property
    def profile(self) -> Profile:
        """The dataset's."""
        return self.copies["eu"].profile

    async def swept(self, **options: Any) -> Report:
        """The report of a sweep."""
        chosen = SweepOptions(lag_max_s=0.0, purpose="test", limit=10 * ROWS, **options)
        return await Sweep(self.profile, REGIONS, self.links, f"s{next(self._numbers)}", chosen).run()

    def sweep(self) -> Report:
        """The report of a sweep, which must have compared every row of both tables, once."""
        report = asyncio.run(self.swept())
        for region in report["regions"]:
            assert region["rows"] == self.count(region["name"]), region
        return report

    def count(self, region: str) -> int:
        """How many rows the table has."""
        return int(self.rows(region, "SELECT count(*) FROM orders")[0][0])

    def rows(self, region: str, query: str) -> list[tuple[Any, ...]]:
        """What a query gives in one region."""
        return self.cases[region].admin.execute(query).fetchall()

    def blind(self, query: str) -> bool:
        """Whether a query says the same of both tables."""
        eu, us = (self.rows(region, query) for region in REGIONS)
        return eu == us

    def close(self) -> None:
        """Leave nothing behind at the server."""
        for index in self.warm.values():
            index.close()
        for case in self.cases.values():
            case.run(SLOT.format("pg_drop_replication_slot(slot_name)"))
            case.close()


@pytest.fixture
def pair(postgresql: PostgresqlServer, tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as closing:
        made = Pair(postgresql, tmp_path)
        closing.callback(made.close)
        yield made


def found(report: Report) -> dict[int, str]:
    return {finding["key"]["id"]: finding["kind"] for finding in report["findings"]}


def bounds_of(pair: Pair) -> list[int]:
    """The lowest and the highest id of every shard, as the connector cuts the table."""
    case, binding = pair.cases["us"], pair.copies["us"].binding
    with case.connector.plan(binding, SHARD_ROWS) as plan:
        shards = [[row["id"] for row in rows(case.connector.scan(binding, shard))] for shard in plan.shards]
    held = [shard for shard in shards if shard]
    assert len(held) > 5, "the table is cut"
    return sorted({some for shard in held for some in (min(shard), max(shard))})


def array(ids: Sequence[int]) -> str:
    """The ids as SQL."""
    return "'{" + ",".join(map(str, ids)) + "}'::bigint[]"


XOR_OF_CLOSED_RANGES: Final = """
SELECT bit_xor(('x' || left(md5(o.id || '/' || o.code), 16))::bit(64)::bigint)
  FROM (SELECT b AS low, lead(b) OVER (ORDER BY b) AS high FROM unnest({}) AS b) AS r
  JOIN orders o ON o.id BETWEEN r.low AND r.high
"""
"""Ranges that share their bounds, sums that are XORed together: a row on a bound is there twice, and cancels."""


@pytest.mark.parametrize("kind", ["blocks", "partitions", "keys of a view"])
def test_boundary_rows(pair: Pair, kind: str) -> None:
    """Rows next to a bound of shards are in exactly one of them, whichever way the table is cut."""
    if kind == "partitions":
        pair.run(
            "ALTER TABLE orders RENAME TO before",
            "CREATE TABLE orders (id bigint PRIMARY KEY, code text) PARTITION BY RANGE (id)",
            *(
                f"CREATE TABLE p{n} PARTITION OF orders FOR VALUES FROM ({n}) TO ({n + 250})"
                for n in range(0, 2001, 250)
            ),
            "INSERT INTO orders SELECT * FROM before",
            "ANALYZE orders",
        )
    pair.run("CREATE VIEW seen AS SELECT id, code FROM orders")
    pair.open("seen" if kind == "keys of a view" else "orders")
    bounds = bounds_of(pair)
    inner = bounds[1:-1]
    pair.cases["us"].run(f"UPDATE orders SET code = code || '!' WHERE id = ANY ({array(inner)})")
    assert pair.blind(XOR_OF_CLOSED_RANGES.format(array(bounds))), "the short way does not see it"
    assert found(pair.sweep()) == dict.fromkeys(inner, "different")


@pytest.mark.parametrize("bits", [4, 9])
def test_boundary_rows_of_leaves(pair: Pair, bits: int) -> None:
    """The rows of the lowest and the highest digest in each leaf: few, that sketches solve; most, that are listed."""
    pair.open()
    leaves: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
    digester = PlainDigester(pair.profile, KEYS, lambda size: bytes(size))
    with pair.cases["eu"].connector.plan(pair.copies["eu"].binding, ROWS) as plan:
        for batch in pair.cases["eu"].connector.scan(pair.copies["eu"].binding, plan.shards[0]):
            for row, id_ in zip(digester.rows(batch), batch.column("id").to_pylist(), strict=True):
                leaves[int.from_bytes(row.key_digest[:8], "big") >> (64 - bits)].append((row.key_digest, id_))
    at_bounds = sorted({id_ for leaf in leaves.values() for _, id_ in (min(leaf), max(leaf))})
    pair.cases["us"].run(f"UPDATE orders SET code = code || '!' WHERE id = ANY ({array(at_bounds)})")
    report = pair.sweep()
    assert found(report) == dict.fromkeys(at_bounds, "different")
    assert (report["bytes"]["lists"] > 0) == (bits == 9)


def test_differences_that_cancel_within_a_leaf(pair: Pair) -> None:
    """Two rows that exchanged their values, and a row that is there twice as often as it should: sums are not XORs."""
    pair.open()
    pair.cases["us"].run("UPDATE orders SET code = CASE id WHEN 7 THEN 'c8' ELSE 'c7' END WHERE id IN (7, 8)")
    values = "SELECT bit_xor(('x' || left(md5(code), 16))::bit(64)::bigint) FROM orders"
    assert pair.blind(values), "the short way does not see it"
    assert found(pair.sweep()) == {7: "different", 8: "different"}


@pytest.mark.parametrize("kind", ["cold", "warm", "keys of a view", "empty"])
def test_rows_past_the_other_sides_largest_key(pair: Pair, kind: str) -> None:
    """Neither side's largest key, smallest key or size says where the other side ends."""
    eu, us = (pair.cases[region] for region in REGIONS)
    if kind == "empty":
        eu.run("DELETE FROM orders")
    pair.run("CREATE VIEW seen AS SELECT id, code FROM orders")
    pair.open("seen" if kind == "keys of a view" else "orders", warm=kind == "warm")
    if kind == "warm":
        assert pair.sweep()["verdict"] == "equal"
    past = [-(2**63), -5, 0, ROWS + 1, 10 * ROWS, 2**63 - 1]
    us.run(f"INSERT INTO orders SELECT id, 'past' FROM unnest({array(past)}) AS id")
    low, high = pair.rows("eu", "SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM orders")[0]
    assert pair.blind(f"SELECT id, code FROM orders WHERE id BETWEEN {low} AND {high} ORDER BY id")
    expected = set(past) | (set(range(1, ROWS + 1)) if kind == "empty" else set())
    report = pair.sweep()
    if kind == "empty":  # reported as a range, or key by key: never as nothing
        assert report["verdict"] == "different"
        assert report["summary"]["missing"] == {"eu": len(expected)}
    assert found(report) == dict.fromkeys(expected, "missing")
    assert {tuple(finding["missing_in"]) for finding in report["findings"]} == {("eu",)}


def told_of(pair: Pair, region: str) -> int:
    """How many changes of rows a region's slot would hand out now."""
    name = pair.rows(region, SLOT.format("slot_name"))[0][0]
    told = pair.rows(region, f"SELECT data FROM {PEEK.format(name)}")
    return sum(bytes(data[:1]) in (b"I", b"U", b"D") for (data,) in told)


async def quietly_peeked(url: str, name: str, silence: Callable[[], None], within_s: float) -> list[Any]:
    """What comes out of a slot until nothing has come for so long: an idle time-out that is read as its end."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        silence()
        asking = asyncio.create_task(connection.execute(f"SELECT data FROM {PEEK.format(name)}"))
        done, _ = await asyncio.wait([asking], timeout=within_s)
        if done:
            return await asking.result().fetchall()
        connection.pgconn.finish()
        await asyncio.gather(asking, return_exceptions=True)
        return []


def test_an_idle_time_out_is_not_caught_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot is silent because the line is: the region is unknown until its slot has said that there is no more."""
    monkeypatch.setattr(session, "STALL_SLACK_S", 0.5)
    us = pair.cases["us"]

    async def swept_in_silence() -> list[Report]:
        async with fault_proxy(us.server.port) as proxy:
            pair.open(warm=True, us=proxy.port)
            reports = [await pair.swept()]
            us.run("UPDATE orders SET code = 'changed' WHERE id = 7")
            name = pair.rows("us", SLOT.format("slot_name"))[0][0]
            silent = await quietly_peeked(pair.copies["us"].source.url, name, proxy.freeze, 0.5)
            assert silent == [], "the short way takes the silence for the end"
            reports.append(await pair.swept())
            proxy.thaw()
            reports.append(await pair.swept())
            return reports

    before, silent, after = asyncio.run(asyncio.wait_for(swept_in_silence(), 120))
    assert before["verdict"] == "equal"
    assert silent["verdict"] == "unknown"
    assert [stated["regions"] for stated in silent["verdicts"]] == [["us"]]
    assert found(after) == {7: "different"}


def test_a_slot_that_is_told_nothing_is_not_caught_up(pair: Pair) -> None:
    """Somebody takes the table out of the publication: from then on the slot is idle for ever."""
    pair.open(warm=True)
    assert pair.sweep()["verdict"] == "equal"
    us = pair.cases["us"]
    name = pair.rows("us", "SELECT pubname FROM pg_publication")[0][0]
    us.run(f"ALTER PUBLICATION {name} DROP TABLE orders", "UPDATE orders SET code = 'changed' WHERE id = 7")
    us.run("SELECT pg_switch_wal()")
    assert told_of(pair, "us") == 0, "the short way is told nothing"
    assert found(pair.sweep()) == {7: "different"}


def test_an_asynchronous_commit_that_is_seen_before_it_is_in_the_log(pair: Pair) -> None:
    """A query sees the row, the slot does not tell of it yet: whoever trusts the slot says "equal"."""
    us = pair.cases["us"]
    with settings(us, wal_writer_delay="10s"):
        pair.open(warm=True)
        assert pair.sweep()["verdict"] == "equal"
        for number in range(5):  # the server may write its log at any moment: then another change is needed
            us.run("CHECKPOINT")
            us.run("SET synchronous_commit = off", f"UPDATE orders SET code = 'async {number}' WHERE id = 7")
            assert pair.rows("us", "SELECT code FROM orders WHERE id = 7") == [(f"async {number}",)]
            if told_of(pair, "us") == number:
                break
        else:
            pytest.fail("the short way is told of every change")
        report = pair.sweep()
    assert found(report) == {7: "different"}
    scans = [note for note in report["notes"] if "scanned" in note]
    assert scans
    assert all("nothing was scanned" in note for note in scans)


def test_a_commit_that_is_in_the_log_before_it_is_seen(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot tells of the row, a query does not see it yet: whoever reads it now says "equal" for ever."""
    us = pair.cases["us"]
    pair.open(warm=True)
    assert pair.sweep()["verdict"] == "equal"
    with settings(us, synchronous_standby_names="nobody"):
        until(lambda: pair.rows("us", "SHOW synchronous_standby_names") == [("nobody",)])

        def write(own: psycopg.Connection) -> None:
            own.execute("SET synchronous_commit = on")
            own.execute("UPDATE orders SET code = 'late' WHERE id = 7")

        writing = Background(us, write)
        until(lambda: bool(pair.rows("us", "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'")))
        monkeypatch.setattr(slot.await_visible, "__defaults__", (0.2,))
        assert told_of(pair, "us") > 0
        assert pair.blind("SELECT * FROM orders ORDER BY id"), "the short way reads the row as it was"
        silent = asyncio.run(pair.swept())
        us.run("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        writing.join()
    assert silent["verdict"] == "unknown"
    assert "nobody sees them yet" in silent["verdicts"][0]["reason"]
    assert found(pair.sweep()) == {7: "different"}


def test_a_transaction_that_commits_after_a_newer_one(pair: Pair) -> None:
    """Its rows have older versions and numbers than what was read already: whoever asks for newer ones says "equal"."""
    pair.run("ALTER TABLE orders ADD COLUMN at timestamptz DEFAULT '2020-01-01'")
    pair.open(warm=True)
    us = pair.cases["us"]
    assert pair.sweep()["verdict"] == "equal"
    older = us.session()
    older.execute("BEGIN; UPDATE orders SET code = 'older', at = '2024-01-01' WHERE id = 7")
    pair.run("UPDATE orders SET code = 'newer', at = '2024-01-02' WHERE id = 8")
    assert pair.sweep()["verdict"] == "equal"
    seen_until = pair.rows("us", "SELECT max(at) FROM orders")[0][0]
    older.execute("COMMIT")
    older.close()
    assert pair.blind(f"SELECT * FROM orders WHERE at > '{seen_until}'"), "the short way asks for what is newer"
    assert found(pair.sweep()) == {7: "different"}
