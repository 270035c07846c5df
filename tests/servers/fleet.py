"""A coordinator and agents as separate processes, from files that a user would write; stopped by their pids."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from servers.ports import free_port

PARITREE = [sys.executable, "-m", "paritree.cli.main"]
CONNECT_S = 180.0
RECORDER = """
import os, sys
import paritree.wire.codec as codec
decode, out = codec.decode_from_agent, open(sys.argv.pop(1), "ab", buffering=0)
def recorded(data):
    out.write(len(data).to_bytes(4, "big") + data)
    return decode(data)
codec.decode_from_agent = recorded
from paritree.cli.main import main
main()
"""
"""Runs the command line, and writes every message that comes from an agent into a file first."""


def paritree(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    env = {**os.environ, **environment}
    return subprocess.run([*PARITREE, *args], capture_output=True, text=True, env=env, timeout=300, check=False)


class Fleet:
    """One coordinator and any number of agents in a folder. Use as a context manager."""

    def __init__(self, folder: Path, pki: Path, *, store: str = "sqlite:///coordinator.db") -> None:
        self.folder = folder
        self.pki = pki
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.store = store
        (folder / "master.key").write_text(bytes(range(32)).hex() + "\n")
        (folder / "master.key").chmod(0o600)

    def datasets(self, text: str) -> None:
        """Write the datasets file that all sides read."""
        (self.folder / "datasets.toml").write_text(text)

    def start_coordinator(
        self,
        record: Path | None = None,
        *,
        command: Sequence[str] = PARITREE,
        extra: str = "",
        listen: str = "127.0.0.1",
    ) -> None:
        """``record`` is a file that gets every message from the agents, as it came out of TLS.

        ``command`` is what takes the arguments of the command line, ``extra`` goes into the file's top.
        """
        file = self.folder / "coordinator.toml"
        file.write_text(
            f'listen = "{listen}:{self.port}"\ndatasets = "datasets.toml"\n'
            f'cert = "{self.pki}/coordinator.pem"\nkey = "{self.pki}/coordinator.key"\nca = "{self.pki}/ca.pem"\n'
            f'connect_wait_s = 2.0\n{extra}\n[store]\nurl = "{self.store}"\n'
            f'[client]\naddress = "localhost:{self.port}"\ncert = "{self.pki}/operator-ops.pem"\n'
            f'key = "{self.pki}/operator-ops.key"\nca = "{self.pki}/ca.pem"\n'
        )
        if record is not None:
            command = [sys.executable, "-c", RECORDER, str(record)]
        self._start("coordinator", "coordinator", "run", "--config", str(file), command=command)

    def agent_file(
        self, region: str, url: str, *, extra: str = "", edit: Callable[[str], str] = lambda text: text
    ) -> Path:
        """Write one region's agent file, as ``edit`` leaves it."""
        name = f"agent-{region}-a1"
        file = self.folder / f"agent-{region}.toml"
        text = (
            f'region = "{region}"\nname = "a1"\ndatasets = "datasets.toml"\nmaster_key = "file:master.key"\n'
            f'spool = "spool-{region}"\n{extra}\n'
            f'[coordinator]\naddress = "localhost:{self.port}"\ncert = "{self.pki}/{name}.pem"\n'
            f'key = "{self.pki}/{name}.key"\nca = "{self.pki}/ca.pem"\n[connections.main]\nurl = "{url}"\n'
        )
        file.write_text(edit(text))
        return file

    def start_agent(self, region: str, url: str, *, command: Sequence[str] = PARITREE, **options: Any) -> None:
        file = self.agent_file(region, url, **options)
        self._start(f"agent-{region}", "agent", "run", "--config", str(file), command=command)

    def _start(self, name: str, *args: str, command: Sequence[str] = PARITREE) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self.processes[name] = subprocess.Popen([*command, *args], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        """A client command against this fleet's coordinator."""
        return paritree(*args, "--config", str(self.folder / "coordinator.toml"))

    def wait_connected(
        self, regions: Sequence[str], *, others_may_end: bool = False, within_s: float = CONNECT_S
    ) -> Mapping[str, Any]:
        """Until these regions are connected. Raises AssertionError with the logs when they are not in time."""
        deadline = time.monotonic() + within_s
        status: dict[str, Any] = {}
        while time.monotonic() < deadline:
            answer = self.command("status", "--json")
            if answer.returncode == 0:
                status = json.loads(answer.stdout)
                connected = {r["name"] for r in status["regions"] if r["connected"]}
                if set(regions) <= connected:
                    return status
            if not others_may_end:
                self._check_alive()
            time.sleep(0.2)
        raise AssertionError(f"not connected: {status}\n" + "\n".join(self.log(name) for name in self.processes))

    def _check_alive(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise AssertionError(f"{name} ended with {process.returncode}:\n{self.log(name)}")

    def sweep(self, *args: str) -> tuple[dict[str, Any], int]:
        """Run ``paritree sweep --json``: the report and the exit code."""
        answer = self.command("sweep", *args, "--json")
        assert answer.stdout, answer.stderr
        return json.loads(answer.stdout), answer.returncode

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop one process and wait for its end."""
        process = self.processes.pop(name)
        process.send_signal(how)
        return process.wait(timeout=60)

    def __enter__(self) -> Self:
        return self

    def stop_all(self) -> None:
        """Stop every process; one that does not end in time is killed."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def __exit__(self, *_: object) -> None:
        self.stop_all()
