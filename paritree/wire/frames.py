"""The messages of the stream itself, which belong to no sweep's content: Welcome and Cancel."""

from __future__ import annotations

from dataclasses import dataclass

from paritree.core.messages import PROTOCOL_VERSION, Hello, Reply, Request


@dataclass(frozen=True, slots=True)
class Welcome:
    """The coordinator accepts the agent; the first message it sends."""

    coordinator: str
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this exchange any more: stop it and forget it."""

    exchange: int
    sweep_id: str


FromAgent = Hello | Reply
ToAgent = Welcome | Request | Cancel
