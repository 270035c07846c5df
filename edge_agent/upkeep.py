"""The indexes of an agent that outlive sweeps: opened with the agent, kept up to date in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from edge_agent.build import Copy
from edge_agent.connectors.contract import Connector
from edge_agent.connectors.registry import connector_class
from edge_agent.letters.store import FILE, LetterStore
from edge_agent.notices import Notices
from edge_agent.pace import SHARD_S_MAX
from edge_agent.spool import index_folder
from edge_agent.topic.following import demand_topic, topic_of
from edge_agent.warm import Following, WarmIndex
from paritree.config.agent import AgentConfig
from paritree.config.toml import near
from paritree.core.errors import ConfigError


def follower(config: AgentConfig) -> str:
    """By what an agent's slots are told from those of others."""
    return f"{config.region}/{config.name}"


@contextmanager
def warm_indexes(
    config: AgentConfig, copies: Mapping[str, Copy], notices: Notices | None = None
) -> Iterator[dict[str, WarmIndex]]:
    """The indexes of the datasets that are followed, by dataset; ``notices`` tell of changes. Raises ConfigError."""
    with ExitStack() as opened:
        yield {name: opened.enter_context(warm_index(config, copies, name, notices)) for name in config.refresh}


def warm_index(
    config: AgentConfig, copies: Mapping[str, Copy], dataset: str, notices: Notices | None = None
) -> WarmIndex:
    """One of them. Raises ConfigError as :func:`demand_followable`."""
    demand_followable(config, copies, dataset)
    copy = copies[dataset]
    said = config.refresh[dataset]
    if said.changes == "rescan" and connector_class(copy.source.url).rescans == "age":
        # a shard is read in the time that a shard under a rate may take
        copy = replace(copy, shard_rows=min(copy.shard_rows, int(said.rescan_rows_s * SHARD_S_MAX)))
    letters = LetterStore(config.spool / FILE, config.region)
    name = "" if said.changes in ("none", "rescan") else follower(config)
    following = Following(
        name,
        said.interval_s,
        letters,
        said.max_age_s,
        said.check_interval_s,
        topic=topic_of(config, dataset),
        rescan_rows_s=said.rescan_rows_s if said.changes == "rescan" else 0.0,
    )
    return WarmIndex(copy, index_folder(config.spool, dataset), following, notices)


def demand_followable(config: AgentConfig, copies: Mapping[str, Copy], dataset: str) -> None:
    """Raises ConfigError for a dataset that the agent has not, or whose engine cannot tell its changes as it says."""
    if dataset not in copies:
        raise ConfigError(
            f"{config.file}: refresh.{dataset}: no dataset '{dataset}' in region {config.region}",
            next_step=near(dataset, copies),
        )
    copy = copies[dataset]
    said = config.refresh[dataset]
    kind = connector_class(copy.source.url)
    if said.changes == "slot" and kind.changes is Connector.changes:
        raise ConfigError(
            f"{config.file}: refresh.{dataset}: {kind.engine} has no replication slots",
            next_step='write changes = "rescan": what may have changed is scanned again'
            if kind.rescans
            else 'write changes = "none": the index is scanned anew when a sweep finds it too old',
        )
    if said.changes == "rescan" and not kind.rescans:
        raise ConfigError(
            f"{config.file}: refresh.{dataset}: rows of {kind.engine} move between the parts that are scanned",
            next_step='write changes = "slot" or "none": parts of it cannot be scanned again alone',
        )
    demand_topic(topic_of(config, dataset), copy.binding)


async def keep_up(indexes: Mapping[str, WarmIndex]) -> None:
    """Refresh each index at its interval, until cancelled; what the source refuses is logged and tried again."""
    await asyncio.gather(*(_keep_up(index) for index in indexes.values()))
    await asyncio.Event().wait()


async def _keep_up(index: WarmIndex) -> None:
    pause_s = index.interval_s
    while True:
        await asyncio.sleep(pause_s)
        pause_s = await asyncio.to_thread(index.keep_up)
