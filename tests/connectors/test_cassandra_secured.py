"""A node with passwords and TLS: logins, grants, certificates. No secret in any message."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cassandra.auth import PlainTextAuthProvider
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate
from servers.cassandra import CassandraServer
from servers.cassandra_keyspace import bound, found, scanned

from edge_agent.connectors.cassandra import CassandraConnector
from edge_agent.connectors.contract import Source
from paritree.core.errors import ConfigError, SourceError

pytestmark = pytest.mark.servers
HEAP = "512m"
KEYSTORE_PASSWORD = "only-for-this-test"


@dataclass(frozen=True)
class Secured:
    """A server, and the authority that its certificate comes from."""

    server: CassandraServer
    cafile: Path

    @property
    def admin(self) -> dict[str, Any]:
        """The driver's arguments of the superuser that every new cluster has."""
        context = ssl.create_default_context(cafile=str(self.cafile))
        return {"ssl_context": context, "auth_provider": PlainTextAuthProvider("cassandra", "cassandra")}

    def source(self, user: str = "reader", password: str = "pass:word", **options: str) -> Source:
        """The connector's source for a role."""
        given = {"cafile": str(self.cafile), **options}
        return Source(f"cassandra://{user}@127.0.0.1:{self.server.port}/shop", given, {"password": password})


def keystore(authority: trustme.CA) -> bytes:
    """PKCS 12 with a certificate for 127.0.0.1."""
    issued = authority.issue_cert("127.0.0.1")
    key: Any = load_pem_private_key(issued.private_key_pem.bytes(), None)
    certificate = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    encryption = BestAvailableEncryption(KEYSTORE_PASSWORD.encode())
    return serialize_key_and_certificates(b"node", key, certificate, None, encryption)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A node that wants a login, and TLS on its one CQL port; role ``reader`` may read shop.open, not shop.closed."""
    directory, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    (directory / "node.p12").write_bytes(keystore(authority))
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    settings = {
        "authenticator": "PasswordAuthenticator",
        "authorizer": "CassandraAuthorizer",
        "client_encryption_options": {
            "enabled": True,
            "optional": False,
            "keystore": str(directory / "node.p12"),
            "keystore_password": KEYSTORE_PASSWORD,
            "store_type": "PKCS12",
        },
    }
    made = Secured(CassandraServer(cluster_name="secured", heap=HEAP, settings=settings), directory / "ca.pem")
    try:
        made.server.launch().wait(**made.admin)
        with made.server.session(**made.admin) as session:
            for statement in (
                "CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
                "CREATE TABLE shop.open (id int PRIMARY KEY, v text)",
                "CREATE TABLE shop.closed (id int PRIMARY KEY, v text)",
                "INSERT INTO shop.open (id, v) VALUES (1, 'x')",
                "CREATE ROLE reader WITH PASSWORD = 'pass:word' AND LOGIN = true",
                "GRANT SELECT ON shop.open TO reader",
            ):
                session.execute(statement)
        yield made
    finally:
        made.server.stop()


def test_a_reader_reads_what_it_may(secured: Secured) -> None:
    with CassandraConnector.connect(secured.source()) as connector:
        binding = bound(connector, "open")
        assert scanned(connector, binding) == [{"id": 1, "v": "x"}]
        assert found(connector, binding, (1,), (2,)) == [{"id": 1, "v": "x"}]


def test_a_missing_grant_is_named_with_the_line_that_gives_it(secured: Secured) -> None:
    with CassandraConnector.connect(secured.source()) as connector, pytest.raises(ConfigError) as caught:
        connector.describe("closed")
    assert "GRANT SELECT ON TABLE shop.closed TO reader;" in str(caught.value)


def test_a_wrong_password_is_refused_and_never_shown(secured: Secured) -> None:
    source = secured.source(password="hunter2")
    with pytest.raises(SourceError, match="refused the login") as caught:
        CassandraConnector.connect(source)
    assert not caught.value.retryable
    assert "hunter2" not in repr(caught.value) + str(caught.value) + repr(source)


def test_no_login_where_one_is_wanted(secured: Secured) -> None:
    url = f"cassandra://127.0.0.1:{secured.server.port}/shop"
    with pytest.raises(SourceError, match="refused the login"):
        CassandraConnector.connect(Source(url, {"cafile": str(secured.cafile)}))


def test_a_certificate_of_another_authority_is_refused(secured: Secured, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(SourceError, match="no TLS connection"):
        CassandraConnector.connect(secured.source(cafile=str(other)))


@pytest.fixture
def elsewhere(secured: Secured) -> Iterator[str]:
    """Another address that leads to the node, which its certificate does not name."""
    host = "127.0.0.3"
    with socket.create_server((host, 0)) as listener:
        threads: list[threading.Thread] = []

        def pump(source: socket.socket, target: socket.socket) -> None:
            with source, target, contextlib.suppress(OSError):
                while data := source.recv(65_536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    node = socket.create_connection((secured.server.host, secured.server.port))
                    for pair in ((client, node), (node, client)):
                        threads.append(threading.Thread(target=pump, args=pair))
                        threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield f"{host}:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        for thread in (accepting, *threads):
            thread.join(timeout=10)


def test_a_certificate_for_another_address_is_refused(secured: Secured, elsewhere: str) -> None:
    url, given = f"cassandra://reader@{elsewhere}/shop", {"cafile": str(secured.cafile)}
    with pytest.raises(SourceError, match="no TLS connection"):
        CassandraConnector.connect(Source(url, given, {"password": "pass:word"}))
    loose = Source(url, {**given, "verify_hostname": "false"}, {"password": "pass:word"})
    with CassandraConnector.connect(loose) as connector:
        assert connector.describe("open").key == ("id",)


def test_plain_text_to_a_tls_port_is_an_error(secured: Secured) -> None:
    url = f"cassandra://reader@127.0.0.1:{secured.server.port}/shop"
    with pytest.raises(SourceError, match="cannot be reached"):
        CassandraConnector.connect(Source(url, {}, {"password": "pass:word"}))
