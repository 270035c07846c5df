"""The status with which ``deploy/test`` ends, which is all that a machine looks at: with a Python that does as told."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# It stands for Python, pytest, ruff and mypy alike; what it is asked to fail at is in FAILS.
PYTHON = """#!/bin/sh
echo "$*" >>"$(dirname "$0")/../../asked"
case "$*" in *"$FAILS"*) exit 3 ;; esac
"""
STAMPED = '. "$root/deploy/environment.sh"; wanted_stamp >"$root/.venv/stamp"'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose environment is made already, of nothing but that Python."""
    for name in ("deploy/test", "deploy/environment.sh", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "deploy/test").chmod(0o755)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    subprocess.run(["sh", "-c", STAMPED], env={**os.environ, "root": str(tmp_path)}, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("fails", "status", "said"),
    [
        ("nothing", 0, "tests"),
        ("-m pytest", 1, "failed (3)"),
        ("-m mypy", 1, "failed (1)"),
        ("-m ruff format", 1, "failed (1)"),
        ("from edge_agent.connectors", 1, "failed (3)"),
        ("--fetch", 70, "failed (3)"),
    ],
)
def test_it_fails_when_a_step_fails_and_only_then(checkout: Path, fails: str, status: int, said: str) -> None:
    done = subprocess.run(
        [checkout / "deploy/test", "tests/core"],
        env={**os.environ, "FAILS": fails, "TMPDIR": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout
    asked = (checkout / "asked").read_text()
    assert ("-m pytest tests/core" in asked) == ("-m mypy" in asked) == (status != 70)
    assert not list(checkout.glob("tmp.*")), "its scratch folder is left"
