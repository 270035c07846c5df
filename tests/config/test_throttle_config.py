"""``[throttle]`` of an agent's file, what a connection sets anew, and what becomes of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.pace import Throttle
from edge_agent.serve import copies_of, throttle_of
from paritree.config.agent import AgentConfig, ThrottleConfig, load_agent
from paritree.core.errors import ConfigError

AGENT = """
region = "eu"
name = "eu-1"
datasets = "datasets.toml"
master_key = "file:master.key"
spool = "spool"

[coordinator]
address = "coordinator.example.org:7443"
cert = "agent.pem"
key = "agent.key"
ca = "ca.pem"

[executor]
workers = 3

[connections.main]
url = "postgresql://reader@db.internal/shop"
"""
DATASETS = """
[dataset.orders]
key = ["id"]
columns = { id = "int" }
[dataset.orders.regions.eu]
connection = "main"
table = "orders"
[dataset.orders.regions.us]
"""


def load(folder: Path, more: str = "", agent: str = AGENT) -> AgentConfig:
    (folder / "agent.toml").write_text(agent + more)
    (folder / "datasets.toml").write_text(DATASETS)
    (folder / "master.key").write_text("ab" * 32)
    (folder / "master.key").chmod(0o600)
    return load_agent(folder / "agent.toml")


def throttle(config: AgentConfig, dataset: str = "orders") -> Throttle:
    return throttle_of(config, config.connections["main"], dataset)


def test_defaults(tmp_path: Path) -> None:
    assert throttle(load(tmp_path)) == Throttle(chunk_target_s=0.5, connections_max=3, snapshot_max_s=3600)
    serial = AGENT.replace("workers = 3", 'workers = 3\nkind = "serial"')
    assert throttle(load(tmp_path, agent=serial)).connections_max == 1


def test_workers_of_a_given_scheduler_bound_themselves(tmp_path: Path) -> None:
    scheduler = 'workers = 3\nkind = "dask"\nscheduler_address = "tls://d:1"\nca = "a"\ncert = "b"\nkey = "c"'
    agent = AGENT.replace("workers = 3", scheduler)
    assert throttle(load(tmp_path, agent=agent)).connections_max is None
    assert throttle(load(tmp_path, "[throttle]\nconnections_max = 5\n", agent)).connections_max == 5


def test_a_connection_sets_single_fields_anew(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [connections.main.throttle]
        max_rate_rows_s = 500
        [throttle]
        max_rate_rows_s = 20_000
        chunk_target_s = 0.1
        replica_lag_max_s = 10
        backends_active_max = 30
        connections_max = 2
        load_wait_max_s = 60
        snapshot_max_s = 900
        dataset_snapshot_max_s = { orders = 120 }
        """,
    )
    assert throttle(config) == Throttle(500, 0.1, 10, 30, 60, 2, 120)
    assert throttle(config, "others").snapshot_max_s == 900


def test_a_variable_sets_a_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARITREE_AGENT_THROTTLE__MAX_RATE_ROWS_S", "7")
    monkeypatch.setenv("PARITREE_AGENT_CONNECTIONS__MAIN__THROTTLE__CHUNK_TARGET_S", "2")
    found = throttle(load(tmp_path, "[throttle]\nsnapshot_max_s = 60\n"))
    assert (found.max_rate_rows_s, found.chunk_target_s, found.snapshot_max_s) == (7, 2, 60)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("max_rate_rows_s = 0", "throttle.max_rate_rows_s"),
        ("max_rate_rows_s = inf", "throttle.max_rate_rows_s"),
        ("chunk_target_s = -1", "throttle.chunk_target_s"),
        ("connections_max = 0", "throttle.connections_max"),
        ("snapshot_max_s = nan", "throttle.snapshot_max_s"),
        ("dataset_snapshot_max_s = { orders = 0 }", "throttle.dataset_snapshot_max_s"),
        ("max_rate = 5", "throttle.max_rate"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[throttle]\n{line}\n")
    assert words in caught.value.message


def test_a_limit_of_a_dataset_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"throttle.dataset_snapshot_max_s: no dataset 'order' in region eu"
    ) as caught:
        copies_of(load(tmp_path, "[throttle]\ndataset_snapshot_max_s = { order = 5 }\n"))
    assert "'orders'" in caught.value.next_step


def test_a_load_that_cannot_be_seen_is_refused_before_any_scan(tmp_path: Path) -> None:
    sqlite = AGENT.replace("postgresql://reader@db.internal/shop", "sqlite:///shop.db")
    with pytest.raises(ConfigError, match=r"replica_lag_max_s is for PostgreSQL, and connections.main is not"):
        copies_of(load(tmp_path, "[throttle]\nreplica_lag_max_s = 5\n", sqlite))
    copies = copies_of(load(tmp_path, "[connections.main.throttle]\nmax_rate_rows_s = 5\n", sqlite))
    assert copies["orders"].throttle.max_rate_rows_s == 5


def test_every_field_is_described() -> None:
    for name, field in ThrottleConfig.model_fields.items():
        assert field.description, name
