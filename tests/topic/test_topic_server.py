"""How a topic's server is reached: TLS with certificates, user and password, and what goes wrong there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from servers.nats import NatsServer

from edge_agent.topic.stream import Server, Stream
from paritree.core.errors import ConfigError, SourceError

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority, of the server and of a client."""
    made = tmp_path_factory.mktemp("nats-tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(made / "ca.pem")
    for name, identity in (("server", "localhost"), ("client", "agent@eu")):
        leaf = authority.issue_cert(identity)
        leaf.cert_chain_pems[0].write_to_path(made / f"{name}.pem")
        leaf.private_key_pem.write_to_path(made / f"{name}.key")
    return made


@pytest.fixture(scope="module")
def secured(folder: Path) -> Iterator[NatsServer]:
    """A server that wants certificates from both sides, and a password."""
    tls = [f"--tlscert={folder}/server.pem", f"--tlskey={folder}/server.key", f"--tlscacert={folder}/ca.pem"]
    with NatsServer("--tlsverify", *tls, "--user", "paritree", "--pass", "open sesame") as server:
        yield server


def reached(server: NatsServer, folder: Path, password: str = "open sesame", **said: object) -> Server:
    known = {"ca": folder / "ca.pem", "cert": folder / "client.pem", "key": folder / "client.key", **said}
    return Server(f"tls://localhost:{server.port}", "paritree", {"password": password}, **known)  # type: ignore[arg-type]


def test_a_server_with_tls_and_password(secured: NatsServer, folder: Path) -> None:
    stream = Stream(reached(secured, folder), "CDC", "c", "shop.>")
    try:
        with pytest.raises(ConfigError, match="no such stream"):
            stream.extent()
    finally:
        stream.close()
        stream.close()


@pytest.mark.parametrize("wrong", ["password", "authority", "no certificate"])
def test_what_is_refused_is_said_without_the_password(secured: NatsServer, folder: Path, wrong: str) -> None:
    server = {
        "password": lambda: reached(secured, folder, "wrong word"),
        "authority": lambda: reached(secured, folder, ca=None),
        "no certificate": lambda: reached(secured, folder, cert=None),
    }[wrong]()
    with pytest.raises(SourceError, match="topic CDC: connecting failed") as refused:
        Stream(server, "CDC", "c", "")
    assert "wrong word" not in str(refused.value) + repr(server)


def test_plain_where_tls_is_wanted(nats: NatsServer, folder: Path) -> None:
    with pytest.raises(SourceError, match="connecting failed"):
        Stream(reached(nats, folder), "CDC", "c", "")
    with pytest.raises(ConfigError, match="cannot be used"):
        Stream(reached(nats, folder, ca=folder / "absent.pem"), "CDC", "c", "")
    assert not any(name.startswith("paritree-topic") for name in threads())


def threads() -> list[str]:
    """Names of the threads of this process."""
    return [thread.name for thread in threading.enumerate()]


def test_a_server_without_jetstream() -> None:
    with NatsServer() as server:
        server.stop()
        server.jetstream = False
        server.start()
        stream = Stream(Server(server.url), "CDC", "c", "")
        try:
            with pytest.raises(SourceError, match="JetStream is not enabled"):
                stream.extent()
        finally:
            stream.close()
