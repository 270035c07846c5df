"""The messages of the stream itself, which belong to no sweep's content: Welcome, Notice and Cancel."""

from __future__ import annotations

from dataclasses import dataclass

from paritree.core.messages import PROTOCOL_VERSION, Hello, Reply, Request


@dataclass(frozen=True, slots=True)
class Welcome:
    """The coordinator accepts the agent; the first message it sends. It wants notices of the datasets ``watched``."""

    coordinator: str
    protocol: int = PROTOCOL_VERSION
    watched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """The agent says, unasked, that ``keys`` rows of a dataset have changed since its last notice.

    ``first_us`` and ``last_us``: when the first and the last of them were committed, microseconds since 1970; 0 where
    the source does not say. ``position`` is how far the agent has read. Nothing is concluded from it, or its absence.
    """

    dataset: str
    keys: int
    first_us: int = 0
    last_us: int = 0
    position: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this exchange any more: stop it and forget it."""

    exchange: int
    sweep_id: str


FromAgent = Hello | Reply | Notice
ToAgent = Welcome | Request | Cancel
