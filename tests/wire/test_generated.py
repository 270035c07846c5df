"""The committed modules are those of the .proto files, and a plain gRPC client can talk to the coordinator."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from conftest_tls import agent_tls
from linked import coordinator

from paritree.core.messages import PROTOCOL_VERSION
from paritree.wire import codec, control, regenerate
from paritree.wire.v1 import agent_pb2, agent_pb2_grpc


def test_the_generated_modules_are_up_to_date() -> None:
    assert regenerate.stale() == []


def test_a_changed_module_is_noticed(tmp_path: Path) -> None:
    package = tmp_path / regenerate.PACKAGE
    package.mkdir(parents=True)
    for name, text in regenerate.contents(regenerate.ROOT).items():
        (package / name).write_text(text)
    (package / "agent_pb2.py").write_text("# edited\n")
    (package / "control_pb2.pyi").unlink()
    (package / "old_pb2.py").write_text("")
    assert regenerate.stale(tmp_path) == ["agent_pb2.py", "control_pb2.pyi", "old_pb2.py"]


def test_the_paths_are_those_of_the_services() -> None:
    assert codec.ATTACH == "/paritree.wire.v1.AgentLink/Attach"
    assert (control.SWEEP, control.SERVICE) == ("/paritree.wire.v1.Control/Sweep", "paritree.wire.v1.Control")


@pytest.mark.asyncio
async def test_a_client_of_the_generated_stub_is_understood(pki_dir: Path) -> None:
    tls = agent_tls(pki_dir)
    credentials = grpc.ssl_channel_credentials(tls.authority, tls.credential.key, tls.credential.certificate)
    async with (
        coordinator(pki_dir) as running,
        grpc.aio.secure_channel(f"localhost:{running.port}", credentials) as channel,
    ):
        call = agent_pb2_grpc.AgentLinkStub(channel).Attach()
        hello = agent_pb2.Hello(protocol=PROTOCOL_VERSION, region="eu", agent="a1", instance="other language")
        await call.write(agent_pb2.AgentMessage(hello=hello))
        answer = await call.read()
        assert answer.welcome == agent_pb2.Welcome(protocol=PROTOCOL_VERSION, coordinator="test")
        assert running.regions.link("eu").hello.instance == "other language"
        call.cancel()
