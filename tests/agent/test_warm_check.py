"""The self-check of an index that follows a real PostgreSQL: shards are cut again by blocks, in a new snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from agent.warm_case import Warm, scanned
from connectors.pg_case import PgCase
from servers.postgresql import PostgresqlServer

from edge_agent.checking import Checked, SelfCheck
from edge_agent.refresh import mark_of, reached_of

pytestmark = pytest.mark.servers


@pytest.fixture
def warm(postgresql: PostgresqlServer, tmp_path: Path) -> Iterator[Warm]:
    """A table of 500 rows in several shards, and its index."""
    postgresql.create_database("checked")
    pg = PgCase(postgresql, "checked")
    pg.run(
        "CREATE TABLE orders (id bigint PRIMARY KEY, code text, amount numeric(12, 2))",
        "INSERT INTO orders SELECT i, 'c' || i, i / 4.0 FROM generate_series(1, 500) AS i",
        "ANALYZE orders",
    )
    with ExitStack() as closing:
        closing.callback(pg.close)
        case = Warm(pg, tmp_path, pg.bind("orders"))
        closing.callback(case.close)
        case.built()
        yield case


def faults(warm: Warm, pieces: int = 24) -> list[Checked]:
    check: SelfCheck = warm.index._check
    return [found for found in (check.piece() for _ in range(pieces)) if found.fault]


def lose(warm: Warm) -> None:
    """Have the source forget what it would tell next, as if it had been taken over."""
    source, index = warm.index._source, warm.index._index
    for batch in source.changes(mark_of(index.reached), proven=True):
        if batch.mark is not None:
            index.advance(reached_of(batch.mark, point=False, as_of=1.0))
            source.acknowledge(batch.mark)


def test_rows_that_move_and_change_are_no_faults(warm: Warm) -> None:
    for n in range(6):
        warm.pg.run(
            f"UPDATE orders SET amount = amount + 1 WHERE id % 7 = {n}",
            f"DELETE FROM orders WHERE id = {100 + n}",
            f"UPDATE orders SET amount = amount WHERE id % 11 = {n}",  # told, and nothing is new but the place
        )
        assert faults(warm, 4) == []
    assert faults(warm) == []
    assert warm.index._check.compared > 1_000
    assert not scanned(warm.check())


def test_lost_events_are_found_and_repaired(warm: Warm) -> None:
    warm.pg.run("UPDATE orders SET code = 'told' WHERE id < 20")
    warm.built()
    warm.pg.run(
        "UPDATE orders SET code = 'lost' WHERE id IN (5, 77)",
        "DELETE FROM orders WHERE id IN (6, 78)",
        "INSERT INTO orders VALUES (9000, 'lost', 1)",
    )
    lose(warm)
    found = faults(warm)
    assert found
    assert all(one.repaired for one in found)
    built = warm.check()
    assert not scanned(built)
    assert any("self-check" in note for note in built.notes)


def test_a_damaged_run_is_replaced_by_its_blocks_read_again(warm: Warm) -> None:
    warm.pg.run("UPDATE orders SET code = 'moved' WHERE id % 5 = 0", "DELETE FROM orders WHERE id % 9 = 0")
    warm.built()
    state = warm.index._index.view().state
    held = state.scanned[-1]
    assert held.run is not None
    path = warm.folder / "index" / held.run.file
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 8
    path.write_bytes(content)
    found = faults(warm)
    assert [one.place for one in found] == [held.name]
    assert found[0].repaired
    built = warm.check()
    assert not scanned(built)
    assert built.faults == ()
