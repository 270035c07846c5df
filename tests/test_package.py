"""The wheel has everything that is needed away from the checkout, and its commands run from there."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("paritree", "edge_agent", "coordinator")


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def tracked() -> list[str]:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES, cwd=ROOT)
    return sorted(name for name in listed.stdout.splitlines() if (ROOT / name).is_file())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what is committed or about to be, without network and without leaving anything in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in (*tracked(), "pyproject.toml", "README.md"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    target = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(target))
    built = run(sys.executable, "-m", "pip", "wheel", *options, str(source), cwd=target)
    assert built.returncode == 0, built.stderr
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a folder of its own; it comes before the checkout on the path of the processes below."""
    target = tmp_path_factory.mktemp("installed")
    options = ("--no-deps", "--no-index", "--quiet", "--target", str(target))
    done = run(sys.executable, "-m", "pip", "install", *options, str(wheel), cwd=target)
    assert done.returncode == 0, done.stderr
    return target


def paritree(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-P", "-m", "paritree.cli.main", *arguments, cwd=cwd, PYTHONPATH=str(installed))


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert [name for name in tracked() if name not in inside] == []
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside
    assert {name.split("/")[0] for name in inside if ".dist-info/" not in name} == set(PACKAGES)


def test_the_entry_points_lead_to_what_is_there(installed: Path, tmp_path: Path) -> None:
    code = """
import json, importlib.metadata as metadata, paritree
distribution = next(iter(metadata.distributions(name="paritree", path=[__import__("sys").argv[1]])))
loaded = {entry.name: entry.load().__module__ for entry in distribution.entry_points}
print(json.dumps({"file": paritree.__file__, "version": [paritree.__version__, distribution.version], **loaded}))
"""
    done = run(sys.executable, "-P", "-c", code, str(installed), cwd=tmp_path, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("file").startswith(str(installed))
    assert len(set(found.pop("version"))) == 1
    assert found.pop("paritree") == "paritree.cli.main"
    assert set(found) == {"postgresql", "cassandra", "sqlite", "duckdb", "parquet", "csv", "memory"}


def test_commands_run_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    assert "conformance" in paritree(installed, tmp_path, "--help").stdout
    vectors = ROOT / "tests" / "vectors" / "canonical-v1-extra.json"
    checked = paritree(installed, tmp_path, "conformance", str(vectors))
    assert (checked.returncode, checked.stdout.endswith(" 0 mismatches\n")) == (0, True), checked
    assert paritree(installed, tmp_path, "pki", "ca", "pki").returncode == 0


def test_a_comparison_runs_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    for name, amount in (("a.db", 1), ("b.db", 2)):
        connection = sqlite3.connect(tmp_path / name)
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, amount INTEGER)")
        connection.execute("INSERT INTO t VALUES (7, ?)", (amount,))
        connection.commit()
        connection.close()
    done = paritree(
        installed,
        tmp_path,
        "diff",
        "a=sqlite:///a.db#t",
        "b=sqlite:///b.db#t",
        "--lag-max",
        "0",
        "--digester",
        "plain",
        "--json",
    )
    assert done.returncode == 1, done.stderr
    [finding] = json.loads(done.stdout)["findings"]
    assert (finding["key"], finding["columns"]) == ({"id": 7}, ["amount"])


def test_the_store_finds_its_migrations_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "import sys; from coordinator.store import Store; Store.open(sys.argv[1]).close()"
    done = run(
        *(sys.executable, "-P", "-c", code, f"sqlite:///{tmp_path}/state.db"),
        cwd=tmp_path,
        PYTHONPATH=str(installed),
    )
    assert done.returncode == 0, done.stderr
    connection = sqlite3.connect(tmp_path / "state.db")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert {"agents", "sweeps", "traffic", "findings"} <= tables
