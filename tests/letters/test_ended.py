"""``paritree dlq replay`` clears the verdict of an index that is kept, too, and nothing is read while rows stay bad."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from agent.rescan_case import RESCAN, Kept

from edge_agent.build import Built, build_index
from edge_agent.connectors.contract import Source
from edge_agent.connectors.sqlite import SqliteConnector
from edge_agent.executors import SerialExecutor
from edge_agent.letters.replay import Replay
from edge_agent.warm import Following
from paritree.core.messages import ANY_AGE, Freshness

NONE = Following("", max_age_s=3_600.0)
YOUNG = Freshness(3_600.0)
"""What a sweep says that takes an index of an hour: then also files are not asked whether they were written."""


class Shop(Kept):
    """A SQLite table of 100 rows whose key may be anything, and its index."""

    def __init__(self, folder: Path, following: Following) -> None:
        self.path = folder / "shop.db"
        self.run("CREATE TABLE orders (id INT PRIMARY KEY, name TEXT)")
        self.run(*(f"INSERT INTO orders VALUES ({n}, 'name {n}')" for n in range(100)))
        super().__init__(Source(f"sqlite:///{self.path}"), "orders", folder, following=following)
        self.replays = 0

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def spoil(self, *ids: int) -> None:
        self.run(*(f"UPDATE orders SET name = 'x' || char(0) WHERE id = {n}" for n in ids))

    def replay(self) -> list[str]:
        """As ``paritree dlq replay`` does, in another process."""
        self.replays += 1
        name = f"replay-{self.replays}"
        return Replay(self.store, self.copy, SerialExecutor(), self.folder / name, name).run(self.store.kept("orders"))

    def as_scanned(self, freshness: Freshness) -> Built:
        """What a sweep would get, which is what a scan of the same moment gives."""
        built, self.colds = self.built(freshness), self.colds + 1
        cold = build_index(self.copy, SerialExecutor(), self.folder / f"cold-{self.colds}", lambda _: None)
        assert built.index.sums.root == cold.index.sums.root
        assert (built.dead, built.index.duplicates()) == (cold.dead, cold.index.duplicates())
        return built


@pytest.fixture(params=[(NONE, ANY_AGE), (NONE, YOUNG), (RESCAN, ANY_AGE), (RESCAN, YOUNG)])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Shop, Freshness]]:
    following, freshness = request.param
    made = Shop(tmp_path, following)
    yield made, freshness
    made.close()


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many keys each look-up asked for."""
    asked: list[int] = []
    lookup = SqliteConnector.lookup

    def counted(self: SqliteConnector, binding: Any, keys: Any) -> Any:
        asked.append(len(keys))
        return lookup(self, binding, keys)

    monkeypatch.setattr(SqliteConnector, "lookup", counted)
    return asked


def test_replay_after_the_cause_is_fixed_clears_the_letters_and_the_verdict(shop: tuple[Shop, Freshness]) -> None:
    kept, freshness = shop
    kept.spoil(5, 6, 7)
    assert kept.built(freshness).dead.total == 3
    kept.run("UPDATE orders SET name = 'good' WHERE id = 5", "DELETE FROM orders WHERE id = 6")
    assert len(kept.replay()) == 2
    assert kept.built(freshness).dead.total == 1
    kept.run("UPDATE orders SET name = 'good' WHERE id = 7")
    kept.reopen()
    assert len(kept.replay()) == 1
    built = kept.as_scanned(freshness)
    assert built.dead.total == len(kept.store.letters("orders")) == 0


def test_an_index_that_nobody_tells_changes_is_of_no_one_position_afterwards(tmp_path: Path) -> None:
    kept = Shop(tmp_path, NONE)
    kept.spoil(5)
    kept.built()
    kept.run("UPDATE orders SET name = 'good' WHERE id = 5", "UPDATE orders SET name = 'later' WHERE id = 6")
    kept.replay()
    built = kept.built()
    assert kept.last == 0, "nothing was scanned"
    assert not built.position.point
    assert any("dead letters had ended" in note for note in built.notes)
    assert built.age_s > 0
    kept.close()


def test_rows_without_a_key_are_scanned_again_once(shop: tuple[Shop, Freshness]) -> None:
    kept, freshness = shop
    kept.run("INSERT INTO orders VALUES ('no number', 'keyless')", "INSERT INTO orders VALUES ('none', 'keyless')")
    assert kept.built(freshness).dead.keyless == 2
    kept.run("UPDATE orders SET id = 1000 WHERE id = 'no number'", "DELETE FROM orders WHERE id = 'none'")
    assert kept.built(YOUNG).dead.keyless == 2, "the letters are still there"
    assert len(kept.replay()) == 2
    assert kept.as_scanned(freshness).dead.total == 0
    assert kept.last > 0
    kept.built(YOUNG)
    assert kept.last == 0


def test_nothing_is_read_while_rows_stay_as_bad_as_they_are(shop: tuple[Shop, Freshness], looked_up: list[int]) -> None:
    kept, freshness = shop
    kept.spoil(5, 6)
    kept.run("INSERT INTO orders VALUES ('no number', 'keyless')")
    assert kept.built(freshness).dead.total == 3
    assert kept.replay() == []
    looked_up.clear()
    for _ in range(3):
        assert kept.built(YOUNG).dead.total == 3
        assert (kept.last, looked_up) == (0, [])
        kept.reopen()
    assert len(kept.store.letters("orders")) == 3


def test_a_letter_that_is_lost_while_its_row_is_bad_comes_back(
    shop: tuple[Shop, Freshness], looked_up: list[int]
) -> None:
    kept, freshness = shop
    kept.spoil(5, 6)
    kept.built(freshness)
    kept.store.clear(letter.id for letter in kept.store.letters("orders"))
    assert kept.built(YOUNG).dead.total == 2
    assert len(kept.store.letters("orders")) == 2
    assert looked_up == [2]
    assert kept.built(YOUNG).dead.total == 2
    assert looked_up == [2], "they have their letters again"


def test_letters_that_found_no_room_are_not_looked_for(
    shop: tuple[Shop, Freshness], looked_up: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, freshness = shop
    monkeypatch.setattr("paritree.core.limits.LETTERS_MAX", 2)
    kept.spoil(1, 2, 3, 4, 5)
    assert kept.built(freshness).dead.total == 5
    for _ in range(2):
        assert kept.built(YOUNG).dead.total == 5
        assert (kept.last, looked_up) == (0, [])
    kept.run("UPDATE orders SET name = 'good'")
    while kept.store.letters("orders"):
        kept.replay()
    looked_up.clear()
    left = [kept.built(YOUNG).dead.total for _ in range(4)]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert max(looked_up, default=0) <= 2
