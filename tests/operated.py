"""A coordinator's real server, in a thread with a loop of its own, and the command line against it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest_tls import TRUST_DOMAIN, coordinator_tls

from coordinator.control import Connected, Control
from coordinator.control_rpc import control_handler
from coordinator.identity import operator_of
from coordinator.regions import Regions
from coordinator.store import Store
from coordinator.transport import Server
from paritree.config.datasets import Dataset, Region
from paritree.core.profile import Profile
from paritree.core.types import parse_type

Script = Callable[..., Awaitable[dict[str, Any]]]


def report_of(dataset: str, verdict: str = "equal", **changes: Any) -> dict[str, Any]:
    """A report as a sweep makes it, small but whole."""
    sides = [
        {"name": name, "engine": "memory", "rows": 3, "position": "1", "dead_letters": 0, "scan_s": 0.1,
         "bytes_sent": 2048, "bytes_received": 10}
        for name in ("eu", "us")
    ]  # fmt: skip
    return {
        "report": 1,
        "dataset": dataset,
        "verdict": verdict,
        "verdicts": [{"verdict": verdict, "regions": ["eu", "us"], "reason": "because"}],
        "regions": sides,
        "rounds": 2,
        "bytes": {"control": 0, "nodes": 4096, "sketches": 0, "lists": 0, "details": 20, "revealed": 0},
        "columns": {"compared": ["id", "name"], "ignored": ["note"], "not_compared": []},
        "summary": {"different": 0, "missing": {}, "duplicate": {}, "unsettled": 0, "healed": 0, "unknown": 0},
        "findings_total": 0,
        "findings": [],
        "elapsed_s": 0.2,
        **changes,
    }


@dataclass
class Operated:
    """A coordinator that runs ``script`` for every sweep, and the ``paritree`` command of an operator."""

    folder: Path
    script: Script
    asked: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    async def run(self, dataset: Dataset, regions: Sequence[str], **options: Any) -> dict[str, Any]:
        self.asked.append({"dataset": dataset.name, "regions": tuple(regions), **options})
        return await self.script(**self.asked[-1])

    @property
    def flags(self) -> list[str]:
        certificate = self.folder / "operator-ops"
        files = {"cert": f"{certificate}.pem", "key": f"{certificate}.key", "ca": str(self.folder / "ca.pem")}
        return [f"--address=127.0.0.1:{self.port}", *(f"--{name}={path}" for name, path in files.items())]

    def paritree(self, *arguments: str, flags: Sequence[str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return run_paritree(*arguments, *(self.flags if flags is None else flags))


def run_paritree(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Any:
    """``paritree`` as its own process, without a terminal."""
    command = [sys.executable, "-W", "error", "-m", "paritree.cli.main", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd, env={**os.environ, **(env or {})}
    )


def document(done: subprocess.CompletedProcess[str]) -> Any:
    """What ``--json`` printed: exactly one document and nothing else."""
    assert done.stdout.count("\n") == 1, done.stdout
    return json.loads(done.stdout)


async def served(operated: Operated, folder: Path, ready: threading.Event, stop: asyncio.Event) -> None:
    names, numbers = ("orders", "users"), itertools.count(1)
    datasets = {
        name: Dataset(Profile(name, ("id",), {"id": parse_type("int")}), {r: Region(r) for r in ("eu", "us")}, file="d")
        for name in names
    }
    with Store.open(f"sqlite:///{folder}/store.db") as store:
        store.agent_connected("eu", "eu-1", "one")
        connected = [Connected("eu", "eu-1", names)]
        control = Control(store, operated, datasets, lambda: connected, new_id=lambda: f"sweep-{next(numbers)}")
        handler = control_handler(control, lambda context: operator_of(context, TRUST_DOMAIN).name)
        tls = coordinator_tls(operated.folder)
        server = Server(Regions(1), tls, trust_domain=TRUST_DOMAIN, name="c", handlers=[handler])
        operated.port = await server.start("127.0.0.1:0")
        ready.set()
        await stop.wait()
        await control.stop(0.0)
        await server.stop(0.5)
