"""Serial, threads and Dask give identical trees, and a Dask worker that dies takes only its shards with it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.build import Built, Copy, build_index
from edge_agent.connectors.contract import Source
from edge_agent.executors import DaskExecutor, DaskOptions, Executor, SerialExecutor, ThreadExecutor
from paritree.core.digest import DatasetKeys
from paritree.core.errors import ConfigError, SourceError
from paritree.core.messages import Progress
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type

ROWS = 50_000
SHARD_ROWS = 2_000
COLUMNS = {"id": "int", "name": "text", "amount": "decimal(2)", "at": "timestamp(ms)"}
START_S_MAX = 60.0


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite table with holes in its keys."""
    path = tmp_path_factory.mktemp("table") / "orders.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, amount TEXT, at TEXT)")
        rows = (
            (
                number * 3,
                None if number % 11 == 0 else f"näme {number}",
                f"{number % 997}.{number % 1000:03}",
                f"2013-{number % 12 + 1:02}-{number % 28 + 1:02} {number % 24:02}:00:00.{number % 1000:03}Z",
            )
            for number in range(ROWS)
        )
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", rows)
    return path


@pytest.fixture
def build(table: Path, tmp_path: Path) -> Callable[..., Built]:
    """Build the index of the table with an executor, into a spool of that name."""

    def run(
        executor: Executor, spool: str, note: Callable[[Progress], None] = lambda _: None, path: Path = table
    ) -> Built:
        kinds = {name: parse_type(written) for name, written in COLUMNS.items()}
        profile = Profile("orders", ("id",), kinds)
        bound = tuple(BoundColumn(name, kind, source=name) for name, kind in kinds.items())
        keys = DatasetKeys.of(bytes(range(32)), "orders")
        copy = Copy(Source(f"sqlite:///{path}"), profile, Binding("orders", "orders", ("id",), bound), keys, SHARD_ROWS)
        return build_index(copy, executor, tmp_path / spool, note)

    return run


def tree(built: Built) -> dict[str, Any]:
    """Everything that an index is: root, level sums, and each run's rows."""
    sums = built.index.sums
    runs = [
        (run.key_digests(0, run.rows).tobytes(), [(run.row_digest(row), run.locator(row)) for row in range(run.rows)])
        for run in built.index.runs
    ]
    return {
        "root": (sums.root.count, sums.root.r, sums.root.r2),
        "level": (sums.bits, sums.r.tobytes(), sums.fold(4).r.tobytes()),
        "shards": built.shards,
        "runs": runs,
        "dead": built.dead,
    }


@pytest.fixture
def serial(build: Callable[..., Built]) -> dict[str, Any]:
    with SerialExecutor() as executor:
        expected = tree(build(executor, "serial"))
    assert expected["root"][0] == ROWS
    assert expected["shards"] >= 20
    assert expected["dead"].total == 0
    return expected


def test_threads_give_the_serial_tree(build, serial):
    with ThreadExecutor(4) as executor:
        assert tree(build(executor, "threads")) == serial


def test_a_local_cluster_gives_the_serial_tree_even_when_a_worker_dies(build, serial):
    with DaskExecutor(DaskOptions(workers=2)) as executor:
        assert tree(build(executor, "whole")) == serial
        killed: list[int] = []
        finished: list[int] = []

        def note(progress: Progress) -> None:
            finished.append(progress.shards_done)
            if progress.shards_done >= 5 and not killed:
                killed.append(worker_pids(executor)[0])
                os.kill(killed[0], signal.SIGKILL)

        assert tree(build(executor, "killed", note)) == serial
        assert killed
        assert killed[0] not in worker_pids(executor)
        assert finished == list(range(serial["shards"] + 1)), "a finished shard is not scanned again"


def worker_pids(executor: DaskExecutor) -> list[int]:
    return sorted(executor._client.run(os.getpid).values())


class Cluster:
    """A scheduler and its workers as processes of their own, over TLS with certificates of one authority."""

    def __init__(self, folder: Path) -> None:
        from distributed.security import Security

        made = Security.temporary()
        self.folder = folder
        self.files = {"ca": folder / "ca.pem", "cert": folder / "cert.pem", "key": folder / "key.pem"}
        self.files["ca"].write_text(made.tls_ca_file)
        self.files["cert"].write_text(made.tls_client_cert)
        self.files["key"].write_text(made.tls_client_key)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.address = ""

    @property
    def options(self) -> DaskOptions:
        return DaskOptions(address=self.address, **{name: str(path) for name, path in self.files.items()})

    def start(self) -> None:
        known = self.folder / "scheduler.json"
        self._run(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--protocol", "tls", "--scheduler-file", str(known)
        )
        deadline = time.monotonic() + START_S_MAX
        while not (known.exists() and "tls://" in known.read_text()):
            assert self.processes[0].poll() is None, (self.folder / "scheduler.log").read_text()
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.05)

        self.address = json.loads(known.read_text())["address"]
        self._run("worker", self.address, "--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))

    def _run(self, what: str, *arguments: str) -> None:
        tls = ["--tls-ca-file", "ca", "--tls-cert", "cert", "--tls-key", "key"]
        given = [str(self.files.get(word, word)) for word in tls]
        command = [sys.executable, "-m", "dask", what, *arguments, "--no-dashboard", *given]
        with (self.folder / f"{what}.log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder))

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = Cluster(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_given_scheduler_over_tls_gives_the_serial_tree(build, serial, cluster, tmp_path):
    with DaskExecutor(cluster.options) as executor:
        assert executor._client.scheduler.address.startswith("tls://")
        assert tree(build(executor, "given")) == serial
    foreign = Cluster(tmp_path)
    foreign.address = cluster.address
    with pytest.raises(SourceError) as refused:
        DaskExecutor(foreign.options)
    assert "scheduler" in str(refused.value)
    assert refused.value.next_step


def test_a_scheduler_without_tls_is_refused():
    with pytest.raises(ConfigError) as refused:
        DaskExecutor(DaskOptions(address="tcp://127.0.0.1:8786", ca="ca", cert="cert", key="key"))
    assert "TLS" in str(refused.value)


def test_a_source_that_goes_away_ends_the_scan_in_every_executor(table, build, tmp_path):
    for name, executor in (("serial", SerialExecutor()), ("threads", ThreadExecutor(2))):
        copy = tmp_path / f"{name}.db"
        shutil.copy(table, copy)

        def go_away(progress: Progress, copy: Path = copy) -> None:
            if progress.shards_done == 3:
                copy.unlink(missing_ok=True)

        with executor, pytest.raises((SourceError, ConfigError)) as refused:
            build(executor, name, go_away, copy)
        assert copy.name in str(refused.value)
