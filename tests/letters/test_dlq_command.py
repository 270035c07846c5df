"""``paritree dlq`` over real processes, and beside an agent."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from operated import document
from processes import WAIT_S, Site, ended
from typer.testing import CliRunner

from paritree.cli.main import app
from paritree.cli.output import EXIT_CONFIG, EXIT_EQUAL, EXIT_UNKNOWN


@pytest.fixture
def site(tmp_path: Path, pki_dir: Path) -> Iterator[Site]:
    made = Site(tmp_path, pki_dir)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=WAIT_S)


def spoil(site: Site, name: str) -> None:
    """Row 5 of region us has that name; sqlite3 lets a text have a NUL."""
    with closing(sqlite3.connect(site.folder / "us.db")) as database, database:
        database.execute("UPDATE orders SET name = ? WHERE id = 5", (name,))


def test_from_a_dead_letter_to_its_end(site: Site) -> None:
    spoil(site, "secret\0")
    coordinator, port = site.coordinator()
    eu, us = site.agent("eu", port), site.agent("us", port)
    agent = f"--agent={site.folder}/us.toml"

    def dlq(*arguments: str, code: int = EXIT_EQUAL) -> Any:
        done = site.paritree(port, "dlq", *arguments, "--json")
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "secret" not in done.stdout + done.stderr
        return document(done)

    def beside(*arguments: str, code: int = EXIT_EQUAL) -> Any:
        done = CliRunner().invoke(app, ["dlq", *arguments, agent, "--json"])
        assert done.exit_code == code, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    assert site.paritree(port, "sweep", "orders", "--json").returncode == 1
    (letter,) = dlq("list")["letters"]
    assert (letter["region"], letter["dataset"], letter["columns"]) == ("us", "orders", ["name"])
    assert beside("list")["letters"] == [letter], "the same beside the agent"
    (shown,) = beside("show", letter["id"].lower(), "--purpose", "ticket 7")["letters"]
    assert shown["payload"]["key"] == {"id": 5}
    assert shown["payload"]["values"]["name"] == "secret\0"
    assert beside("show", "A" * 16, code=EXIT_UNKNOWN)["unknown"] == ["A" * 16]

    assert dlq("replay", letter["id"], code=EXIT_UNKNOWN)["letters"][0]["count"] == 2
    discarded = dlq("discard", letter["id"], "--reason", "a test row")
    assert discarded["letters"][0]["note"] == "ops: a test row"
    assert dlq("list")["letters"] == []
    assert dlq("list", "--all")["letters"][0]["state"] == "discarded"
    assert beside("show", letter["id"], code=EXIT_UNKNOWN)["letters"][0]["payload"] is None

    spoil(site, "order 5")
    assert beside("replay", letter["id"])["cleared"] == [letter["id"]]
    assert dlq("list", "--all")["letters_total"] == 0
    log = [json.loads(line)["action"] for line in (site.folder / "spool-us" / "letters.log").read_text().splitlines()]
    assert log == ["show", "show", "replay", "discard", "show", "replay"]
    for process in (eu, us, coordinator):
        assert ended(process, signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay"], "name letters by their ids"),
        (["discard", "A" * 16], "Missing option"),
        (["discard", "A" * 16, "--reason", " "], "--reason"),
        (["list", "--region", "eu"], "own region only"),
        (["list", "--dataset", "other"], "no dataset 'other'"),
        (["show"], "Missing argument"),
    ],
)
def test_mistakes(site: Site, arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["dlq", *arguments, f"--agent={site.folder}/us.toml"])
    assert done.exit_code == EXIT_CONFIG
    assert said in done.stderr
    assert not (site.folder / "spool-us" / "letters.db").exists()
