"""A real NATS server with JetStream for tests: its own folder and free loopback port, and a plain way to fill streams.

``with NatsServer() as server: server.url``. It is stopped by the process id that was started, and by the kernel when
the starting process dies.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import nats
from servers.ports import HOST, free_port
from servers.prefixes import with_parent

START_S_MAX = 20.0


class NatsServer:
    """One server; ``arguments`` are added to its command line."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments
        self.jetstream = True
        self.directory = Path(tempfile.mkdtemp(prefix="paritree-nats-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    def start(self) -> None:
        """Start it; returns when it accepts connections. Streams of an earlier start are there again."""
        program = shutil.which("nats-server") or "/usr/sbin/nats-server"
        command = [*with_parent(signal.SIGINT), program, "-a", HOST, "-p", str(self.port), *self.arguments]
        command += ["-js", "-sd", str(self.directory)] if self.jetstream else []
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + START_S_MAX
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection((HOST, self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        said = (self.directory / "log").read_text(errors="replace")[-2_000:]
        raise RuntimeError(f"nats-server does not start (it ended with {self._process.poll()}): {said}")

    def stop(self) -> None:
        """Stop it; its streams stay."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- what tests do with it --------------------------------------------------------------------------------------

    def asked(self, what: str, asked: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """An answer of the JetStream API, whatever it is."""

        async def ask() -> dict[str, Any]:
            client = await nats.connect(self.url)
            try:
                reply = await client.request(f"$JS.API.{what}", json.dumps(asked or {}).encode(), timeout=10)
                said: dict[str, Any] = json.loads(reply.data)
                return said
            finally:
                await client.close()

        return asyncio.run(ask())

    def make(self, stream: str, *subjects: str, **config: Any) -> None:
        """A stream, made anew."""
        self.asked(f"STREAM.DELETE.{stream}")
        said = {"name": stream, "subjects": subjects, "storage": "file", "retention": "limits", **config}
        answer = self.asked(f"STREAM.CREATE.{stream}", said)
        assert "error" not in answer, answer

    def publish(self, subject: str, *messages: Any, headers: Mapping[str, str] | None = None) -> list[int]:
        """Messages (bytes, or documents as JSON), each stored when this returns; their sequences."""

        async def send() -> list[int]:
            client = await nats.connect(self.url)
            try:
                stream = client.jetstream()
                data: Sequence[bytes] = [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
                return [(await stream.publish(subject, one, headers=dict(headers or {}) or None)).seq for one in data]
            finally:
                await client.close()

        return asyncio.run(send())
