"""README's first command, run for real: planted = found, README's output is true, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DEMO = [sys.executable, "-P", "-m", "paritree.cli.main", "demo"]
DEMO_S_MAX = 400


def normal(line: str) -> str:
    """A line without what differs from run to run: times, sizes, versions, places, process ids, and widths."""
    line = re.sub(r"version [0-9a-f]{16}", "version V", line)
    line = re.sub(r"\[ *[\d.]+ s\]", "[T]", line)
    line = re.sub(r"[\d.]+ (KiB|B)\b", "N B", line)
    line = re.sub(r"[\d.]+ (s\b|%)", r"N \1", line)
    line = re.sub(r"[\d,]+ bytes( of +[\d,]+)?", "N bytes", line)
    line = re.sub(r" in (DIR|/\S+)$", " in DIR", line)
    return re.sub(r" {2,}", "  ", line).rstrip()


def test_the_demo_finds_what_it_planted_and_readme_shows_it(tmp_path: Path) -> None:
    block = README.split("deploy/paritree demo", 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    done = subprocess.run(
        [*DEMO, "--keep", str(tmp_path / "kept")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEMO_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    real = iter([normal(line) for line in (done.stderr + done.stdout).splitlines()])
    missing = next((line for line in block.splitlines() if line != "…" and normal(line) not in real), None)
    assert missing is None, f"README shows, and the demo does not print at that place: {missing}"
    assert "planted = found" in done.stdout
    assert left_behind(tmp_path) == []
    for folder in ("eu", "us", "ap"):
        assert not list((tmp_path / "kept" / folder / "spool").rglob("*.run")), "the index of a finished sweep stayed"


def test_an_interrupted_demo_stops_its_processes(tmp_path: Path) -> None:
    """Terminated while the agents run: it ends as interrupted, and so do they."""
    process = subprocess.Popen(
        [*DEMO, "--keep", str(tmp_path / "kept")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + DEMO_S_MAX
        while len(left_behind(tmp_path)) < 4:
            assert process.poll() is None, "the demo ended before its agents had started"
            assert time.monotonic() < end, "the agents did not start"
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
        assert left_behind(tmp_path) == []
    finally:
        process.kill()
        process.wait()


def test_a_folder_that_is_not_empty_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    done = subprocess.run(
        [*DEMO, "--keep", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert os.listdir(tmp_path) == ["mine.txt"]


def left_behind(folder: Path) -> list[str]:
    """Servers of a demonstration below that folder that are still running."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        command = process.info["cmdline"] or []
        if (process.info["cwd"] or "").startswith(str(folder)) and "run" in command and "--config" in command:
            found.append(" ".join(command))
    return found
