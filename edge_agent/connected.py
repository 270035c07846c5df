"""What following a table has open at its source."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.build import Copy
from edge_agent.connectors.changes import ChangeSource
from edge_agent.connectors.contract import Connector
from edge_agent.connectors.registry import connect
from edge_agent.index.durable import DurableIndex
from edge_agent.letters.refreshed import RefreshLetters
from edge_agent.letters.store import LetterStore
from edge_agent.refresh import Refresher
from edge_agent.untold import Untold

if TYPE_CHECKING:
    from edge_agent.topic.changes import Topic


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection, who tells the changes, and what takes them over."""

    connector: Connector
    source: ChangeSource
    refresher: Refresher

    @classmethod
    def open(
        cls,
        copy: Copy,
        name: str,
        index: DurableIndex,
        *,
        topic: Topic | None,
        letters: LetterStore | None,
        untold: Untold | None = None,
    ) -> Connected:
        """Connect; ``name`` is who follows, ``untold`` hears what is told. Raises ConfigError or SourceError."""
        with ExitStack() as opened:
            connector = opened.enter_context(connect(copy.source))
            if topic is None:
                source = opened.enter_context(connector.changes(copy.binding, name))
            else:
                from edge_agent.topic.following import topic_changes

                source = opened.enter_context(topic_changes(topic, copy.binding, name, copy.keys, letters))
            kept = None if letters is None else RefreshLetters(letters, copy.profile.dataset, copy.keys)
            heard = (untold or Untold()).hear
            refresher = Refresher(copy, connector, source, index, letters=kept, heard=heard)
            opened.pop_all()
        return cls(connector, source, refresher)

    def close(self) -> None:
        """Close both."""
        self.source.close()
        self.connector.close()
