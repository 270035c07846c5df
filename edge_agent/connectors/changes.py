"""What a connector does that can tell which keys have changed, so that an index follows its source without a scan.

Changes are hints: they name keys, and the rows of those keys are read again. So they may be handed out twice and in any
order, but never too late: when a key is handed out, a look-up begun afterwards sees that change (or a later one), and
once a mark is handed out, every change up to it has been handed out. A crash between any two steps does no harm::

    mark = source.start()                    nothing that is committed from here on is missed
    scan the table into an index             whatever it sees of later changes is handed out again
    for batch in source.changes(mark, ...):
        read batch.keys again, put the rows into the index and batch.mark beside them, both or neither
        source.acknowledge(batch.mark)       the source may forget what is before it

Where the table cannot be followed any further (it was truncated, its columns changed, the source has forgotten what was
not yet handed out), :class:`RescanNeeded` says why, and the way begins again at ``start``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import pyarrow as pa

from paritree.core.errors import SourceError

Span = tuple[float, float]
"""The first and the last moment, in seconds since 1970."""
KEYS_MAX = 50_000
"""Keys of a batch unless told otherwise: some MB of rows, and enough of them that a statement's cost is nothing."""


class RescanNeeded(SourceError):
    """Changes alone cannot bring an index up to date any more; the message says why. Scan the table again."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far changes have been handed out: ``text`` for people (an LSN), ``state`` for the source alone.

    An index keeps both beside its rows. ``state`` is text of at most a few KB for a table without partitions.
    """

    text: str
    state: str


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Keys that changed. ``keys`` has the binding's key columns by logical name, in the carriers of a scan.

    A key may be in it several times, also when it is in no row (any more). ``mark`` is the mark that holds once this
    batch and all before it are in the index; None inside of a transaction. ``changes`` counts what the source told.
    ``as_of`` (seconds since 1970), of a source that does not prove: everything committed before it is told by then.
    ``span_s``: when the first and the last of the changes were committed, in seconds since 1970, where that is told.
    """

    keys: pa.RecordBatch
    mark: Mark | None
    changes: int
    as_of: float | None = None
    span_s: Span | None = None


@dataclass(frozen=True, slots=True)
class Lag:
    """What a source keeps for us: bytes that are not acknowledged, and what there is to worry about, or ""."""

    bytes_kept: int
    worry: str = ""


class ChangeSource(ABC):
    """The changes of one dataset's table in one region. For one thread; raises SourceError or ConfigError."""

    proves: ClassVar[bool] = True
    """Whether it can tell that it has told everything; one that cannot says in its batches until when it has."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called at the source, for people."""

    @abstractmethod
    def check(self) -> list[str]:
        """What ``paritree doctor`` should tell before and while the table is followed, each sentence with its fix.

        Changes nothing. Raises ConfigError, with what to run, where the table cannot be followed.
        """

    @abstractmethod
    def start(self) -> Mark:
        """Have the source keep changes from now on, forgetting what it kept before.

        A scan that begins after this has returned sees whatever is not handed out after the mark.
        """

    def demand_kept(self, since: Mark) -> None:
        """Raise RescanNeeded where it can be seen now that changes since a mark cannot bring an index up to date."""
        raise RescanNeeded(f"{self.name}: whether all changes {since.text} are kept is not known")

    @abstractmethod
    def changes(self, since: Mark, *, proven: bool, keys_max: int = KEYS_MAX) -> Iterator[ChangeBatch]:
        """Everything that changed since a mark, up to now; the last batch has a mark and may be without keys.

        With ``proven`` that mark is known to be at or behind every change that was committed when this was called; what
        proves it is seen, silence does not count. A mark has to be acknowledged before the next batch is asked for.
        Raises RescanNeeded, and SourceError where the proof cannot be had.
        """

    @abstractmethod
    def acknowledge(self, mark: Mark) -> None:
        """The index keeps this mark: the source may forget what is before it."""

    @abstractmethod
    def lag(self) -> Lag:
        """What the source keeps for us now."""

    @abstractmethod
    def stop(self) -> None:
        """Leave nothing behind at the source. Idempotent."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; what the source keeps stays. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
