"""``paritree conformance FILE``: names each mismatch, exits 0, 1 or 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXTRA = Path(__file__).parents[1] / "vectors" / "canonical-v1-extra.json"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "paritree.cli.main", "conformance", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.fixture
def mutated(tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    def write(change: Callable[[Any], None]) -> Path:
        document = json.loads(EXTRA.read_text())
        change(document)
        path = tmp_path / "vectors.json"
        path.write_text(json.dumps(document))
        return path

    return write


def test_a_file_that_matches_exits_0() -> None:
    done = run(EXTRA)
    assert done.returncode == 0, done.stderr
    assert "0 mismatches" in done.stdout


def test_a_mismatch_is_named_with_both_sides_and_exits_1(mutated: Callable[[Callable[[Any], None]], Path]) -> None:
    def change(document: Any) -> None:
        document["values"][0]["canonical"] = "00ff00"
        document["rows"]["cases"][0]["token"] = "AAAAAAAAAAAAAAAA"

    done = run(mutated(change))
    assert done.returncode == 1
    assert "mismatch: values[0] " in done.stdout
    assert "expected 00ff00" in done.stdout
    assert "rows.cases[0].token: expected AAAAAAAAAAAAAAAA" in done.stdout
    assert "2 mismatches" in done.stdout


def test_json_has_the_mismatches_and_nothing_else_on_stdout(mutated: Callable[[Callable[[Any], None]], Path]) -> None:
    path = mutated(lambda document: document["values"][0].update(canonical="00"))
    done = run(path, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["mismatches"][0]["expected"] == "00"
    assert report["file"] == str(path)


def test_a_section_that_is_not_known_is_said(mutated: Callable[[Callable[[Any], None]], Path]) -> None:
    done = run(mutated(lambda document: document.update(trees=[1])))
    assert done.returncode == 0
    assert "not checked: section 'trees'" in done.stdout


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", "not JSON"),
        (b"[]", "an object is needed"),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b'{"version": 2}', "version 2"),
        (b'{"version": 1}', "malformed"),
    ],
)
def test_another_file_exits_2_and_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "vectors.json"
    path.write_bytes(content)
    done = run(path)
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_exits_2(tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere.json")
    assert done.returncode == 2
    assert "nowhere.json" in done.stderr
