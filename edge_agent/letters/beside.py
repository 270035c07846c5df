"""``paritree dlq`` beside an agent: its dead letters without the coordinator, and their content in clear.

Works on the agent's own files while it runs or not; what is changed here the coordinator hears when it asks next.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from edge_agent.executors import SharedExecutor
from edge_agent.letters.desk import LetterDesk
from edge_agent.letters.replay import untold
from edge_agent.serve import copies_of, desk_of, executor_of
from paritree.config.agent import AgentConfig
from paritree.config.toml import near
from paritree.core.deadletters import LetterAction
from paritree.core.errors import ConfigError
from paritree.core.messages import AskLetters, Progress
from paritree.wire.control import LettersOrder
from paritree.wire.dlq import act_json, letter_json, list_json, region_json


@dataclass(frozen=True, slots=True)
class Beside:
    """An operator beside an agent. ``stack`` closes what was opened."""

    config: AgentConfig
    stack: ExitStack

    def answer(self, order: LettersOrder, progress: Callable[[Progress], None] = untold) -> dict[str, Any]:
        """The document for an order about this agent's letters. Raises ConfigError, PeerError or SourceError."""
        desk, datasets = self._desk()
        if order.dataset and order.dataset not in datasets:
            raise ConfigError(
                f"--dataset: this agent has no dataset '{order.dataset}'", next_step=near(order.dataset, datasets)
            )
        wanted = [order.dataset] if order.dataset else [*datasets, ""]
        if order.action is LetterAction.LIST:
            return self._listed(desk, order, wanted)
        cleared: list[str] = []
        for dataset in wanted:
            ids = tuple(letter.id for letter in desk.store.letters(dataset, order.ids or None))
            if ids:
                ask = AskLetters(dataset, order.action, ids, order.reason, getpass.getuser())
                cleared += [one for part in desk.answer(ask, progress) for one in part.cleared]
        left = desk.store.letters(order.dataset or None, order.ids or None)
        unknown = set(order.ids) - set(cleared) - {letter.id for letter in left}
        return act_json(
            str(order.action),
            [letter_json(self.config.region, letter) for letter in left],
            cleared,
            sorted(unknown),
            [self._region(desk, order.dataset or None)],
        )

    def show(self, ids: Sequence[str], purpose: str) -> dict[str, Any]:
        """The letters with their content; logged in the spool first."""
        desk, _ = self._desk()
        opened = desk.open(ids, operator=getpass.getuser(), purpose=purpose)
        shown = [{**letter_json(self.config.region, one.letter), **one.content} for one in opened]
        return {
            "dlq": 1,
            "action": "show",
            "letters": shown,
            "unknown": sorted(set(ids) - {one["id"] for one in shown}),
        }

    def _listed(self, desk: LetterDesk, order: LettersOrder, wanted: Sequence[str]) -> dict[str, Any]:
        kept = [letter for dataset in wanted for letter in desk.store.letters(dataset, order.ids or None)]
        listed = sorted(
            (letter for letter in kept if order.discarded or letter.state != "discarded"),
            key=lambda letter: (-letter.last_seen_us, letter.id),
        )
        entries = [letter_json(self.config.region, letter) for letter in listed]
        return list_json(entries, order.limit, [self._region(desk, order.dataset or None)])

    def _region(self, desk: LetterDesk, dataset: str | None) -> dict[str, Any]:
        not_kept = desk.store.not_kept(dataset)
        return region_json(self.config.region, connected=True, as_of=datetime.now(UTC), not_kept=not_kept, error=None)

    def _desk(self) -> tuple[LetterDesk, Sequence[str]]:
        copies = copies_of(self.config)
        shared = self.stack.enter_context(SharedExecutor(executor_of(self.config)))
        return desk_of(self.config, copies, shared.lend), tuple(copies)
