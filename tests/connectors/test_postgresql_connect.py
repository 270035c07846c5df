"""Connecting to a real server: passwords, TLS, refusals. Every error says what to do next and holds no secret."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from connectors.pg_case import PgCase, bound, rows
from servers.ports import free_port
from servers.postgresql import PostgresqlServer

from edge_agent.connectors import registry
from edge_agent.connectors.contract import Source
from edge_agent.connectors.postgresql import PostgresqlConnector
from edge_agent.connectors.postgresql import scan as scanning
from edge_agent.connectors.postgresql.copy import LibpqStream, SocketStream
from edge_agent.connectors.postgresql.session import connect
from paritree.core.errors import ConfigError, ParitreeError, SourceError
from paritree.core.profile import Binding, BoundColumn

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


def test_too_many_connections() -> None:
    with PostgresqlServer({"max_connections": "5"}) as server, server.connect() as admin:
        admin.execute("CREATE ROLE alice LOGIN")
        clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        until = time.monotonic() + 30  # who asked whether the server runs is gone for it a moment later
        while admin.execute(clients).fetchone() != (1,) and time.monotonic() < until:
            time.sleep(0.02)
        with PostgresqlConnector.connect(Source(server.url(user="alice"))) as one:
            assert one.tables() == []
            error = failing(Source(server.url(user="alice")))
    assert isinstance(error, SourceError)
    assert error.retryable


def test_an_old_server_is_refused(pg: PgCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.connectors.postgresql.session.VERSION_MIN", 10**9)
    assert isinstance(failing(Source(pg.server.url(pg.database))), ConfigError)


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


def _binding(columns: list[BoundColumn]) -> Binding:
    return Binding("t", "t", ("id",), tuple(columns))


def test_errors_over_tls_are_translated_too(guarded: tuple[PostgresqlServer, Path]) -> None:
    server, _ = guarded
    columns = [bound("id", "int"), bound("v", "int", expression="1 / (id - 20000)")]
    with PostgresqlConnector.connect(Source(server.url() + "?sslmode=require")) as connector:
        binding = _binding(columns)
        with connector.plan(binding, 100_000) as plan, pytest.raises(SourceError, match="division by zero"):
            rows(connector.scan(binding, plan.shards[0]))
        assert connector.tables() == ["public.t"]
