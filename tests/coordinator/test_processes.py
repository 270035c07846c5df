"""Coordinator and agents as the processes that operators run: start, signals, restarts, refusals."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from operated import document, run_paritree
from processes import WAIT_S, Site, ended, files_of, said


@pytest.fixture
def site(tmp_path: Path, pki_dir: Path) -> Iterator[Site]:
    made = Site(tmp_path, pki_dir)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=WAIT_S)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def regions(site: Site, port: int) -> dict[str, bool]:
    status = document(site.paritree(port, "status", "--json"))
    return {region["name"]: region["connected"] for region in status["regions"]}


def test_a_sweep_over_processes_restarts_and_signals(site: Site) -> None:
    coordinator, port = site.coordinator()
    eu, us = site.agent("eu", port), site.agent("us", port)
    assert regions(site, port) == {"eu": True, "us": True}
    report = document(swept := site.paritree(port, "sweep", "orders", "--json"))
    assert swept.returncode == 1
    (finding,) = report["findings"]
    assert (finding["kind"], finding["missing_in"], finding["key"]) == ("missing", ["us"], None)
    revealed = run_paritree("agent", "reveal", finding["token"], "--json", "--config", str(site.folder / "eu.toml"))
    assert document(revealed)["keys"][0]["key"] == {"id": 7}
    (logged,) = (site.folder / "spool-eu" / "reveals.log").read_text().splitlines()
    assert json.loads(logged)["tokens"] == [finding["token"]]
    assert (site.folder / "spool-eu" / "reveals.log").stat().st_mode & 0o777 == 0o600

    assert ended(us, signal.SIGTERM) == 0
    until(lambda: regions(site, port) == {"eu": True, "us": False})
    without = site.paritree(port, "sweep", "orders", "--json")
    assert without.returncode == 3
    assert document(without)["verdict"] == "unknown"

    assert ended(coordinator, signal.SIGTERM) == 0
    coordinator, port = site.coordinator()
    said(eu, "connected")  # by itself
    page = document(site.paritree(port, "findings", "--sweep", report["sweep_id"], "--json"))
    assert page["findings"] == report["findings"]
    assert ended(eu, signal.SIGINT) == 130
    assert ended(coordinator, signal.SIGINT) == 130
    assert list((site.folder / "spool-eu").glob("*/*/*.run")) == []


def test_a_sweep_and_its_follower_survive_a_coordinator_that_is_killed(site: Site) -> None:
    # Nobody is connected, so the sweep waits, for longer than the coordinator lives.
    coordinator, port = site.coordinator(PARITREE_COORDINATOR_CONNECT_WAIT_S="600")
    flags = [f"--{name}={site.pki}/{file}" for name, file in files_of("operator-ops")]
    sweep = site.start("sweep", "orders", "--json", "--id", "nightly", f"--address=127.0.0.1:{port}", *flags)

    def state() -> str:
        with sqlite3.connect(site.folder / "coordinator.db") as database:
            found = database.execute("SELECT state FROM sweeps").fetchall()
        database.close()
        return str(found[0][0]) if found else ""

    until(lambda: state() == "running")
    coordinator.kill()
    coordinator.communicate(timeout=WAIT_S)
    assert state() == "running"
    coordinator, port = site.coordinator(PARITREE_COORDINATOR_PATIENCE_S="0.5")
    report, told = sweep.communicate(timeout=WAIT_S)
    assert sweep.returncode == 3
    assert "trying again" in told
    assert "Traceback" not in told
    assert (json.loads(report)["verdict"], json.loads(report)["resumed"]) == ("unknown", 1)
    again = site.paritree(port, "sweep", "orders", "--id", "nightly", "--json")
    assert (again.returncode, document(again)) == (3, json.loads(report))
    other = site.paritree(port, "sweep", "orders", "--id", "nightly", "--max-rows", "5")
    assert other.returncode == 2
    assert "with another max_rows" in other.stderr
    assert site.paritree(port, "sweep", "cancel", "nightly").returncode == 2
    assert state() == "finished"


def test_a_second_coordinator_and_a_second_agent_are_refused(site: Site) -> None:
    _, port = site.coordinator()
    site.agent("eu", port)
    second = run_paritree("coordinator", "run", "--config", str(site.folder / "coordinator.toml"))
    assert second.returncode == 2
    assert "another coordinator uses it" in second.stderr
    second = run_paritree("agent", "run", "--config", str(site.folder / "eu.toml"))
    assert second.returncode == 2
    assert "another agent uses it" in second.stderr


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PARITREE_AGENT_REGION", "us", "speaks for agent a1 of region eu, and"),
        ("PARITREE_AGENT_NAME", "a2", "speaks for agent a1 of region eu, and"),
        ("PARITREE_AGENT_MASTER_KEY", "env:NOWHERE", "master_key: the environment variable NOWHERE is not set"),
        ("PARITREE_AGENT_COORDINATOR__CA", "none.pem", "none.pem"),
        ("PARITREE_AGENT_CONNECTIONS__MAIN__URL", "oracle://x/y", "connections.main.url: no connector for 'oracle:'"),
        ("PARITREE_AGENT_CONNECTIONS__MAIN__PASSWORD", "file:none", "connections.main.password"),
        ("PARITREE_AGENT_SPOOL", "/dev/null/spool", "spool /dev/null/spool: cannot be used"),
        ("PARITREE_AGENT_DATASETS", "none.toml", "none.toml: cannot be read"),
    ],
)
def test_what_is_wrong_with_an_agent_is_found_before_it_dials(
    site: Site, variable: str, value: str, message: str
) -> None:
    done = run_paritree("agent", "run", "--config", str(site.folder / "eu.toml"), env={variable: value})
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PARITREE_COORDINATOR_LISTEN", "203.0.113.1:7443", "cannot listen on 203.0.113.1:7443"),
        ("PARITREE_COORDINATOR_STORE__URL", "mysql://x", "no support for 'mysql:'"),
        ("PARITREE_COORDINATOR_KEY", "none.key", "none.key"),
        ("PARITREE_COORDINATOR_DATASETS", "none.toml", "none.toml: cannot be read"),
    ],
)
def test_what_is_wrong_with_a_coordinator_is_found_at_once(site: Site, variable: str, value: str, message: str) -> None:
    done = run_paritree("coordinator", "run", "--config", str(site.folder / "coordinator.toml"), env={variable: value})
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_agents_certificate_does_not_make_a_coordinator(site: Site) -> None:
    files = {f"PARITREE_COORDINATOR_{name.upper()}": f"{site.pki}/{file}" for name, file in files_of("agent-eu-a1")}
    done = run_paritree("coordinator", "run", "--config", str(site.folder / "coordinator.toml"), env=files)
    assert done.returncode == 2
    assert "agent-eu-a1.pem" in done.stderr


def test_what_a_dead_agent_left_is_removed_and_nothing_else(site: Site) -> None:
    spool = site.folder / "spool-eu"
    left = spool / "orders" / "sweep-1"
    left.mkdir(parents=True)
    for name in ("000001.run", "000002.partial", "letter.txt"):
        (left / name).write_text("x")
    (spool / "orders" / "tokens").write_text("")
    (spool / "orders" / "sweep-2").mkdir()
    (spool / "orders" / "sweep-2" / "000001.run").write_text("x")
    _, port = site.coordinator()
    site.agent("eu", port)
    assert sorted(path.name for path in (spool / "orders").rglob("*")) == ["letter.txt", "sweep-1", "tokens"]
