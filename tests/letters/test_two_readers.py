"""Two batches of changed keys are read at once: each ends the letters of its own keys only, and keeps its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from edge_agent.connectors.changes import ChangeBatch, ChangeSource, Lag, Mark
from edge_agent.connectors.contract import Position
from edge_agent.connectors.memory.connector import MemoryConnector
from edge_agent.index.changes import Applied, Changes, Reached
from edge_agent.letters.refreshed import RefreshLetters
from edge_agent.refresh import Refresher


class Told(ChangeSource):
    """One transaction of two batches."""

    proves = False
    name = "told"  # type: ignore[assignment]

    def check(self) -> list[str]:
        return []

    def start(self) -> Mark:
        return Mark("0", "0")

    def changes(self, since: Mark, *, proven: bool, keys_max: int = 3) -> Iterator[ChangeBatch]:
        for ids in ([1, 2, 3], [4, 5, 6]):
            yield ChangeBatch(pa.record_batch({"id": pa.array(ids, pa.int64())}), None, 3)
        yield ChangeBatch(pa.record_batch({"id": pa.array([], pa.int64())}), Mark("1", "1"), 0)

    def acknowledge(self, mark: Mark) -> None: ...

    def lag(self) -> Lag:
        return Lag(0)

    def stop(self) -> None: ...

    def close(self) -> None: ...


class Index:
    """Takes what it is given."""

    reached = Reached(Position("0", True), b"0")
    dead = 0

    def apply(self, changes: Changes, reached: Reached | None = None) -> Applied:
        self.dead += len(changes.dead)
        return Applied(len(changes), 0, 0)

    def advance(self, reached: Reached) -> None: ...


class Slow(MemoryConnector):
    """As PostgreSQL and Cassandra: several threads use it. The first batch's rows are long in coming to their end."""

    concurrent = True  # type: ignore[misc]
    first_read, second_settled = threading.Event(), threading.Event()

    def lookup_batch(self, binding: Any, keys: pa.RecordBatch, *, placed: bool = False) -> Iterator[Any]:
        first = 1 in keys.column(0).to_pylist()
        if not first:
            assert self.first_read.wait(10)
        yield from super().lookup_batch(binding, keys, placed=placed)
        if first:
            self.first_read.set()
            assert self.second_settled.wait(10)


def test_a_letter_is_kept_whichever_batch_ends_first(kept: Any, monkeypatch: Any) -> None:
    kept.put([(1, "x", "no number"), *((n, "x", "1") for n in range(2, 7))])
    store, copy, index = kept.desk.store, kept.copy, Index()
    letters = RefreshLetters(store, "orders", copy.keys)
    done = letters.done

    def settled(asked: Any) -> None:
        done(asked)
        Slow.second_settled.set()

    monkeypatch.setattr(letters, "done", settled)
    with Slow.connect(copy.source) as connector:
        Refresher(copy, connector, Told(), index, letters=letters).refresh(proven=False)  # type: ignore[arg-type]
    assert index.dead == 1
    assert len(store.letters("orders")) == 1
