"""A scan of PostgreSQL that goes on after its snapshot is gone: rows that moved behind its back are found."""

from __future__ import annotations

from pathlib import Path

import pytest
from connectors.pg_case import PgCase

from edge_agent.build import Built, Copy, build_index
from edge_agent.connectors.contract import Source
from edge_agent.executors import SerialExecutor
from edge_agent.kept import Kept
from paritree.core.digest import DatasetKeys
from paritree.core.display import key_values
from paritree.core.messages import Progress
from paritree.core.profile import Profile
from paritree.core.types import parse_type

pytestmark = pytest.mark.servers
COUNT = 4_000
PROFILE = Profile("t", ("id",), {"id": parse_type("int"), "v": parse_type("text")})
KEYS = DatasetKeys.of(bytes(32), "t")


class Interrupted(Exception):
    """The process is gone, and its session with it."""


@pytest.fixture
def filled(pg: PgCase) -> PgCase:
    """Rows 1001 to 4000, with room in the first blocks: that is where new versions of rows go."""
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text) WITH (autovacuum_enabled = off)",
        f"INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, {COUNT}) AS n",
        "DELETE FROM t WHERE id <= 1000",
        "VACUUM ANALYZE t",
    )
    return pg


def built(pg: PgCase, folder: Path, *, until: int | None = None) -> Built | None:
    source = Source(pg.server.url(pg.database))
    copy = Copy(source, PROFILE, pg.bind("t"), KEYS, 500, "plain")

    def note(progress: Progress) -> None:
        if until is not None and progress.shards_done >= until:
            raise Interrupted

    with SerialExecutor() as executor:
        try:
            return build_index(copy, executor, folder, note, kept=Kept.open(folder, b"same", b"request", 7))
        except Interrupted:
            return None


def entries(index: Built | None) -> set[tuple[int, bytes]]:
    """(id, row digest) of every entry."""
    assert index is not None
    return {
        (int(key_values(run.locator(row), PROFILE)[0]), run.row_digest(row))
        for run in index.index.runs
        for row in range(run.rows)
    }


def shards_done(folder: Path) -> list[int]:
    kept = Kept.read(folder)
    assert kept is not None
    return [done.number for done in kept.done]


def test_rows_that_moved_to_finished_shards_are_found(filled: PgCase, tmp_path: Path) -> None:
    """Rows of unread blocks are updated: their new versions go to the first blocks, which were read before."""
    assert built(filled, tmp_path / "one", until=4) is None
    assert shards_done(tmp_path / "one") == [0, 1, 2, 3]
    filled.run(
        "UPDATE t SET v = 'moved' WHERE id % 50 = 0 AND id > 3500",
        "INSERT INTO t VALUES (1, 'new')",
        "DELETE FROM t WHERE id = 1001",
    )
    moved = filled.admin.execute("SELECT count(*) FROM t WHERE v = 'moved' AND ctid < '(30,0)'::tid").fetchone()
    assert moved is not None
    assert moved[0] > 0, "the test is about rows that come into blocks that were read"
    again = built(filled, tmp_path / "one")
    assert again is not None
    fresh = built(filled, tmp_path / "fresh")
    assert entries(fresh) <= entries(again)
    # What else is there are versions that were read before: suspects, which are looked at again.
    assert {row_id for row_id, _ in entries(again) - entries(fresh)} == {1001}
    assert not again.position.point
    assert again.position.text.count("pg:snapshot=") == 2
    assert any("4 of 6 shards had been read before" in note and "2 snapshots" in note for note in again.notes), (
        again.notes
    )
    done = shards_done(tmp_path / "one")
    assert done[:4] == [0, 1, 2, 3]
    assert set(done[4:]) == {4, 5, 6, 7, 8, 9}  # the rest, and what changed in the first four


def test_interrupted_again_each_shard_is_followed_from_where_it_was_read(filled: PgCase, tmp_path: Path) -> None:
    for step in range(1, 12):
        if built(filled, tmp_path / "one", until=step) is not None:
            break
        filled.run(
            f"UPDATE t SET v = 'step {step}' WHERE id % 13 = {step % 13}",
            f"INSERT INTO t VALUES ({10_000 + step}, 'new')",
        )
    again = built(filled, tmp_path / "one")
    assert entries(built(filled, tmp_path / "fresh")) <= entries(again)
    numbers = shards_done(tmp_path / "one")
    assert len(numbers) == len(set(numbers))
    assert sorted(number for number in numbers if number < 6) == list(range(6))


def test_where_nothing_was_written_nothing_is_read_twice(filled: PgCase, tmp_path: Path) -> None:
    assert built(filled, tmp_path / "one", until=4) is None
    again = built(filled, tmp_path / "one")
    assert again is not None
    assert again.index.sums.root.count == COUNT - 1_000
    assert entries(again) == entries(built(filled, tmp_path / "fresh"))


@pytest.mark.parametrize("statement", ["VACUUM FULL t", "TRUNCATE t", "CLUSTER t USING t_pkey"])
def test_a_rewritten_table_is_read_anew(filled: PgCase, tmp_path: Path, statement: str) -> None:
    assert built(filled, tmp_path / "one", until=4) is None
    filled.run(statement, "UPDATE t SET v = 'new' WHERE id = 3000")
    again = built(filled, tmp_path / "one")
    assert again is not None
    assert again.position.point
    assert entries(again) == entries(built(filled, tmp_path / "fresh"))


def test_identifiers_of_another_history_are_not_compared(filled: PgCase) -> None:
    """A database restored from a backup, or one whose identifiers came round: what changed cannot be told."""
    with filled.connector.plan(filled.bind("t"), 500) as plan:
        memento = plan.memento()
        assert memento is not None
        assert plan.take_up([memento], plan.shards) is not None
        low = int(memento["seen"].split(":")[0])
        for other in (low + 1, low - (1 << 31)):
            assert plan.take_up([memento, {**memento, "seen": f"{other}:{other}:"}], plan.shards) is None
