"""Cassandra behind an SSH bastion: a ring of one node is read through it, a larger one is refused."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate
from servers.bastion import HOST, Bastion, no_forward_left
from servers.cassandra import CassandraServer, settled
from servers.cassandra_keyspace import bound, found, keyspace, scanned

from edge_agent.connectors.cassandra import CassandraConnector
from edge_agent.connectors.contract import Source
from edge_agent.connectors.registry import connect
from paritree.core.errors import ConfigError, SourceError

pytestmark = pytest.mark.servers
HEAP = "512m"


def test_one_node_is_read_through_it_and_a_ring_of_two_is_refused(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        first = CassandraServer(cluster_name="tunnelled", heap=HEAP, num_tokens=8)
        stack.callback(first.stop)
        first.launch().wait()
        bastion = stack.enter_context(Bastion(tmp_path))
        stack.enter_context(no_forward_left())
        source = Source(f"cassandra://{HOST}:{first.port}/shop", bastion.options)
        with keyspace(first, "shop") as made:
            made.create("t", "id int PRIMARY KEY, v text")
            for number in range(300):
                made.run("INSERT INTO {ks}.t (id, v) VALUES (%s, %s)", (number, f"v{number}"))
            read_through(bastion, source, first.port)
            cut_in_the_middle(bastion, source)
            second = CassandraServer(
                cluster_name="tunnelled", heap=HEAP, num_tokens=8, host="127.0.0.2",
                seed=f"{HOST}:{first.storage_port}", storage_port=first.storage_port, port=first.port,
            )  # fmt: skip
            stack.callback(second.stop)
            second.launch().wait()
            settled(first, 2)
            with pytest.raises(ConfigError, match="2 nodes") as caught:
                connect(source)
            assert "run an agent inside that network" in caught.value.next_step


def read_through(bastion: Bastion, source: Source, port: int) -> None:
    with connect(source) as connector:
        assert isinstance(connector, CassandraConnector)
        binding = bound(connector, "t")
        assert sorted(row["id"] for row in scanned(connector, binding)) == list(range(300))
        assert [row["v"] for row in found(connector, binding, (7,), (300,))] == ["v7"]
    assert set(bastion.forwarded) == {(HOST, port)}
    assert bastion.logins == 1


def cut_in_the_middle(bastion: Bastion, source: Source) -> None:
    tried = Source(source.url, {**source.options, "page_rows": "10", "attempts": "2", "timeout_s": "5"})
    with connect(tried) as connector:
        assert isinstance(connector, CassandraConnector)
        binding = bound(connector, "t")
        with connector.plan(binding, 100_000) as plan:
            batches = (batch for shard in plan.shards for batch in connector.scan(binding, shard))
            bastion.stop()
            with pytest.raises(SourceError) as caught:
                list(batches)
    assert caught.value.retryable
    bastion.start()


def test_the_nodes_certificate_is_checked_against_the_urls_name(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    key: Any = load_pem_private_key(issued.private_key_pem.bytes(), None)
    certificate = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    store = serialize_key_and_certificates(b"node", key, certificate, None, BestAvailableEncryption(b"of-this-test"))
    (tmp_path / "node.p12").write_bytes(store)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    encryption = {
        "enabled": True,
        "optional": False,
        "keystore": str(tmp_path / "node.p12"),
        "keystore_password": "of-this-test",
        "store_type": "PKCS12",
    }
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    context.check_hostname = False
    with contextlib.ExitStack() as stack:
        settings = {"client_encryption_options": encryption}
        server = CassandraServer(cluster_name="tunnelled-tls", heap=HEAP, settings=settings)
        stack.callback(server.stop)
        server.launch().wait(ssl_context=context)
        bastion = stack.enter_context(Bastion(tmp_path))
        stack.enter_context(no_forward_left())
        options = {**bastion.options, "cafile": str(tmp_path / "ca.pem")}
        with connect(Source(f"cassandra://localhost:{server.port}", options)) as connector:
            assert connector.tables() == []
        with pytest.raises(SourceError, match="certificate"):
            connect(Source(f"cassandra://{HOST}:{server.port}", options))
