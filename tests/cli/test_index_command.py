"""``paritree index``: status, verify and rebuild over an agent's own file."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from indexed import reformatted
from typer.testing import CliRunner

from edge_agent.index.durable import DurableIndex
from edge_agent.inspection import Place, places
from paritree.cli.main import app
from paritree.config.agent import load_agent

DATASETS = """
[dataset.orders]
key = ["id"]
[dataset.orders.columns]
id = "int"
name = "text"
[dataset.orders.regions.eu]
connection = "main"
table = "orders"
[dataset.orders.regions.us]
connection = "main"
table = "orders"
"""
AGENT = """
region = "eu"
name = "eu-1"
datasets = "datasets.toml"
master_key = "file:master.key"
spool = "spool"
shard_rows = 100
executor = "serial"
{top}
[coordinator]
address = "localhost:1"
cert = "a.pem"
key = "a.key"
ca = "ca.pem"
[connections.main]
url = "sqlite:///{folder}/shop.db"
[refresh.orders]
changes = "none"
"""


class Agent:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
            connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
            connection.executemany("INSERT INTO orders VALUES (?, ?)", [(n, f"secret name {n}") for n in range(250)])
        (folder / "datasets.toml").write_text(DATASETS)
        for name in ("master.key", "rest.key"):
            (folder / name).write_text("ab" * 32 + "\n")
            (folder / name).chmod(0o600)
        self.file()

    def file(self, top: str = "") -> None:
        (self.folder / "agent.toml").write_text(AGENT.format(folder=self.folder, top=top))

    def run(self, command: str, *more: str) -> tuple[int, Any]:
        done = CliRunner().invoke(app, ["index", command, *more, "--config", f"{self.folder}/agent.toml", "--json"])
        return done.exit_code, json.loads(done.stdout)

    @property
    def place(self) -> Place:
        return places(load_agent(self.folder / "agent.toml"), ["orders"])[0]


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


def test_an_index_is_built_shown_and_verified(agent: Agent) -> None:
    code, said = agent.run("status")
    assert (code, said["indexes"][0]["state"], said["indexes"][0]["reason"]) == (3, "none", "there is no index yet")
    code, said = agent.run("rebuild", "orders")
    assert (code, said["indexes"][0]["rows"], said["indexes"][0]["shards"]) == (0, 250, 3)
    code, said = agent.run("status")
    [one] = said["indexes"]
    assert (code, one["state"], one["rows"], one["runs"], one["change_runs"]) == (0, "ready", 250, 3, 0)
    assert (one["in_use"], one["encrypted"], one["format"]) == (False, False, 1)
    assert one["bytes"] == sum(path.stat().st_size for path in agent.place.folder.glob("*.run"))
    assert 0 <= one["age_s"] < 60
    assert "version" in one["position"]
    assert agent.run("verify") == (
        0,
        {"verified": 1, "indexes": [{"dataset": "orders", "ok": True, "runs": 3, "rows": 250, "faults": []}]},
    )


def test_people_get_lines(agent: Agent) -> None:
    for command, text in (("rebuild", "250 rows in 3 shards"), ("status", "ready, 250 rows"), ("verify", "are whole")):
        done = CliRunner().invoke(app, ["index", command, "--config", f"{agent.folder}/agent.toml"])
        assert done.exit_code == 0
        assert text in done.stdout
        assert ("orders: scan 3/3 shards" in done.stderr) == (command == "rebuild"), "progress is told"


def test_a_flipped_byte_is_found_remembered_and_rebuilt(agent: Agent) -> None:
    agent.run("rebuild")
    run = sorted(agent.place.folder.glob("*.run"))[1]
    content = bytearray(run.read_bytes())
    content[len(content) // 2] ^= 1
    run.write_bytes(content)
    code, said = agent.run("verify")
    [fault] = said["indexes"][0]["faults"]
    assert (code, said["indexes"][0]["ok"], fault["place"]) == (3, False, "rowid range 1")
    assert "does not match its checksum" in fault["reason"]
    code, said = agent.run("status")
    assert (code, said["indexes"][0]["state"]) == (3, "in doubt")
    assert said["indexes"][0]["faults"] == [fault]
    assert agent.run("rebuild")[0] == 0
    assert agent.run("verify")[0] == agent.run("status")[0] == 0


def test_sums_that_are_not_those_of_the_rows_are_found(agent: Agent) -> None:
    agent.run("rebuild")
    with DurableIndex.open(agent.place.folder, agent.place.view().state.identity, digester="plain") as index:
        state = index.view().state
        state.sums.r[7] += 1
        index.shelf.commit(state, sums=True)
    code, said = agent.run("verify")
    assert (code, said["indexes"][0]["faults"][0]["reason"]) == (3, "its sums are not those of its rows")


def test_while_an_agent_has_it_it_is_read_and_not_rebuilt(agent: Agent) -> None:
    agent.run("rebuild")
    with DurableIndex.open(agent.place.folder, agent.place.view().state.identity, digester="plain"):
        assert agent.run("status")[1]["indexes"][0]["in_use"] is True
        assert agent.run("verify")[0] == 0
        code, said = agent.run("rebuild")
        assert code == 2
        assert "another process has it open" in said["error"]["message"]


def test_encrypted_at_rest_it_is_unreadable_without_the_key(agent: Agent) -> None:
    agent.file('at_rest_key = "file:rest.key"')
    assert agent.run("rebuild")[0] == 0
    files = [path.read_bytes() for path in agent.place.folder.iterdir() if path.is_file() and path.name != ".lock"]
    assert len(files) == 5
    assert not any(b"PTRUN" in content or b"PTMANI" in content or b"rowid range" in content for content in files)
    assert agent.run("status")[1]["indexes"][0]["encrypted"] is True
    assert agent.run("verify")[0] == 0
    agent.file()
    code, said = agent.run("status")
    assert code == 2
    assert "encrypted" in said["error"]["message"]
    (agent.folder / "rest.key").write_text("cd" * 32)
    agent.file('at_rest_key = "file:rest.key"')
    assert agent.run("status")[1]["indexes"][0]["state"] == "none"
    (agent.folder / "rest.key").write_text("too short")
    code, said = agent.run("status")
    assert code == 2
    assert "too short" not in json.dumps(said)


def test_another_profile_is_told(agent: Agent) -> None:
    agent.run("rebuild")
    (agent.folder / "datasets.toml").write_text(
        DATASETS.replace('name = "text"', 'name = { type = "text", rules = ["nfc"] }')
    )
    code, said = agent.run("status")
    assert (code, said["indexes"][0]["state"]) == (3, "none")
    assert "the profile was changed" in said["indexes"][0]["reason"]


def test_another_format_is_told_and_rebuilt(agent: Agent) -> None:
    agent.run("rebuild")
    reformatted(agent.place.folder, 2)
    reason = "it has format 2, which this version does not read"
    code, said = agent.run("status")
    assert (code, said["indexes"][0]["state"], said["indexes"][0]["reason"]) == (3, "none", reason)
    code, said = agent.run("verify")
    assert (code, [fault["reason"] for fault in said["indexes"][0]["faults"]]) == (3, [reason])
    assert agent.run("rebuild")[0] == 0
    code, said = agent.run("status")
    assert (code, said["indexes"][0]["state"], said["indexes"][0]["format"]) == (0, "ready", 1)


def test_a_dataset_without_an_index_is_a_mistake(agent: Agent) -> None:
    code, said = agent.run("status", "order")
    assert code == 2
    assert "this agent has no dataset 'order'" in said["error"]["message"]
    assert "orders" in said["error"]["next_step"]
    file = agent.folder / "agent.toml"
    file.write_text(file.read_text().split("[refresh.orders]")[0])
    code, said = agent.run("status", "orders")
    assert code == 2
    assert "dataset 'orders' keeps no index" in said["error"]["message"]
