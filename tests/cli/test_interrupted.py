"""A command that is told to end, in whatever way, ends soon and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE_S = 20.0
"""At 100 rows a second each scan takes 50 s: neither shards nor pauses between batches are waited for."""


def table(file: Path) -> str:
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
        database.executemany("INSERT INTO orders VALUES (?, ?)", ((n, f"row {n}") for n in range(5_000)))
    database.close()
    return f"sqlite://{file}#orders"


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_comparison_that_is_told_to_end(tmp_path: Path, number: signal.Signals, executor: str) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    targets = [f"{region}={table(tmp_path / f'{region}.db')}" for region in ("eu", "us", "ap")]
    options = ["--max-rate", "100", "--shard-rows", "1000", "--executor", executor]
    command = [sys.executable, "-m", "paritree.cli.main", "diff", *targets, *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 60.0
        while not list(temporary.glob("*/*/*/*")) and time.monotonic() < until:  # the spool of a sweep that scans
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert "Exception" not in err
    assert list(temporary.iterdir()) == []
