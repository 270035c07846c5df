"""The command as a whole: its help is quick, its commands are there, its log stays off stdout."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from operated import run_paritree

from paritree import __version__
from paritree.cli.main import COMMANDS, app, load

HELP_S_MAX = 0.4
HEAVY = ("numpy", "pyarrow", "dask", "distributed", "grpc", "sqlalchemy", "pydantic", "structlog", "rich", "numba")
FOR_OTHERS = (
    *("sqlalchemy", "alembic", "pandas", "duckdb", "cassandra", "distributed", "numba"),
    *("nats", "pydantic", "pydantic_settings", "numpy.ma", "rich"),
)
EXPECTED = [
    *("demo", "init", "diff", "sweep", "status", "watch", "findings", "dlq"),
    *("agent", "index", "coordinator", "doctor", "pki", "conformance"),
]


def test_the_commands_are_those_of_the_design() -> None:
    assert list(COMMANDS) == EXPECTED
    for name in COMMANDS:
        assert find_spec(f"paritree.cli.{name}") is not None


@pytest.mark.parametrize("name", EXPECTED)
def test_every_command_loads_and_has_help(name: str) -> None:
    done = run_paritree(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")
    assert "--install-completion" not in done.stdout
    assert load(name).name == name


def test_help_names_every_command_and_imports_none() -> None:
    code = (
        "import sys; from paritree.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_a_diff_loads_no_store_and_no_pandas(tmp_path: Path) -> None:
    """Half a second of every start, where pandas is installed: pyarrow asks for it with the first array."""
    path = tmp_path / "a.db"
    sqlite3.connect(path).execute("CREATE TABLE t (id INTEGER PRIMARY KEY)").connection.close()
    code = (
        "import sys; from paritree.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as ended: print(ended.code, file=sys.stderr)\n"
        f"print([name for name in {FOR_OTHERS!r} if name in sys.modules], file=sys.stderr)"
    )
    arguments = ("diff", f"a=sqlite:///{path}#t", f"b=sqlite:///{path}#t", "--lag-max", "0", "--json")
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["verdict"] == "equal"
    assert done.stderr.splitlines()[-2:] == ["0", "[]"]


def test_help_is_quick() -> None:
    """CPU seconds, not wall time: the machine may have other things to do."""
    import resource

    def cpu_s() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    best = float("inf")
    for _ in range(3):
        began = cpu_s()
        subprocess.run([sys.executable, "-m", "paritree.cli.main", "--help"], capture_output=True, check=True)
        best = min(best, cpu_s() - began)
    assert best <= HELP_S_MAX


def test_version_and_unknown_commands() -> None:
    assert run_paritree("--version").stdout == f"paritree {__version__}\n"
    done = run_paritree("swep")
    assert done.returncode == 2
    assert "Did you mean 'sweep'" in done.stderr
    assert done.stdout == ""
    assert run_paritree("sweep", "--limit", "many", "x").returncode == 2
    assert run_paritree("sweep", "--nonsense").returncode == 2


def test_a_mistake_has_no_traceback_unless_asked_for(tmp_path: Path) -> None:
    done = run_paritree("agent", "run", "--config", str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert "none.toml: cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    done = run_paritree("--debug", "agent", "run", "--config", str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_the_log_is_configured_by_the_environment() -> None:
    assert run_paritree("status", "--help", env={"PARITREE_LOG_LEVEL": "debug", "PARITREE_LOG": "json"}).returncode == 0
    done = run_paritree("status", env={"PARITREE_LOG_LEVEL": "loud"})
    assert done.returncode == 2
    assert "PARITREE_LOG_LEVEL is not one of" in done.stderr


LOGGED = """
import logging, structlog, sys
from paritree.cli import logs
logs.configure(sys.argv[1], "info")
log = structlog.get_logger("x")
log.debug("quiet")
log.info("agent connected", region="eu", db_password="hush", text="two\\nlines")
logging.getLogger("library").warning("watch %s", "out")
logging.getLogger("library").info("chatter")
"""


def test_logs_go_to_stderr_as_lines_without_secrets() -> None:
    for form in ("text", "json"):
        done = subprocess.run([sys.executable, "-c", LOGGED, form], capture_output=True, text=True, check=True)
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 2
        assert "hush" not in done.stderr
        if form == "json":
            first, second = map(json.loads, lines)
            assert (first["event"], first["region"], first["level"]) == ("agent connected", "eu", "info")
            assert second["event"] == "watch out"
        else:
            assert 'event="agent connected" region=eu' in lines[0]


def test_completion_knows_the_commands_without_importing_them() -> None:
    began = time.monotonic()
    environment = {"_PARITREE_COMPLETE": "complete_bash", "COMP_WORDS": "paritree swe", "COMP_CWORD": "1"}
    code = "from paritree.cli.main import app; app(prog_name='paritree')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.stdout.split() == ["sweep"]
    assert time.monotonic() - began < 20
    assert app.info.name == "paritree"
