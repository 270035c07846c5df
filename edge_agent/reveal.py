"""Which key a token stands for: answered inside the region only, from the token book, and logged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import structlog

from edge_agent.journal import Journal
from edge_agent.keeping import kept_folder, kept_keys
from edge_agent.serve import copies_of, executor_of, service_of
from paritree.config.agent import AgentConfig
from paritree.config.toml import near
from paritree.core.display import key_to_json
from paritree.core.errors import ConfigError

LOG: Final = "reveals.log"
"""In the spool: one JSON line a request, with the tokens and never the keys."""
_log = structlog.get_logger("paritree.agent")


def reveal_tokens(
    config: AgentConfig, tokens: Sequence[str], *, dataset: str = "", purpose: str = ""
) -> list[dict[str, Any]]:
    """``{"token", "dataset", "key": {column: value}}`` of every token that a token book of this spool knows.

    Raises ConfigError for an unknown dataset, SourceError when the request cannot be logged: then nothing is revealed.
    """
    copies = copies_of(config)
    if dataset and dataset not in copies:
        raise ConfigError(f"--dataset: this agent has no dataset '{dataset}'", next_step=near(dataset, copies))
    service = service_of(config, copies, executor_of(config))
    _record(config, tokens, dataset, purpose)
    wanted = {token.strip().upper(): token for token in tokens}
    return [
        {"token": wanted[token], "dataset": name, "key": key_to_json(locator, copies[name].profile)}
        for name in ([dataset] if dataset else copies)
        for token, locator in service.reveal_tokens(name, list(wanted)).items()
    ]


def keys_of(config: AgentConfig, dataset: str, name: str, *, purpose: str = "") -> Iterator[dict[str, Any]]:
    """``{"token", "key"}`` of every key in a file that this agent kept of a range; the request is logged first.

    Raises ConfigError for an unknown dataset or file, SourceError when the request cannot be logged.
    """
    copies = copies_of(config)
    if dataset not in copies:
        raise ConfigError(f"this agent has no dataset '{dataset}'", next_step=near(dataset, copies))
    _record(config, [name], dataset, purpose)
    return kept_keys(kept_folder(config.spool, dataset), name, copies[dataset])


def _record(config: AgentConfig, tokens: Sequence[str], dataset: str, purpose: str) -> None:
    """Log the request before it is answered."""
    Journal(config.spool / LOG).record({"purpose": purpose, "dataset": dataset or None, "tokens": list(tokens)})
    _log.info("reveal", tokens=len(tokens), dataset=dataset, purpose=purpose)
