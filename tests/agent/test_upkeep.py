"""Which indexes an agent keeps warm: what its file may say, and what it makes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_agent.build import Copy
from edge_agent.connectors.contract import Source
from edge_agent.spool import RUN_NAME, held_spool, index_folder
from edge_agent.upkeep import follower, keep_up, warm_indexes
from paritree.config.agent import AgentConfig, load_agent
from paritree.core import limits
from paritree.core.digest import DatasetKeys
from paritree.core.errors import ConfigError
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type

AGENT = """
region = "eu"
name = "eu-1"
datasets = "datasets.toml"
master_key = "file:master.key"
spool = "spool"
[coordinator]
address = "localhost:7443"
cert = "agent.pem"
key = "agent.key"
ca = "ca.pem"
[connections.main]
url = "postgresql://reader@db.internal/shop"
"""
TOPIC = """
[refresh.orders]
changes = "topic"
[refresh.orders.topic]
url = "nats://localhost"
stream = "CDC"
subject = "shop.main.orders"
"""


def loaded(folder: Path, more: str) -> AgentConfig:
    (folder / "agent.toml").write_text(AGENT + more)
    return load_agent(folder / "agent.toml")


def copy_of(url: str) -> Copy:
    kind = parse_type("int")
    profile = Profile("orders", ("id",), {"id": kind})
    binding = Binding("orders", "orders", ("id",), (BoundColumn("id", kind, source="id"),))
    return Copy(Source(url), profile, binding, DatasetKeys.of(bytes(32), "orders"))


def test_nothing_is_followed_unless_it_is_said(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    assert dict(config.refresh) == {}
    with warm_indexes(config, {"orders": copy_of("postgresql://localhost/nowhere")}) as indexes:
        assert indexes == {}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[refresh.orders]\n", "refresh.orders.*changes"),
        ('[refresh.orders]\nchanges = "slots"\n', "refresh.orders.changes"),
        ('[refresh.orders]\nchanges = "slot"\ninterval_s = 0\n', "refresh.orders.interval_s"),
        ('[refresh.orders]\nchanges = "slot"\nevery = 5\n', "refresh.orders.*every"),
        ('[refresh.orders]\nchanges = "topic"\n', "belong together"),
        (TOPIC.replace('"topic"', '"slot"'), "belong together"),
        (TOPIC.replace("nats://localhost", "http://localhost"), "no URL of a NATS server"),
        (TOPIC.replace("nats://localhost", "nats://u:p@localhost"), "stand beside the URL"),
        (TOPIC.replace("localhost", "nats.example.org") + 'token = "env:TOKEN"\n', "in clear"),
        (TOPIC + 'token = "secret"\n', "not written here but pointed to"),
        (TOPIC + 'user = "me"\n', "belong together"),
        (TOPIC + 'ca = "ca.pem"\n', "are for TLS"),
        (TOPIC + 'cert = "c.pem"\n', "cert and key belong together"),
        (TOPIC.replace('"CDC"', '"C.D"'), "name of a stream"),
        (TOPIC.replace("shop.main.orders", "shop..orders"), "no subject"),
        (TOPIC + "columns = { id = 5 }\n", r"topic\.columns"),
        ('[refresh.orders]\nchanges = "rescan"\nrescan_rows_s = 99\n', "refresh.orders.rescan_rows_s"),
        ('[refresh.orders]\nchanges = "rescan"\nrescan_rows_s = inf\n', "refresh.orders.rescan_rows_s"),
        ('[refresh.orders]\nchanges = "rescan"\nmax_age_s = -1\n', "refresh.orders.max_age_s"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, more)


def test_what_cannot_be_followed_is_refused_at_the_start(tmp_path: Path) -> None:
    config = loaded(tmp_path, '[refresh.ordres]\nchanges = "slot"\n')
    with (
        pytest.raises(ConfigError, match=r"refresh\.ordres: no dataset 'ordres'") as refused,
        warm_indexes(config, {"orders": copy_of("postgresql://localhost/nowhere")}),
    ):
        pass
    assert "orders" in refused.value.next_step
    config = loaded(tmp_path, '[refresh.orders]\nchanges = "slot"\n')
    with (
        pytest.raises(ConfigError, match="sqlite has no replication slots"),
        warm_indexes(config, {"orders": copy_of("sqlite:///x.db")}),
    ):
        pass
    config = loaded(tmp_path, '[refresh.orders]\nchanges = "rescan"\n')
    with (
        pytest.raises(ConfigError, match=r"refresh\.orders: rows of postgresql move between"),
        warm_indexes(config, {"orders": copy_of("postgresql://localhost/nowhere")}),
    ):
        pass


def test_what_is_scanned_again_by_age_is_cut_by_its_rate(tmp_path: Path) -> None:
    """So that no shard keeps the background, or the end of the agent, waiting for long."""
    config = loaded(tmp_path, '[refresh.orders]\nchanges = "rescan"\nrescan_rows_s = 500\n')
    for url, rows in (("cassandra://localhost/shop", 5_000), ("parquet:///x/*.parquet", limits.SHARD_ROWS)):
        with warm_indexes(config, {"orders": copy_of(url)}) as indexes:
            assert indexes["orders"].copy.shard_rows == rows


def test_a_topic_that_cannot_name_keys_is_refused_at_the_start(tmp_path: Path) -> None:
    config = loaded(tmp_path, TOPIC + 'user = "me"\npassword = "env:NO_SUCH_PASSWORD"\n')
    copies = {"orders": copy_of("sqlite:///x.db")}
    with pytest.raises(ConfigError, match="NO_SUCH_PASSWORD is not set"), warm_indexes(config, copies):
        pass
    config = loaded(tmp_path, TOPIC + 'columns = { code = "c" }\n')
    with pytest.raises(ConfigError, match="code is no key column"), warm_indexes(config, copies):
        pass
    with warm_indexes(loaded(tmp_path, TOPIC), copies) as indexes:
        assert list(indexes) == ["orders"]


def test_an_index_stays_when_the_spool_is_cleared(tmp_path: Path) -> None:
    """What sweeps left behind is removed when an agent starts; an index has runs of the same names."""
    kept = index_folder(tmp_path, "orders") / "000001.run"
    left = tmp_path / "orders" / "sweep-1" / "000001.run"
    for run in (kept, left):
        run.parent.mkdir(parents=True)
        run.write_bytes(b"")
        assert RUN_NAME.match(run.name)
    with held_spool(tmp_path):
        assert kept.exists()


@pytest.mark.asyncio
async def test_a_source_that_is_away_is_tried_again(tmp_path: Path) -> None:
    config = loaded(tmp_path, '[refresh.orders]\nchanges = "slot"\ninterval_s = 0.1\n')
    assert follower(config) == "eu/eu-1"
    with warm_indexes(config, {"orders": copy_of("postgresql://127.0.0.1:1/nowhere")}) as indexes:
        running = asyncio.create_task(keep_up(indexes))
        await asyncio.sleep(0.35)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
