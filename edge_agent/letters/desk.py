"""What is asked of an agent's dead letters, by its coordinator or by an operator beside it: list, try again, discard.

Every discarding and every trying again is logged in the spool before it is done, with who asked, and why.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import structlog

from edge_agent.build import Copy
from edge_agent.executors import Executor
from edge_agent.journal import Journal
from edge_agent.letters.found import found, opened
from edge_agent.letters.replay import Replay, untold
from edge_agent.letters.store import FILE, Kept, LetterStore
from paritree.core import limits
from paritree.core.deadletters import Letter, LetterAction, LetterKind
from paritree.core.digest import DatasetKeys
from paritree.core.display import key_to_json
from paritree.core.errors import ConfigError, PeerError, SourceError
from paritree.core.messages import AskLetters, Letters, Progress

LOG: Final = "letters.log"
MESSAGE_BYTES_KEPT: Final = 16 << 10
"""Beginning of an unreadable message that is kept: enough to see what it is."""
_COLUMN_BYTES: Final = 300
_log = structlog.get_logger("paritree.agent")


@dataclass(frozen=True, slots=True)
class Opened:
    """A letter with its ``content``: ``payload`` in clear, or None and ``why``."""

    letter: Letter
    content: dict[str, Any]


class LetterDesk:
    """The dead letters of one agent. ``agent_keys`` seal what belongs to no dataset."""

    def __init__(
        self,
        region: str,
        spool: Path,
        copies: Mapping[str, Copy],
        executor: Callable[[], Executor],
        agent_keys: DatasetKeys,
    ) -> None:
        self.store = LetterStore(spool / FILE, region)
        self._spool = spool
        self._copies = copies
        self._executor = executor
        self._keys = agent_keys
        self._journal = Journal(spool / LOG)

    def answer(self, ask: AskLetters, progress: Callable[[Progress], None] = untold) -> list[Letters]:
        """Do what is asked; the parts of the answer. Raises ConfigError, PeerError or SourceError."""
        if ask.dataset and ask.dataset not in self._copies:
            raise ConfigError(f"this agent has no dataset '{ask.dataset}'")
        if ask.action is LetterAction.DISCARD and not ask.reason:
            raise PeerError("dead letters are discarded for a reason", next_step="say --reason")
        chosen = [letter.id for letter in self.store.letters(ask.dataset, ask.ids or None)]
        unknown = tuple(sorted(set(ask.ids) - set(chosen)))
        cleared: list[str] = []
        if ask.action is not LetterAction.LIST and chosen:
            self._log(ask, chosen)
        if ask.action is LetterAction.DISCARD:
            note = f"{ask.operator}: {ask.reason}" if ask.operator else ask.reason
            self.store.discard(chosen, note)
        elif ask.action is LetterAction.REPLAY and chosen:
            cleared = self._replay(ask.dataset, chosen, progress)
        left = self.store.letters(ask.dataset, ask.ids or None)
        return list(_parts(left, self.store.not_kept(ask.dataset), cleared, unknown))

    def _replay(self, dataset: str, chosen: Sequence[str], progress: Callable[[Progress], None]) -> list[str]:
        if not dataset:
            return self.store.clear(chosen)
        name = f"replay-{uuid.uuid4().hex[:12]}"
        with self._executor() as executor:
            spool = self._spool / "replays" / name
            replay = Replay(self.store, self._copies[dataset], executor, spool, name, progress)
            return replay.run(self.store.kept(dataset, chosen))

    def unreadable(self, data: bytes, reason: str) -> None:
        """Keep a message that could not be read. Raises SourceError."""
        payload = {"bytes": len(data), "begins": data[:MESSAGE_BYTES_KEPT].hex()}
        letter = found(self._keys, LetterKind.MESSAGE, reason.encode() + b"\0" + data, reason, payload)
        self.store.take("", "", [letter])

    def open(self, ids: Sequence[str], *, operator: str, purpose: str) -> list[Opened]:
        """Letters with their payload in clear, for somebody in the region; logged before they are opened."""
        kept = self.store.kept(ids=ids)
        self._journal.record({"action": "show", "operator": operator, "reason": purpose, "ids": list(ids)})
        _log.info("dead letters shown", letters=len(kept), operator=operator)
        return [Opened(one.letter, self._content(one)) for one in kept]

    def _content(self, kept: Kept) -> dict[str, Any]:
        if kept.sealed is None:
            return {"payload": None, "why": "its payload was forgotten when it was discarded"}
        copy = self._copies.get(kept.letter.dataset)
        try:
            if kept.letter.dataset and copy is None:
                raise SourceError(f"this agent has no dataset '{kept.letter.dataset}' any more")
            payload = opened(copy.keys if copy else self._keys, kept.key_id, kept.identity, kept.sealed)
            if copy is not None and payload.get("key"):
                payload["key"] = key_to_json(bytes.fromhex(payload["key"]), copy.profile)
        except SourceError as error:
            return {"payload": None, "why": str(error)}
        return {"payload": payload}

    def _log(self, ask: AskLetters, chosen: Sequence[str]) -> None:
        entry = {"action": str(ask.action), "operator": ask.operator, "reason": ask.reason, "dataset": ask.dataset}
        self._journal.record({**entry, "ids": list(chosen)})
        _log.info("dead letters", letters=len(chosen), **entry)


def _parts(
    letters: Sequence[Letter], not_kept: int, cleared: Sequence[str], unknown: Sequence[str]
) -> Iterator[Letters]:
    """The answer in parts that fit into a message each; what is said once is in the first one."""
    room = limits.PART_BYTES_MAX // 2 - 20 * (len(cleared) + len(unknown))
    first = Letters((), not_kept, tuple(cleared), tuple(unknown))
    part: list[Letter] = []
    for letter in letters:
        size = 4 * (len(letter.reason) + len(letter.note)) + _COLUMN_BYTES * (1 + len(letter.columns))
        if part and size > room:
            yield replace(first, letters=tuple(part))
            first, part, room = Letters(), [], limits.PART_BYTES_MAX // 2
        part.append(letter)
        room -= size
    yield replace(first, letters=tuple(part))
