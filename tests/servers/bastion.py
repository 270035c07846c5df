"""A real SSH server on loopback, in a thread of its own, that forwards TCP connections: a bastion to be broken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import asyncssh
import psutil

from edge_agent.connectors.forwards import close_forwards

HOST = "127.0.0.1"
USER = "paritree"


@contextlib.contextmanager
def no_forward_left() -> Iterator[None]:
    """Close the forwards at the end, and see that no thread and no socket of theirs outlives the block."""
    before = sockets()
    yield
    close_forwards()
    deadline = time.monotonic() + 30
    while (sockets() > before or threads()) and time.monotonic() < deadline:
        time.sleep(0.02)  # the bastion's own side of them; a forward that was refused just now
    assert sockets() <= before
    assert threads() == []


def threads() -> list[str]:
    """The threads of forwards."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("paritree-ssh")]


def sockets() -> int:
    """Internet sockets of this process, the tests' bastion included."""
    return len(psutil.Process().net_connections("inet"))


class Bastion:
    """Knows one user and one key. ``allow = False`` refuses forwards; ``stop`` cuts all that goes through it.

    ``folder`` gets ``id`` (the user's key), ``stranger`` (a key that is not let in) and ``known_hosts``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.allow = True
        self.port = 0
        self.logins = 0
        self.forwarded: list[tuple[str, int]] = []
        self._connections: list[asyncssh.SSHServerConnection] = []
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        for name in ("id", "stranger"):
            self.write_key(name)
        self._authorized = asyncssh.import_authorized_keys((folder / "id.pub").read_text())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bastion")
        self._server: asyncssh.SSHAcceptor | None = None

    def write_key(self, name: str, **form: Any) -> None:
        """A new user key as ``name`` and ``name.pub``."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        (self.folder / name).touch(mode=0o600)
        key.write_private_key(str(self.folder / name), **form)
        key.write_public_key(str(self.folder / f"{name}.pub"))

    def start(self) -> None:
        """Listen: on a new port the first time, on the same one later."""
        self._server = self._run(self._listen())
        self.port = self._server.get_port()
        self.know(self._host_key)

    def know(self, key: asyncssh.SSHKey | None) -> None:
        """Write the known hosts file with that host key for this bastion, or without one."""
        line = "" if key is None else f"[{HOST}]:{self.port} {key.export_public_key().decode()}"
        (self.folder / "known_hosts.new").write_text(line)
        os.replace(self.folder / "known_hosts.new", self.folder / "known_hosts")

    def stop(self) -> None:
        """Stop listening and cut every connection. Idempotent."""
        if self._server is not None:
            self._run(self._cut())
            self._server = None

    @property
    def options(self) -> dict[str, str]:
        """What a source has to say to go through it."""
        return {
            "ssh": f"{USER}@{HOST}:{self.port}",
            "ssh_known_hosts": str(self.folder / "known_hosts"),
            "ssh_key": str(self.folder / "id"),
        }

    async def _listen(self) -> asyncssh.SSHAcceptor:
        bastion = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                bastion._connections.append(conn)

            def auth_completed(self) -> None:
                bastion.logins += 1

            def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
                bastion.forwarded.append((dest_host, dest_port))
                if not bastion.allow:
                    raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")
                return True

        return await asyncssh.create_server(
            Server,
            HOST,
            self.port,
            server_host_keys=[self._host_key],
            authorized_client_keys=self._authorized,
            password_auth=False,
            kbdint_auth=False,
        )

    async def _cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.abort()
        for connection in self._connections:
            await connection.wait_closed()
        self._connections.clear()
        await self._server.wait_closed()
        await asyncio.sleep(0.05)  # what it forwarded is closed by callbacks

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
