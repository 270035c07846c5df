"""What a sweep holds at this agent, and who may drive it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from msgpack import packb

from edge_agent.build import Built, Copy
from edge_agent.kept import Kept
from edge_agent.looking import Located
from edge_agent.recall import Recall
from edge_agent.wanted import Cancelled
from paritree.core.errors import PeerError
from paritree.core.header import Header
from paritree.core.messages import Begin, Progress, Request
from paritree.wire import codec

FENCES_MAX: Final = 4_096
"""Sweeps whose fencing tokens an agent remembers; those of open sweeps are on the spool too."""


@dataclass(slots=True)
class OpenSweep:
    """One sweep: the copy that it reads, its runs below ``spool``, and what was found and told.

    ``rests``: what was read is kept when it is closed.
    """

    copy: Copy
    header: Header
    spool: Path
    building: asyncio.Future[Built] | None = None
    kept: Kept | None = None
    rests: bool = False
    fence: int = 0
    cancel: threading.Event = field(default_factory=threading.Event)
    progress: Progress = field(default_factory=lambda: Progress(0, 0, 0))
    located: Located = field(default_factory=Located)
    recall: Recall = field(default_factory=Recall)
    revealed: int = 0
    used_at: float = field(default_factory=time.monotonic)

    @property
    def built(self) -> Built:
        if self.building is None or not self.building.done():
            raise PeerError("asked for nodes before the scan had ended")
        return self.building.result()

    @property
    def identity(self) -> bytes:
        """Changes with everything that makes its runs what they are, so that another process goes on with its own."""
        copy, binding = self.copy, self.copy.binding
        parts = [
            *(self.header.profile_id, self.header.canonical_version, self.header.key_id, self.header.scope_id),
            *(self.header.bucket, binding.binding_id, copy.source.url, sorted(copy.source.options.items())),
        ]
        return hashlib.blake2b(packb(parts), digest_size=16).digest()

    def note(self, progress: Progress) -> None:
        """How far the scan is. Raises Cancelled when nobody wants the rest, or not now."""
        if self.cancel.is_set():
            why = Cancelled("the sweep rests" if self.rests else "the sweep was ended during its scan", retryable=True)
            why.rests = self.rests
            raise why
        self.progress = progress

    def keep(self, begin: Begin, letters_since_us: int) -> Kept:
        """The record of its scan on the spool, begun or gone on with. Raises SourceError."""
        request = codec.encode_to_agent(Request(0, self.header.sweep_id, begin, 1.0))
        self.kept = kept = Kept.open(self.spool, self.identity, request, letters_since_us, self.copy.rest_key)
        if self.fence > kept.fence:
            kept.note_fence(self.fence)
        return kept


def begun_with(kept: Kept) -> Begin | None:
    """The request by which a kept sweep was begun; None where this version cannot read it."""
    try:
        request = codec.decode_to_agent(kept.request)
    except PeerError:
        return None
    return request.body if isinstance(request, Request) and isinstance(request.body, Begin) else None


class Fences:
    """The highest fencing token of each sweep: a coordinator with a lower one was replaced by another."""

    def __init__(self) -> None:
        self._highest: OrderedDict[str, int] = OrderedDict()

    def admit(self, sweep_id: str, fence: int) -> bool:
        """Whether a request may be answered; remembers its token."""
        highest = self._highest.get(sweep_id, 0)
        self._highest[sweep_id] = max(highest, fence)
        self._highest.move_to_end(sweep_id)
        while len(self._highest) > FENCES_MAX:
            self._highest.popitem(last=False)
        return fence >= highest
