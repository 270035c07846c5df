"""Following ended: what it left at the source is dropped."""

from __future__ import annotations

from edge_agent.connectors.registry import connect
from edge_agent.serve import copies_of
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
    copy = copies[dataset]
    with connect(copy.source) as connector, connector.changes(copy.binding, follower(config)) as changes:
        changes.stop()
        return changes.name
