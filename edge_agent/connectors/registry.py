"""Find the connector of a URL through the entry points ``paritree.connectors`` (one per URL scheme)."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from edge_agent.connectors.bastion import OPTIONS as BASTION_OPTIONS
from edge_agent.connectors.contract import Connector, Source
from paritree.core.errors import ConfigError

GROUP = "paritree.connectors"


@cache
def schemes() -> tuple[str, ...]:
    """The URL schemes that some installed connector takes, sorted."""
    return tuple(sorted(point.name for point in entry_points(group=GROUP)))


def connector_class(url: str) -> type[Connector]:
    """The connector class of a URL's scheme. Raises ConfigError for an unknown scheme."""
    scheme, separator, _ = url.partition(":")
    found = _loaded(scheme) if separator else None
    if found is None:
        raise ConfigError(f"no connector for '{scheme}:'", next_step=f"known schemes: {', '.join(schemes())}")
    return found


@cache
def _loaded(scheme: str) -> type[Connector] | None:
    """Once a process: every task of every scan connects, and looking through all packages takes 4 ms."""
    return next((point.load() for point in entry_points(group=GROUP, name=scheme)), None)


def connect(source: Source) -> Connector:
    """Open a source with the connector of its URL's scheme. Raises ConfigError or SourceError.

    The option ``ssh`` (``user@bastion``, ``user@bastion:port``) leads the connection through an SSH bastion, with the
    host keys in ``ssh_known_hosts`` and the user's key ``ssh_key``; see :mod:`edge_agent.connectors.bastion`.
    """
    if any(name in source.options for name in BASTION_OPTIONS):
        from edge_agent.connectors.forwards import connect_through

        return connect_through(connector_class(source.url), source)
    return connector_class(source.url).connect(source)
