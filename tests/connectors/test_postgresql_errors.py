"""What goes wrong with a real server ends in our errors, with what to do next, and never with a secret."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import trustme
from connectors.pg_case import PgCase, bound, rows
from servers.postgresql import PostgresqlServer, free_port

from edge_agent.connectors import registry
from edge_agent.connectors.contract import Source
from edge_agent.connectors.postgresql import PostgresqlConnector
from edge_agent.connectors.postgresql import scan as scanning
from edge_agent.connectors.postgresql.copy import LibpqStream, SocketStream
from paritree.core.errors import ConfigError, ParitreeError, SourceError

pytestmark = pytest.mark.servers

SECRET = "s3cr3t-%40-pässword"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresqlServer, Path]]:
    """A server that wants a password from everybody but postgres, with TLS; and its authority's certificate."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    server = PostgresqlServer(hba=_HBA)
    folder = server.directory
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    owner = server.directory.stat()
    os.chown(folder / "server.pem", owner.st_uid, owner.st_gid)
    (folder / "server.pem").chmod(0o600)
    server.settings |= {
        "ssl": "on",
        "ssl_cert_file": str(folder / "server.pem"),
        "ssl_key_file": str(folder / "server.pem"),
    }
    with server:
        with server.connect() as connection:
            connection.execute(f"CREATE ROLE alice LOGIN PASSWORD '{SECRET}'")
            connection.execute("CREATE ROLE nologin")
            connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
            connection.execute("INSERT INTO t SELECT n, repeat('v', n % 50) FROM generate_series(1, 30000) n")
            connection.execute("ANALYZE t")
            connection.execute("GRANT SELECT ON t TO alice")
        yield server, folder / "ca.pem"


_HBA = """
host all postgres 127.0.0.1/32 trust
host all nologin 127.0.0.1/32 trust
hostssl all alice 127.0.0.1/32 scram-sha-256
host template1 alice 127.0.0.1/32 scram-sha-256
host all bob 127.0.0.1/32 trust
"""


def failing(source: Source) -> ParitreeError:
    """The error that connecting ends in; it holds no secret, whatever form it is shown in."""
    with pytest.raises(ParitreeError) as error:
        PostgresqlConnector.connect(source)
    shown = f"{error.value} {error.value!r}"
    assert SECRET not in shown
    assert "hunter2" not in shown
    return error.value


def test_password_from_the_secrets(guarded: tuple[PostgresqlServer, Path]) -> None:
    server, _ = guarded
    with PostgresqlConnector.connect(Source(server.url(user="alice"), secrets={"password": SECRET})) as connector:
        assert connector.tables() == ["public.t"]


