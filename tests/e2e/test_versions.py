"""Versions in looks of whole sweeps: they confirm what no lag explains, and delay what was written again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.cassandra import CassandraServer
from servers.postgresql import PostgresqlServer

from coordinator.sweep import Sweep, SweepOptions
from edge_agent import service
from edge_agent.build import Copy
from edge_agent.connectors.contract import Source
from edge_agent.executors import open_executor
from edge_agent.policy import Policy
from edge_agent.service import Service
from paritree.core.digest import DatasetKeys
from paritree.core.messages import AskAgain
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type
from paritree.wire.loopback import LoopbackLink

PROFILE = Profile("t", ("id",), {"id": parse_type("int"), "v": parse_type("text"), "n": parse_type("int")})
KEYS = DatasetKeys.of(bytes(range(32)), "t")
FOREVER_S = 3_600.0


class Site:
    """Regions of one dataset ``t`` and sweeps over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.links: dict[str, LoopbackLink] = {}
        self._numbers = itertools.count()

    def add(self, region: str, url: str, table: str, *, version: str = "") -> None:
        columns = tuple(BoundColumn(name, kind, source=name) for name, kind in PROFILE.columns.items())
        copy = Copy(
            Source(url), PROFILE, Binding("t", table, ("id",), columns), KEYS, version=version, digester="plain"
        )
        self.links[region] = LoopbackLink(
            Service(
                region,
                "a1",
                "i1",
                {"t": copy},
                spool=self.folder / region,
                executor=lambda: open_executor("serial", 1),
                policy=Policy(disclosure="keys"),
            )
        )

    def sweep(self, lag_max_s: float) -> dict[str, Any]:
        """The report. A sweep that would wait for ``FOREVER_S`` fails the test."""
        options = SweepOptions(lag_max_s=lag_max_s, purpose="test")
        run = Sweep(PROFILE, list(self.links), self.links, f"s{next(self._numbers)}", options)

        async def within_a_minute() -> dict[str, Any]:
            async with asyncio.timeout(60):
                return await run.run()

        return asyncio.run(within_a_minute())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def databases(postgresql: PostgresqlServer) -> Iterator[Any]:
    """Two databases with a table ``t`` each, and a superuser's connection to both."""
    names = ("versions_eu", "versions_us")
    with postgresql.connect() as admin:
        for name in names:
            admin.execute(f"DROP DATABASE IF EXISTS {name}")
            admin.execute(f"CREATE DATABASE {name}")
        connections = [postgresql.connect(name) for name in names]
        for connection in connections:
            connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text, n int)")
            connection.execute("INSERT INTO t SELECT i, 'v' || i, i FROM generate_series(1, 50) i")
        yield (
            dict(zip(("eu", "us"), connections, strict=True)),
            dict(zip(("eu", "us"), map(postgresql.url, names), strict=True)),
        )
        for connection in connections:
            connection.close()
        for name in names:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def found(report: dict[str, Any]) -> dict[int, list[str]]:
    return {f["key"]["id"]: f["columns"] for f in report["findings"]}


def between_looks(monkeypatch: pytest.MonkeyPatch, change: Callable[[int], None]) -> list[int]:
    """Call ``change`` with its number before every request to look again is answered."""
    numbers: list[int] = []
    answer = service.Teller.answer

    def changing(teller: Any, ask: Any) -> Any:
        if isinstance(ask, AskAgain):
            numbers.append(len(numbers) + 1)
            change(numbers[-1])
        return answer(teller, ask)

    monkeypatch.setattr(service.Teller, "answer", changing)
    return numbers


@pytest.mark.servers
def test_a_declared_version_confirms_and_delays(databases: Any, site: Site) -> None:
    connections, urls = databases
    for region, url in urls.items():
        site.add(region, url, "t", version="n")
    connections["us"].execute("UPDATE t SET v = 'other' WHERE id = 7")
    report = site.sweep(FOREVER_S)  # one version, n = 7, of two rows: nothing to wait for
    assert report["verdict"] == "different"
    assert found(report) == {7: ["v"]}
    assert "1 in one look" in report["verdicts"][0]["reason"]


@pytest.mark.servers
def test_a_commit_that_leaves_the_row_as_it_was_delays_the_finding(
    databases: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections, urls = databases
    for region, url in urls.items():
        site.add(region, url, "t")
    connections["us"].execute("UPDATE t SET v = 'other' WHERE id = 7")
    site.sweep(0.0)

    def touch(number: int) -> None:
        if number <= 2:  # the second look, of both regions
            connections["us"].execute("UPDATE t SET v = v WHERE id = 7")

    asked = between_looks(monkeypatch, touch)
    report = site.sweep(0.0)
    assert found(report) == {7: ["v"]}
    assert len(asked) >= 4  # a third look, as the row was written again
    monkeypatch.undo()
    rested = between_looks(monkeypatch, lambda _: None)
    assert found(site.sweep(0.0)) == {7: ["v"]}
    assert len(rested) == 2


@pytest.mark.servers
def test_rows_of_one_write_in_cassandra_are_confirmed_at_once(cassandra: CassandraServer, site: Site) -> None:
    with cassandra.session() as session:
        for region in ("eu", "us"):
            session.execute(f"DROP KEYSPACE IF EXISTS versions_{region}")
            session.execute(
                f"CREATE KEYSPACE versions_{region} WITH replication = "
                "{'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
            session.execute(f"CREATE TABLE versions_{region}.t (id int PRIMARY KEY, v text, n int)")
            site.add(region, f"{cassandra.url}/versions_{region}", "t")
            insert = f"INSERT INTO versions_{region}.t (id, v, n) VALUES (%s, %s, %s) USING TIMESTAMP %s"
            for i in range(20):
                session.execute(insert, (i, f"v{i}", i, 1_000_000 + i))
            session.execute(insert, (50, f"made in {region}", 50, 2_000_000))
        report = site.sweep(FOREVER_S)
        assert found(report) == {50: ["v"]}
        session.execute("UPDATE versions_us.t USING TIMESTAMP 3000000 SET n = 51 WHERE id = 50")
        session.execute("UPDATE versions_eu.t USING TIMESTAMP 3000000 SET n = 51 WHERE id = 50")
        with pytest.raises(TimeoutError):  # of two cells one version is no proof: the older may still be on its way
            asyncio.run(asyncio.wait_for(_run(site), 3))
        for region in ("eu", "us"):
            session.execute(f"DROP KEYSPACE versions_{region}")


async def _run(site: Site) -> dict[str, Any]:
    options = SweepOptions(lag_max_s=FOREVER_S, purpose="test")
    return await Sweep(PROFILE, list(site.links), site.links, "waits", options).run()
