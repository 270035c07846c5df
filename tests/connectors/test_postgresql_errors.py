"""A server that fails during a scan: our errors, retryable where a retry can help, and nothing taken for the end."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest
from connectors.pg_case import PgCase, bound, rows
from servers.postgresql import PostgresqlServer

from edge_agent.connectors.contract import Source
from edge_agent.connectors.postgresql import PostgresqlConnector
from paritree.core.errors import SourceError

pytestmark = pytest.mark.servers

SLOW = "CREATE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN $1; END'"


@pytest.fixture
def slow(pg: PgCase) -> PgCase:
    """A table whose bound expression takes 20 ms a row; 2,000 rows."""
    pg.run(SLOW, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 2000)", "ANALYZE t")
    return pg


def crawling(pg: PgCase) -> Callable[[PostgresqlConnector], list[dict[str, object]]]:
    binding = pg.bind("t", columns=[bound("id", "int"), bound("v", "int", expression="slow(id)")])

    def scan(connector: PostgresqlConnector) -> list[dict[str, object]]:
        with connector.plan(binding, 10_000) as plan:
            return rows(connector.scan(binding, plan.shards[0]))

    return scan


def test_statement_timeout(slow: PgCase) -> None:
    with pytest.raises(SourceError, match="statement timeout") as error:
        crawling(slow)(slow.connect(statement_timeout_ms="300"))
    assert error.value.retryable
    assert "statement_timeout_ms" in error.value.next_step


def test_backend_ended_in_the_middle_of_a_scan(slow: PgCase) -> None:
    def end() -> None:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'"
        deadline = time.monotonic() + 20
        with slow.session() as other:
            while other.execute(query).fetchone() is None and time.monotonic() < deadline:
                time.sleep(0.02)

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(SourceError, match="terminating connection due to administrator command") as error:
        crawling(slow)(slow.connector)
    thread.join()
    assert error.value.retryable
    assert slow.connector.tables() == ["public.t"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_server_stopped_in_the_middle_of_a_scan_and_started_again(how: signal.Signals) -> None:
    with PostgresqlServer() as server:
        server.create_database("own")
        case = PgCase(server, "own")
        case.run(SLOW, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 2000)")
        scan = crawling(case)
        thread = threading.Timer(0.7, server.stop, args=(how,))
        thread.start()
        with pytest.raises(SourceError) as error:
            scan(case.connector)
        assert error.value.retryable
        thread.join()
        with pytest.raises(SourceError) as error:
            case.connector.tables()
        assert error.value.retryable
        case.admin.close()
        server.resume()
        assert case.connector.tables() == ["public.t"]
        case.admin = case.session()
        case.close()


def test_a_socket_that_dies_is_retryable(pg: PgCase) -> None:
    """A peer that vanishes in the middle of a row: nothing is taken for the end."""
    pg.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
    pg.run("INSERT INTO t SELECT n, repeat('v', 200) FROM generate_series(1, 100000) n", "ANALYZE t")
    with Cutter(pg.server.port, after_bytes=3_000_000) as cutter:
        url = f"postgresql://postgres@127.0.0.1:{cutter.port}/{pg.database}"
        with PostgresqlConnector.connect(Source(url)) as connector:
            binding = pg.bind("t")
            with pg.connector.plan(binding, 10**6) as plan:
                with pytest.raises(SourceError, match=r"scanning public\.t") as error:
                    rows(connector.scan(binding, plan.shards[0]))
                assert error.value.retryable
                assert len(pg.scan_plan(binding, plan)) == 100_000


class Cutter:
    """A relay on loopback that cuts a connection after so many bytes from the server."""

    def __init__(self, port: int, after_bytes: int) -> None:
        self._target, self._after = port, after_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            for source, target, limit in ((near, far, 1 << 60), (far, near, self._after)):
                self._threads.append(threading.Thread(target=self._pump, args=(source, target, limit)))
                self._threads[-1].start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, limit: int) -> None:
        try:
            while limit > 0 and (data := source.recv(min(65536, limit))):
                target.sendall(data)
                limit -= len(data)
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def __enter__(self) -> Cutter:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in list(self._threads):
            thread.join(60)
            assert not thread.is_alive()


def test_the_connector_may_serve_several_threads(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 20000)", "ANALYZE t")
    binding = pg.bind("t")
    counts: list[int] = []
    with pg.connector.plan(binding, 2_000) as plan:
        threads = [
            threading.Thread(target=lambda s=shard: counts.append(len(rows(pg.connector.scan(binding, s)))))
            for shard in plan.shards
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(counts) == 20_000


def test_closing_is_idempotent_and_ends_every_session(pg: PgCase) -> None:
    connector = pg.connect()
    connector.tables()
    connector.close()
    connector.close()
    deadline = time.monotonic() + 60
    query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'paritree' AND datname = '{pg.database}'"
    while pg.admin.execute(query).fetchone() != (1,):  # the case's own connector
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_the_server_says_of_a_value_does_not_quote_it(pg: PgCase) -> None:
    """Messages of a failed scan go to the coordinator, which learns no value."""
    pg.run("CREATE TABLE t (id int PRIMARY KEY, v text)", """INSERT INTO t VALUES (1, '5"s3cret"')""")
    binding = pg.bind("t", columns=[bound("id", "int"), bound("v", "int", expression="v::int")])
    with pg.connector.plan(binding, 10_000) as plan, pytest.raises(SourceError, match="invalid input syntax") as error:
        rows(pg.connector.scan(binding, plan.shards[0]))
    assert "s3cret" not in str(error.value)
