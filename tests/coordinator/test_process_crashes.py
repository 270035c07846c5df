"""Real processes that are killed with SIGKILL in the middle of sweeps, stopped, and started again."""

from __future__ import annotations

import json
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from operated import document
from processes import WAIT_S, Site, ended, files_of, said

from coordinator.store import NewSweep, Store
from paritree.config.datasets import load_datasets

if TYPE_CHECKING:
    from servers.postgresql import PostgresqlServer

ROOT = Path(__file__).parents[2]
CRASHING = ROOT / "tests" / "crashing.py"
POINTS = [
    *(("start", 1, when) for when in ("before", "after")),
    *(("checkpoint", number, when) for number in (1, 2, 3, 4) for when in ("before", "after")),
    *(("finish", 1, when) for when in ("before", "after")),
]
"""Every write of a sweep over two regions: it starts, each region's first answer, details, second look, outcome."""


@pytest.fixture
def site(tmp_path: Path, pki_dir: Path) -> Iterator[Site]:
    made = Site(tmp_path, pki_dir)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate(timeout=WAIT_S)


def until(condition: Callable[[], bool], wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def crashing(site: Site, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """A process that will kill itself."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(CRASHING), *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )
    site.processes.append(process)
    return process


def row(site: Site) -> dict[str, Any]:
    """The newest sweep as the store's file has it."""
    with closing(sqlite3.connect(site.folder / "coordinator.db")) as database:
        database.row_factory = sqlite3.Row
        found = database.execute("SELECT * FROM sweeps ORDER BY started_at DESC, id DESC LIMIT 1").fetchone()
    return dict(found)


def ordered(site: Site, number: int) -> None:
    """Somebody has asked for a sweep, and the coordinator ended before it began with it."""
    profile_id = load_datasets(site.folder / "datasets.toml")["orders"].profile.profile_id.hex()
    options = {"lag_max_s": 0.0, "purpose": "", "limit": 10}
    with Store.open(f"sqlite:///{site.folder}/coordinator.db") as store:
        store.begin(NewSweep(f"sweep-{number}", f"job-{number}", "orders", ("eu", "us"), options, "ops", profile_id))


class Forked:
    """Coordinators of one site, one after the other; their log is in a file."""

    def __init__(self, site: Site) -> None:
        file = site.folder / "coordinator.toml"
        self.log = site.folder / "coordinators.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", str(CRASHING), "coordinators", str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        site.processes.append(self.process)

        self.said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.put(line)

    def run(self, order: str, until_then: Callable[[], bool] | None = None) -> int:
        """Let one live until it dies, or is killed when something is so; how it ended."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        child = int(self.said.get(timeout=WAIT_S))
        try:
            if until_then is None:
                return int(self.said.get(timeout=WAIT_S))
            until(until_then)
        except (AssertionError, queue.Empty):
            raise AssertionError(f"{order}: {self.log.read_text()[-3_000:]}") from None
        finally:
            if until_then is not None or self.said.empty():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        return int(self.said.get(timeout=WAIT_S))


def test_a_coordinator_killed_at_any_write_of_a_sweep_leaves_it_to_the_next(site: Site) -> None:
    first, port = site.coordinator()
    address = {"PARITREE_AGENT_COORDINATOR__ADDRESS": f"127.0.0.1:{port}"}
    agents = [crashing(site, "agent", str(site.folder / f"{name}.toml"), "0", **address) for name in ("eu", "us")]
    coordinators = Forked(site)
    for agent in agents:
        said(agent, "connected")
    first.kill()
    first.communicate(timeout=WAIT_S)
    for number, (method, call, when) in enumerate(POINTS):
        ordered(site, number)
        assert coordinators.run(f"{method} {call} {when}") == -signal.SIGKILL
        left = row(site)
        assert left["id"] == f"sweep-{number}"
        assert (left["state"] == "finished") == ((method, when) == ("finish", "after"))
        coordinators.run("-", lambda: row(site)["state"] == "finished")
        report = json.loads(row(site)["report"])
        assert report["verdict"] == "different", ((method, call, when), report["verdicts"])
        assert [(one["kind"], one["missing_in"]) for one in report["findings"]] == [("missing", ["us"])]
        assert (row(site)["attempts"], report["ended_early"]) == (1, None)
    assert [agent.poll() for agent in agents] == [None, None]
    for region in ("eu", "us"):
        assert list((site.folder / f"spool-{region}").glob("*/*/*.run")) == []
    assert "Traceback" not in (site.folder / "coordinators.log").read_text()


def test_an_agent_killed_in_its_scan_reads_no_finished_shard_again(site: Site) -> None:
    for region in ("eu", "us"):
        with (site.folder / f"{region}.toml").open("r+") as file:
            text = file.read()
            file.seek(0)
            file.write("shard_rows = 10\n" + text)
    _, port = site.coordinator()
    address = {"PARITREE_AGENT_COORDINATOR__ADDRESS": f"127.0.0.1:{port}"}
    site.agent("us", port)
    dying = crashing(site, "agent", str(site.folder / "eu.toml"), "4", **address)
    said(dying, "connected")
    flags = [f"--{name}={site.pki}/{file}" for name, file in files_of("operator-ops")]
    sweep = site.start("sweep", "orders", "--json", f"--address=127.0.0.1:{port}", *flags)
    dying.communicate(timeout=WAIT_S)
    assert dying.returncode == -signal.SIGKILL
    site.agent("eu", port)
    told, _ = sweep.communicate(timeout=WAIT_S)
    report = json.loads(told)
    assert sweep.returncode == 1
    assert [(one["kind"], one["missing_in"]) for one in report["findings"]] == [("missing", ["us"])]
    assert "eu: 4 of 10 shards had been read before the scan was interrupted" in report["notes"]


def test_sweeps_are_steered_while_the_coordinator_restarts(site: Site) -> None:
    waiting = {"PARITREE_COORDINATOR_CONNECT_WAIT_S": "600"}
    first, port = site.coordinator(**waiting)
    flags = [f"--address=127.0.0.1:{port}"] + [f"--{name}={site.pki}/{file}" for name, file in files_of("operator-ops")]
    follower = site.start("sweep", "orders", "--id", "nightly", *flags)
    until(lambda: (site.folder / "coordinator.db").exists() and row_state(site) == "running")
    first.kill()
    first.communicate(timeout=WAIT_S)
    pausing = site.start("sweep", "pause", "nightly", *flags)
    second, _ = site.coordinator(**waiting)
    said_, _ = pausing.communicate(timeout=WAIT_S)
    assert pausing.returncode == 0
    assert "of orders is paused" in said_
    _, told = follower.communicate(timeout=WAIT_S)
    assert follower.returncode == 3
    assert "paused by" in told
    assert "paritree sweep resume" in told
    second.kill()
    second.communicate(timeout=WAIT_S)
    _third, _ = site.coordinator(**waiting)
    status = document(site.paritree(port, "status", "--json"))
    assert [(one["job_id"], one["state"]) for one in status["sweeps"]] == [("nightly", "paused")]
    assert site.paritree(port, "sweep", "cancel", "nightly").returncode == 0
    report = json.loads(row(site)["report"])
    assert (report["verdict"], report["ended_early"][:13]) == ("unknown", "cancelled by ")


def row_state(site: Site) -> str:
    try:
        return str(row(site)["state"])
    except (TypeError, sqlite3.OperationalError):
        return ""


def test_a_standby_takes_over_from_a_coordinator_that_hangs_which_then_stops(
    site: Site, postgresql: PostgresqlServer
) -> None:
    """One store, two coordinators: never do both drive the sweep, and the one that was overtaken ends by itself."""
    url = postgresql.create_database("store_standby")
    shared = {
        "PARITREE_COORDINATOR_STORE__URL": url,
        "PARITREE_COORDINATOR_STORE__LEASE_S": "5",
        "PARITREE_COORDINATOR_STORE__WAIT_S": "60",
        "PARITREE_COORDINATOR_PATIENCE_S": "0.5",
    }
    first, port = site.coordinator(**shared, PARITREE_COORDINATOR_CONNECT_WAIT_S="600")
    flags = [f"--{name}={site.pki}/{file}" for name, file in files_of("operator-ops")]
    site.start("sweep", "orders", "--id", "nightly", f"--address=127.0.0.1:{port}", *flags)

    def asked(query: str) -> list[Any]:
        with postgresql.connect("store_standby") as connection:
            return connection.execute(query).fetchall()

    until(lambda: asked("SELECT state FROM sweeps") == [("running",)])
    site.coordinator_file(0)
    standby = site.start("coordinator", "run", "--config", str(site.folder / "coordinator.toml"), **shared)
    time.sleep(7.0)  # longer than a lease: as long as the first one renews it, the second one waits
    assert standby.poll() is None
    assert asked("SELECT token FROM leases") == [(1,)]
    first.send_signal(signal.SIGSTOP)
    until(lambda: asked("SELECT token FROM leases") == [(2,)])
    until(lambda: asked("SELECT state, resumed FROM sweeps") == [("finished", 1)])
    before = asked("SELECT * FROM sweeps") + asked("SELECT token, holder, taken_at FROM leases")
    first.send_signal(signal.SIGCONT)
    _, told = first.communicate(timeout=WAIT_S)
    assert first.returncode == 3
    assert "another coordinator has taken over the store" in told
    assert "Traceback" not in told
    assert asked("SELECT * FROM sweeps") + asked("SELECT token, holder, taken_at FROM leases") == before
    assert standby.poll() is None
    assert ended(standby, signal.SIGTERM) == 0
