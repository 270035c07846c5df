"""The agent's way to the coordinator through an SSH bastion, and what its file says of both ways."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest
from conftest_tls import agent_tls
from linked import ScriptedService, coordinator
from servers.bastion import HOST, Bastion, no_forward_left
from servers.postgresql import PostgresqlServer

from edge_agent.connectors.bastion import Bastion as Hop
from edge_agent.connectors.registry import connect
from edge_agent.serve import leading_of, source_of
from edge_agent.session import AgentSession
from edge_agent.tunnel import through
from paritree.config.agent import load_agent
from paritree.core.errors import PeerError
from paritree.wire.dial import Address


@pytest.fixture
def bastion(tmp_path: Path) -> Iterator[Bastion]:
    with Bastion(tmp_path) as running, no_forward_left():
        yield running


AGENT = """
region = "eu"
name = "a1"
datasets = "datasets.toml"
master_key = "file:master.key"
spool = "spool"
[coordinator]
address = "{host}:{port}"
cert = "agent.pem"
key = "agent.key"
ca = "ca.pem"
{ssh}
[connections.main]
url = "{url}"
{ssh}
ssh_key_passphrase = "env:TUNNEL_PASSPHRASE"
"""


async def _greeting(reached: Address) -> bytes:
    reader, writer = await asyncio.open_connection(reached.host, reached.port)
    writer.write(b"\0\0\0\x08\x04\xd2\x16\x2f")  # "may I speak TLS?", to which PostgreSQL says N or S
    answer = await reader.read(1)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.servers
@pytest.mark.asyncio
async def test_an_agents_file_leads_both_ways_through_it(
    bastion: Bastion, postgresql: PostgresqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNNEL_PASSPHRASE", "hush")
    key = asyncssh.read_private_key(str(tmp_path / "id"))
    key.write_private_key(str(tmp_path / "encrypted"), format_name="pkcs8-pem", passphrase="hush")
    (tmp_path / "encrypted").chmod(0o600)
    ssh = f'ssh = "{bastion.options["ssh"]}"\nssh_known_hosts = "known_hosts"\nssh_key = "KEY"'
    port = postgresql.port
    text = (
        AGENT.format(host=HOST, port=port, url=postgresql.url(), ssh=ssh)
        .replace("KEY", "id", 1)
        .replace("KEY", "encrypted")
    )
    (tmp_path / "agent.toml").write_text(text)
    config = load_agent(tmp_path / "agent.toml")
    source = source_of(config, "main", config.connections["main"])
    assert source.secrets == {"ssh_key_passphrase": "hush"}
    with connect(source) as connector:
        assert connector.tables() == []
    async with leading_of(config)(Address.parse(config.coordinator.address)) as reached:
        assert reached.port != port
        assert reached.server_name == HOST
        assert await _greeting(reached) == b"N"


@pytest.mark.asyncio
async def test_an_agent_reaches_the_coordinator_through_it_and_again_after_a_cut(
    bastion: Bastion, pki_dir: Path
) -> None:
    async with coordinator(pki_dir) as running:
        address = Address.parse(f"{HOST}:{running.port}", "localhost")
        hop = Hop.of(bastion.options, {})
        session = AgentSession(
            ScriptedService(), address, agent_tls(pki_dir), rng=random.Random(1), leading=through(hop)
        )
        task = asyncio.create_task(session.run())
        try:
            await running.link()
            await asyncio.to_thread(bastion.stop)
            async with asyncio.timeout(20):
                while session.connected.is_set():
                    await asyncio.sleep(0.02)
                await asyncio.to_thread(bastion.start)
                await session.connected.wait()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert set(bastion.forwarded) == {(HOST, running.port)}
    assert bastion.logins == 2


@pytest.mark.asyncio
async def test_the_coordinators_name_is_checked_behind_it(bastion: Bastion, pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        address = Address.parse(f"{HOST}:{running.port}", "other.example.org")
        leading = through(Hop.of(bastion.options, {}))
        session = AgentSession(ScriptedService(), address, agent_tls(pki_dir), rng=random.Random(1), leading=leading)
        with pytest.raises(PeerError, match=r"other\.example\.org") as caught:
            await asyncio.wait_for(session.run(), 20)
    assert not caught.value.retryable
    assert "through the SSH bastion" in caught.value.message


@pytest.mark.asyncio
async def test_what_the_bastion_refuses_is_an_error_of_the_peer(bastion: Bastion, pki_dir: Path) -> None:
    bastion.know(None)
    leading = through(Hop.of(bastion.options, {}))
    address = Address.parse("coordinator.example.org:7443")
    session = AgentSession(ScriptedService(), address, agent_tls(pki_dir), rng=random.Random(1), leading=leading)
    with pytest.raises(PeerError, match="is unknown") as caught:
        await asyncio.wait_for(session.run(), 20)
    assert caught.value.next_step
    bastion.stop()
    with pytest.raises(PeerError, match="cannot reach") as caught:
        async with leading(address):
            raise AssertionError("not reached")
    assert caught.value.retryable
