"""Sources and the coordinator behind an SSH bastion: a real SSH server, a real PostgreSQL, real TLS."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import psutil
import pytest
from servers.bastion import HOST, Bastion, no_forward_left
from servers.postgresql import PostgresqlServer

from edge_agent.connectors import forwards
from edge_agent.connectors.bastion import Bastion as Hop
from edge_agent.connectors.contract import Connector, Source
from edge_agent.connectors.registry import connect
from paritree.core.errors import ConfigError, ParitreeError, SourceError
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import parse_type

pytestmark = pytest.mark.servers
ROWS = 200_000
BOUND = Binding(
    "eu",
    "orders",
    ("id",),
    (BoundColumn("id", parse_type("int"), source="id"), BoundColumn("note", parse_type("text"), source="note")),
)


@pytest.fixture
def bastion(tmp_path: Path) -> Iterator[Bastion]:
    with Bastion(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with no_forward_left():
        yield


@pytest.fixture(scope="module")
def table(postgresql: PostgresqlServer) -> str:
    """A URL of a database with ``orders``: ids 1 to ROWS, a note of 200 bytes each."""
    url = postgresql.create_database("tunnelled")
    with postgresql.connect("tunnelled") as admin:
        admin.execute("CREATE TABLE orders (id bigint PRIMARY KEY, note text NOT NULL)")
        admin.execute(f"INSERT INTO orders SELECT i, repeat('x', 200) FROM generate_series(1, {ROWS}) i")
    return url


def scanned(connector: Connector, shard_rows: int = ROWS) -> list[int]:
    with connector.plan(BOUND, shard_rows) as plan:
        return [i for shard in plan.shards for b in connector.scan(BOUND, shard) for i in b.column("id").to_pylist()]


def test_a_source_is_described_scanned_and_looked_up_through_it(bastion: Bastion, table: str) -> None:
    source: Source = pickle.loads(pickle.dumps(Source(table, bastion.options)))
    with connect(source) as connector, connect(source) as second:
        assert [column.name for column in connector.describe("orders").columns] == ["id", "note"]
        assert sorted(scanned(connector, ROWS // 3)) == list(range(1, ROWS + 1))
        (found,) = second.lookup(BOUND, [(7,), (ROWS + 1,)])
        assert found.column("id").to_pylist() == [7]
        names = {row.laddr.port for row in psutil.Process().net_connections("inet") if row.status == "LISTEN"}
        assert len(names) == 2, "the bastion's port and one forward"
    assert bastion.logins == 1
    assert {port for _, port in bastion.forwarded} == {int(table.rpartition(":")[2].partition("/")[0])}
    assert len(bastion.forwarded) >= 2, "nothing went around it"


def test_threads_that_come_at_once_share_one_login(bastion: Bastion, table: str) -> None:
    counts: list[int] = []

    def count() -> None:
        with connect(Source(table, bastion.options)) as connector:
            counts.append(len(scanned(connector)))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [ROWS] * 4
    assert bastion.logins == 1


def test_it_closes_by_itself_after_the_last_use(bastion: Bastion, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwards, "IDLE_S", 2.0)
    connector = connect(Source(table, bastion.options))
    connector.close()
    time.sleep(3.0)
    assert len(connector.describe("orders").columns) == 2, "kept while a connector may connect again"
    connector.close()
    del connector
    deadline = time.monotonic() + 60
    while forwards._forwards and time.monotonic() < deadline:
        time.sleep(0.02)
    assert forwards._forwards == {}
    with connect(Source(table, bastion.options)) as connector:
        assert len(scanned(connector)) == ROWS
    assert bastion.logins == 2


def refused(source: Source, kind: type[ParitreeError] = SourceError) -> ParitreeError:
    with pytest.raises(kind) as caught:
        connect(source)
    return caught.value


def test_an_unknown_host_key_is_refused_and_not_learnt(bastion: Bastion, table: str) -> None:
    bastion.know(None)
    error = refused(Source(table, bastion.options))
    assert "is unknown" in error.message
    assert "administrator" in error.next_step
    assert not error.retryable
    assert (bastion.folder / "known_hosts").read_text() == ""
    assert (bastion.logins, bastion.forwarded) == (0, [])


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
def test_another_host_key_is_refused(bastion: Bastion, table: str, kind: str) -> None:
    bastion.know(asyncssh.generate_private_key(kind))
    error = refused(Source(table, bastion.options))
    assert "is not the one in" in error.message
    assert "somebody is in between" in error.message
    assert not error.retryable
    assert (bastion.logins, bastion.forwarded) == (0, [])


def test_a_key_that_is_not_let_in(bastion: Bastion, table: str) -> None:
    error = refused(Source(table, {**bastion.options, "ssh_key": str(bastion.folder / "stranger")}))
    assert "refuses the login" in error.message
    assert "authorized_keys" in error.next_step
    assert not error.retryable


def test_a_bastion_that_is_down_and_comes_back(bastion: Bastion, table: str) -> None:
    bastion.stop()
    error = refused(Source(table, bastion.options))
    assert "cannot reach the SSH bastion" in error.message
    assert error.retryable
    assert error.next_step
    bastion.start()
    with connect(Source(table, bastion.options)) as connector:
        assert len(scanned(connector)) == ROWS


def test_it_can_be_closed_while_the_bastion_does_not_answer(bastion: Bastion, table: str) -> None:
    with socket.create_server((HOST, 0)) as silent:
        options = {**bastion.options, "ssh": f"paritree@{HOST}:{silent.getsockname()[1]}"}
        way = forwards.Way(Hop.of(options, {}), "db.internal", 5432)
        forward = forwards.start_forward(way)
        began = time.monotonic()
        forwards.close_forwards()
        with pytest.raises(SourceError, match="closed") as caught:
            forward.opened.result()
    assert caught.value.retryable
    assert time.monotonic() - began < 60


def test_a_bastion_that_does_not_answer(bastion: Bastion, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.connectors.bastion.CONNECT_S_MAX", 0.5)
    with socket.create_server((HOST, 0)) as silent:
        options = {**bastion.options, "ssh": f"paritree@{HOST}:{silent.getsockname()[1]}"}
        error = refused(Source(table, options))
    assert "no answer within 0.5 s" in error.message
    assert error.retryable


def test_a_forward_that_is_not_allowed(bastion: Bastion, table: str) -> None:
    bastion.allow = False
    error = refused(Source(table, bastion.options))
    assert "AllowTcpForwarding" in error.next_step
    assert not error.retryable


def test_a_database_that_is_down_behind_it(bastion: Bastion, table: str) -> None:
    error = refused(Source(f"postgresql://postgres@{HOST}:1/tunnelled", bastion.options))
    assert f"to {HOST}:1" in error.message
    assert error.retryable
    assert error.next_step


def test_what_the_database_says_is_told_with_the_way(bastion: Bastion, table: str) -> None:
    error = refused(Source(table.replace("tunnelled", "absent"), bastion.options), ConfigError)
    assert 'database "absent" does not exist' in error.message
    assert "through the SSH bastion" in error.message
    error = refused(Source(table.replace("postgres@", "nobody@"), bastion.options))
    assert 'role "nobody" does not exist' in error.message


def test_a_bastion_that_dies_in_the_middle_of_a_scan_is_an_error_and_not_fewer_rows(
    bastion: Bastion, table: str
) -> None:
    with connect(Source(table, bastion.options)) as connector:
        with connector.plan(BOUND, 10 * ROWS) as plan:
            (shard,) = plan.shards
            batches = connector.scan(BOUND, shard)
            seen = next(batches).num_rows
            bastion.stop()
            with pytest.raises(SourceError) as caught:
                seen += sum(batch.num_rows for batch in batches)
        assert seen < ROWS
        assert caught.value.retryable
        bastion.start()
        assert len(scanned(connector)) == ROWS, "the same port leads through the bastion again"


def test_a_scan_that_is_given_up_ends_its_connection(bastion: Bastion, table: str) -> None:
    with connect(Source(table, bastion.options)) as connector, connector.plan(BOUND, ROWS) as plan:
        batches: Any = connector.scan(BOUND, plan.shards[0])
        assert next(batches).num_rows
        batches.close()
        assert len(scanned(connector)) == ROWS


def test_the_servers_certificate_is_checked_against_its_own_name(bastion: Bastion, tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    with PostgresqlServer() as server:
        data = server.directory / "data"
        owner = data.stat()
        for name, content in (
            ("server.key", issued.private_key_pem.bytes()),
            ("server.crt", issued.cert_chain_pems[0].bytes()),
        ):
            (data / name).write_bytes(content)
            (data / name).chmod(0o600)
            os.chown(data / name, owner.st_uid, owner.st_gid)
        server.stop()
        server.settings = {**server.settings, "ssl": "on"}
        server.resume()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        url = (
            f"postgresql://postgres@localhost:{server.port}/postgres?sslmode=verify-full&sslrootcert={tmp_path}/ca.pem"
        )
        with connect(Source(url, bastion.options)) as connector:
            assert connector.tables() == []
        error = refused(Source(url.replace("@localhost:", f"@{HOST}:"), bastion.options))
        assert "certificate" in error.message
    assert bastion.forwarded[0][0] == "localhost"


def test_an_encrypted_key_needs_its_passphrase_which_is_never_shown(bastion: Bastion, table: str) -> None:
    key = asyncssh.read_private_key(str(bastion.folder / "id"))
    key.write_private_key(str(bastion.folder / "id"), format_name="pkcs8-pem", passphrase="hush-hush")
    assert "ssh_key_passphrase" in refused(Source(table, bastion.options), ConfigError).next_step
    wrong = Source(table, bastion.options, {"ssh_key_passphrase": "hush"})
    error = refused(wrong, ConfigError)
    assert "Unable to decrypt" in error.message
    assert "ssh_key_passphrase" in error.next_step
    assert "hush" not in str(error) + repr(wrong) + repr(Hop.of(wrong.options, wrong.secrets))
    with connect(replace(wrong, secrets={"ssh_key_passphrase": "hush-hush"})) as connector:
        assert connector.tables()


def test_the_key_of_an_agent(bastion: Bastion, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(bastion.folder / "agent.sock")
    options = {name: value for name, value in bastion.options.items() if name != "ssh_key"}
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        while subprocess.run(["ssh-add", "-l"], capture_output=True, check=False).returncode == 2:  # it does not listen
            assert agent.poll() is None
            time.sleep(0.01)
        assert "has no key" in refused(Source(table, options), ConfigError).message
        subprocess.run(["ssh-add", "-q", str(bastion.folder / "id")], check=True)
        with connect(Source(table, options)) as connector:
            assert connector.tables()
    finally:
        agent.terminate()
        agent.wait()
    monkeypatch.delenv("SSH_AUTH_SOCK")
    forwards.close_forwards()
    assert "no key" in refused(Source(table, options), ConfigError).message


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("sqlite:///orders.db", {}, "sqlite: there is no server"),
        ("parquet:///orders*", {}, "there is no server"),
        ("postgresql:///app", {}, "exactly one host"),
        ("postgresql://a,b/app", {}, "exactly one host"),
        ("postgresql:///app?host=/run/postgresql", {}, "exactly one host"),
        ("cassandra://a,b/shop", {}, "one Cassandra node"),
        ("postgresql://a/app", {"ssh": "bastion"}, "not user@host"),
        ("postgresql://a/app", {"ssh": "me:hush@bastion"}, "not user@host"),
        ("postgresql://a/app", {"ssh": "me@bastion:0"}, "not user@host"),
        ("postgresql://a/app", {"ssh_known_hosts": "absent"}, "ssh_known_hosts: cannot read"),
        ("postgresql://a/app", {"ssh_key": "absent"}, "ssh_key: cannot use"),
    ],
)
def test_what_cannot_go_through_a_bastion(bastion: Bastion, url: str, options: dict[str, str], message: str) -> None:
    error = refused(Source(url, {**bastion.options, **options}), ConfigError)
    assert message in error.message
    assert error.next_step
    assert "hush" not in str(error)


def test_a_key_that_others_may_read_is_refused(bastion: Bastion, table: str) -> None:
    (bastion.folder / "id").chmod(0o644)
    assert "chmod 600" in refused(Source(table, bastion.options), ConfigError).next_step


def test_another_process_opens_its_own_and_ends(bastion: Bastion, table: str) -> None:
    script = (
        "import pickle, sys; from edge_agent.connectors.registry import connect\n"
        "connector = connect(pickle.load(sys.stdin.buffer)); print(connector.tables())"
    )
    source = Source(table, bastion.options)
    with connect(source):
        done = subprocess.run(
            [sys.executable, "-c", script], input=pickle.dumps(source), capture_output=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"['public.orders']\n", b"")
    assert bastion.logins == 2
