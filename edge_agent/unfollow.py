"""Following ended: what it left at the source is dropped."""

from __future__ import annotations

from contextlib import ExitStack

from edge_agent.connectors.changes import ChangeSource
from edge_agent.connectors.registry import connect
from edge_agent.serve import copies_of
from edge_agent.topic.following import topic_changes, topic_of
from edge_agent.upkeep import follower
from paritree.config.agent import AgentConfig
from paritree.config.toml import near
from paritree.core.errors import ConfigError


def unfollow(config: AgentConfig, dataset: str) -> str:
    """Leave nothing of a dataset's following behind at its source; the name of what was dropped, if it was there.

    Raises ConfigError and SourceError.
    """
    copies = copies_of(config)
    if dataset not in copies:
        raise ConfigError(f"{config.file}: this agent has no dataset '{dataset}'", next_step=near(dataset, copies))
    copy, name = copies[dataset], follower(config)
    topic = topic_of(config, dataset) if dataset in config.refresh else None
    with ExitStack() as opened:
        if topic is None:
            connector = opened.enter_context(connect(copy.source))
            changes: ChangeSource = opened.enter_context(connector.changes(copy.binding, name))
        else:
            changes = opened.enter_context(topic_changes(topic, copy.binding, name, None, None))
        changes.stop()
        return changes.name