def test_password_from_libpqs_own_file(
    guarded: tuple[PostgresqlServer, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = guarded
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:{server.port}:*:alice:{SECRET}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    with PostgresqlConnector.connect(Source(server.url(user="alice"))) as connector:
        assert connector.tables() == ["public.t"]


def test_refused_logins(guarded: tuple[PostgresqlServer, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    server, authority = guarded
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    wrong = failing(Source(server.url(user="alice"), secrets={"password": "hunter2"}))
    missing = failing(Source(server.url(user="alice")))
    unknown = failing(Source(server.url(user="bob")))
    locked = failing(Source(server.url(user="nologin")))
    unlisted = failing(Source(server.url(user="carol")))
    in_clear = failing(Source(server.url(user="alice") + "?sslmode=disable", secrets={"password": SECRET}))
    for error, step in [
        (wrong, "check the user and the password"),
        (missing, "PGPASSFILE"),
        (unknown, "create the role"),
        (locked, "ALTER ROLE"),
        (unlisted, "pg_hba.conf"),
        (in_clear, "pg_hba.conf"),
    ]:
        assert isinstance(error, SourceError)
        assert step in error.next_step
        assert not error.retryable
        assert f"port={server.port}" in error.message
    other = tmp_certificate(authority.parent)
    unverified = failing(Source(f"{server.url(user='alice')}?sslmode=verify-full&sslrootcert={other}"))
    assert "certificate" in unverified.message
    assert not unverified.retryable


def tmp_certificate(folder: Path) -> Path:
    path = folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


def test_absent_database(pg: PgCase) -> None:
    error = failing(Source(pg.server.url("nosuch")))
    assert isinstance(error, ConfigError)
    assert "nosuch" in error.message
    assert error.next_step == "correct the database in the URL"


def test_unreachable_server() -> None:
    error = failing(Source(f"postgresql://postgres@127.0.0.1:{free_port()}/x", secrets={"password": "hunter2"}))
    assert isinstance(error, SourceError)
    assert error.retryable
    assert "Connection refused" in error.message


def test_silent_server_and_one_that_speaks_something_else() -> None:
    for answer in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            def serve(answer: bytes = answer, listener: socket.socket = listener) -> None:
                peer, _ = listener.accept()
                with peer:
                    if answer:
                        peer.sendall(answer)
                    else:
                        time.sleep(4)

            thread = threading.Thread(target=serve)
            thread.start()
            error = failing(Source(f"postgresql://postgres@127.0.0.1:{port}/x?connect_timeout=2&sslmode=disable"))
            thread.join()
        assert isinstance(error, SourceError)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://postgres:hunter2@127.0.0.1/x", "holds a password"),
        ("postgresql://127.0.0.1/x?password=hunter2", "holds a password"),
        ("postgresql://127.0.0.1/x?nosuch=hunter2", "malformed URL"),
        ("postgresql://post%zzgres:hunter2@127.0.0.1/x", "malformed URL"),
        ("postgresql://[::1/x", "malformed URL"),
        ("mysql://x/y", "does not begin with postgresql://"),
        ("postgresql://127.0.0.1:99999/x", "cannot connect"),
        ("postgresql://127.0.0.1/x?sslmode=hunter", "cannot connect"),
    ],
)
def test_unusable_urls(url: str, message: str) -> None:
    error = failing(Source(url))
    assert message in error.message
    assert error.next_step or "begin" in error.message


@pytest.mark.parametrize(
    "options", [{"nosuch": "1"}, {"statement_timeout_ms": "-1"}, {"lock_timeout_ms": "1s"}, {"decoder": "slow"}]
)
def test_unusable_options(pg: PgCase, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="option") as error:
        pg.connect(**options)
    assert "statement_timeout_ms" in error.value.next_step


def test_found_by_its_scheme(pg: PgCase) -> None:
    with registry.connect(Source(pg.server.url(pg.database))) as connector:
        assert connector.engine == "postgresql"


def test_session_settings(pg: PgCase) -> None:
    from edge_agent.connectors.postgresql.session import connect

    pg.run(
        f"ALTER DATABASE {pg.database} SET DateStyle = 'SQL, DMY'",
        f"ALTER DATABASE {pg.database} SET TimeZone = 'Asia/Tokyo'",
    )
    session = connect(Source(pg.server.url(pg.database) + "?application_name=mine", {"statement_timeout_ms": "1234"}))
    wanted = {
        "row_security": "off", "default_transaction_read_only": "on", "DateStyle": "ISO, YMD", "TimeZone": "UTC",
        "statement_timeout": "1234ms", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "0",
        "idle_session_timeout": "0", "client_encoding": "UTF8", "application_name": "mine", "jit": "off",
    }  # fmt: skip
    try:
        found = {name: session.execute(f"SHOW {name}").fetchone() for name in wanted}
        assert found == {name: (value,) for name, value in wanted.items()}
        with pytest.raises(ParitreeError, match="read-only transaction"):
            session.execute("CREATE TABLE written (id int)")
    finally:
        session.close()
    assert pg.connector.tables() == []


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


def test_too_many_connections() -> None:
    with PostgresqlServer({"max_connections": "5"}) as server, server.connect() as admin:
        admin.execute("CREATE ROLE alice LOGIN")
        with PostgresqlConnector.connect(Source(server.url(user="alice"))) as one:
            assert one.tables() == []
            error = failing(Source(server.url(user="alice")))
    assert isinstance(error, SourceError)
    assert error.retryable


def test_scans_over_tls_go_through_libpq_and_give_the_same_rows(guarded: tuple[PostgresqlServer, Path]) -> None:
    server, authority = guarded
    url = server.url(user="alice") + f"?sslmode=verify-full&sslrootcert={authority}"
    with (
        PostgresqlConnector.connect(Source(url, secrets={"password": SECRET})) as encrypted,
        PostgresqlConnector.connect(Source(server.url() + "?sslmode=disable")) as plain,
    ):
        found = []
        for connector, kind in ((encrypted, LibpqStream), (plain, SocketStream)):
            streams: list[object] = []
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(scanning, "open_stream", watched(scanning.open_stream, streams))
                columns = [bound("id", "int"), bound("v")]
                binding = _binding(columns)
                with connector.plan(binding, 7_000) as plan:
                    assert len(plan.shards) > 3
                    found.append([row for shard in plan.shards for row in rows(connector.scan(binding, shard))])
            assert streams
            assert {type(stream) for stream in streams} == {kind}
            assert len(rows(connector.lookup(binding, [(5,), (6,)]))) == 2
    assert len(found[0]) == 30_000
    assert found[0] == found[1]


def watched(opened: Callable[..., object], streams: list[object]) -> Callable[..., object]:
    """The same function, keeping what it returned."""

    def opening(*args: object, **names: object) -> object:
        streams.append(opened(*args, **names))
        return streams[-1]

    return opening


def _binding(columns: list[object]):  # type: ignore[no-untyped-def]
    from paritree.core.profile import Binding

    return Binding("t", "t", ("id",), tuple(columns))  # type: ignore[arg-type]


def test_errors_over_tls_are_translated_too(guarded: tuple[PostgresqlServer, Path]) -> None:
    server, _ = guarded
    columns = [bound("id", "int"), bound("v", "int", expression="1 / (id - 20000)")]
    with PostgresqlConnector.connect(Source(server.url() + "?sslmode=require")) as connector:
        binding = _binding(columns)
        with connector.plan(binding, 100_000) as plan, pytest.raises(SourceError, match="division by zero"):
            rows(connector.scan(binding, plan.shards[0]))
        assert connector.tables() == ["public.t"]


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
            thread.join(10)
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
    deadline = time.monotonic() + 10
    query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'paritree' AND datname = '{pg.database}'"
    while pg.admin.execute(query).fetchone() != (1,):  # the case's own connector
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_old_server_is_refused(pg: PgCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.connectors.postgresql.session.VERSION_MIN", 10**9)
    assert isinstance(failing(Source(pg.server.url(pg.database))), ConfigError)


assert ssl.HAS_TLSv1_3  # what the certificates of this module need
assert psycopg.pq.version() >= 140_000
