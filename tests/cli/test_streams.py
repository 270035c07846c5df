"""Standard streams that are closed or full: no exit code says anything but what was found, or that it went wrong."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from paritree.cli.output import EXIT_DIFFERENT, EXIT_EQUAL, EXIT_INTERNAL

PARITREE = f"{sys.executable} -m paritree.cli.main"


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is compared by its outcome."""
    folder = tmp_path_factory.mktemp("streams")
    for name, rows in (("a", 3), ("b", 3), ("c", 4)):
        with sqlite3.connect(folder / f"{name}.db") as database:
            database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
            database.executemany("INSERT INTO orders VALUES (?)", ((n,) for n in range(rows)))
        database.close()
    eu, same, other = (f"sqlite://{folder}/{name}.db#orders" for name in "abc")
    return {"equal": f"eu={eu} us={same}", "different": f"eu={eu} us={other} --lag-max 0"}


def ended(line: str) -> tuple[int, str, str]:
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("verdict", "code"), [("equal", EXIT_EQUAL), ("different", EXIT_DIFFERENT)])
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_what_cannot_be_said_changes_no_result(targets: dict[str, str], verdict: str, code: int, stderr: str) -> None:
    status, out, _ = ended(f"{PARITREE} diff {targets[verdict]} {stderr}")
    assert out.startswith(f"diff: {verdict}")
    assert status == code


@pytest.mark.parametrize("rest", ["diff TARGETS", "diff TARGETS --json", "--help", "diff --help", "status --json"])
def test_a_result_that_cannot_be_written_is_an_error(targets: dict[str, str], tmp_path: Path, rest: str) -> None:
    status, _, err = ended(f"cd {tmp_path} && {PARITREE} {rest.replace('TARGETS', targets['equal'])} >/dev/full")
    assert status == EXIT_INTERNAL, err
    assert "cannot be written: No space left on device" in err or rest == "diff --help"  # which is Typer's
    assert "Traceback" not in err


def test_with_all_closed_the_exit_code_is_what_is_left(targets: dict[str, str]) -> None:
    for verdict, code in (("equal", EXIT_EQUAL), ("different", EXIT_DIFFERENT)):
        assert ended(f"{PARITREE} diff {targets[verdict]} <&- >&- 2>&-")[0] == code


def test_a_reader_that_has_gone(targets: dict[str, str]) -> None:
    status, _, err = ended(f"{{ {PARITREE} diff {targets['equal']}; echo $? >&2; }} | true")
    assert "Traceback" not in err
    assert status == 0
    assert err.splitlines()[-1] == "141"
