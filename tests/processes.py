"""A coordinator and two agents over SQLite as the processes that operators run."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from operated import run_paritree
from orders import orders

from paritree.cli.pki import write_private
from paritree.pki import new_master_key

DATASETS = orders(id="int", name="text")
WAIT_S = 30.0


class Site:
    """A folder with all that a coordinator and two agents over SQLite need, and the processes started from it."""

    def __init__(self, folder: Path, pki: Path) -> None:
        self.folder = folder
        self.pki = pki
        self.processes: list[subprocess.Popen[str]] = []
        (folder / "datasets.toml").write_text(DATASETS)
        write_private(folder / "master.key", new_master_key().encode(), force=False)
        for region in ("eu", "us"):
            self._agent(region)
        self.coordinator_file(0)

    def coordinator_file(self, port: int) -> None:
        files = "\n".join(f'{name} = "{self.pki}/{file}"' for name, file in files_of("coordinator"))
        (self.folder / "coordinator.toml").write_text(
            f'listen = "127.0.0.1:{port}"\ndatasets = "datasets.toml"\nstop_timeout_s = 0.2\nconnect_wait_s = 1.0\n'
            f"{files}\n"
        )

    def _agent(self, region: str) -> None:
        with sqlite3.connect(self.folder / f"{region}.db") as database:
            database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
            database.executemany("INSERT INTO orders VALUES (?, ?)", [(n, f"order {n}") for n in range(100)])
            if region == "us":
                database.execute("DELETE FROM orders WHERE id = 7")
        database.close()
        files = "\n".join(f'{name} = "{self.pki}/{file}"' for name, file in files_of(f"agent-{region}-a1"))
        (self.folder / f"{region}.toml").write_text(
            f'region = "{region}"\nname = "a1"\ndatasets = "datasets.toml"\nmaster_key = "file:master.key"\n'
            f'spool = "spool-{region}"\nexecutor = "serial"\n[coordinator]\naddress = "127.0.0.1:1"\n{files}\n'
            f'[connections.main]\nurl = "sqlite://{self.folder}/{region}.db"\n'
        )

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-m", "paritree.cli.main", *arguments]
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**os.environ, "PARITREE_LOG": "json", **env},
        )
        self.processes.append(process)
        return process

    def coordinator(self, **env: str) -> tuple[subprocess.Popen[str], int]:
        process = self.start("coordinator", "run", "--config", str(self.folder / "coordinator.toml"), **env)
        port = said(process, "listening")["port"]
        self.coordinator_file(port)  # the next one listens on the same port
        return process, port

    def agent(self, region: str, port: int) -> subprocess.Popen[str]:
        address = {"PARITREE_AGENT_COORDINATOR__ADDRESS": f"127.0.0.1:{port}"}
        process = self.start("agent", "run", "--config", str(self.folder / f"{region}.toml"), **address)
        said(process, "connected")
        return process

    def paritree(self, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        flags = [f"--{name}={self.pki}/{file}" for name, file in files_of("operator-ops")]
        done: subprocess.CompletedProcess[str] = run_paritree(*arguments, f"--address=127.0.0.1:{port}", *flags)
        return done


def files_of(name: str) -> list[tuple[str, str]]:
    return [("cert", f"{name}.pem"), ("key", f"{name}.key"), ("ca", "ca.pem")]


def said(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """Read the process's log until it says that."""
    assert process.stderr is not None
    heard: list[str] = []
    for entry in process.stderr:
        heard.append(entry)
        if entry.startswith("{") and (found := json.loads(entry))["event"] == event:
            assert isinstance(found, dict)
            return found
    raise AssertionError(f"ended without saying {event!r}: {heard}")


def ended(process: subprocess.Popen[str], how: signal.Signals) -> int:
    process.send_signal(how)
    _, log = process.communicate(timeout=WAIT_S)
    assert "Traceback" not in log, log
    return process.returncode
