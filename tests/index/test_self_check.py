"""The self-check finds a flipped byte, a skipped change and a lost event, says so and repairs them; nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.build import Copy, build_index
from edge_agent.checking import Checked, SelfCheck
from edge_agent.connectors.contract import Position, Source
from edge_agent.connectors.registry import connect
from edge_agent.executors import SerialExecutor
from edge_agent.index.changes import Applied, Changes, Reached
from edge_agent.index.durable import DurableIndex
from edge_agent.index.recount import recount
from edge_agent.letters.sweep import SweepLetters
from edge_agent.warm import Following, WarmIndex
from edge_agent.wholescan import identity_of
from paritree.core.canonical import RowEncoder
from paritree.core.digest import DatasetKeys
from paritree.core.messages import Freshness
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type

KINDS = {"id": parse_type("int"), "name": parse_type("text")}
PROFILE = Profile("orders", ("id",), KINDS)
BINDING = Binding("orders", "orders", ("id",), tuple(BoundColumn(n, t, source=n) for n, t in KINDS.items()))
KEYS = DatasetKeys.of(bytes(32), "orders")
ROWS, SHARD_ROWS = 300, 50


class Table:
    """A SQLite table and its index, which hears of the changes that it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "orders.db"
        self.write("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
        self.write(*(f"INSERT INTO orders VALUES ({n}, 'name {n}')" for n in range(ROWS)))
        self.copy = Copy(Source(f"sqlite:///{self.path}"), PROFILE, BINDING, KEYS, SHARD_ROWS, "plain")
        self.index = DurableIndex.open(folder / "index", identity_of(self.copy), digester="plain")
        self.install()
        self.dirty: list[int] = []
        self.check = SelfCheck(self.copy, self.index, self.refresh)

    def install(self) -> None:
        built = build_index(self.copy, SerialExecutor(), self.index.scan_folder, lambda _: None)
        assert built.scan is not None
        self.index.install(built.scan, Reached(built.position, b"0"), engine="sqlite")

    def write(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def change(self, statement: str, *told: int) -> None:
        """Write, and tell those keys at the next refresh."""
        self.write(statement)
        self.dirty.extend(told)

    def refresh(self) -> None:
        self.index.apply(self.read(self.dirty), Reached(Position("told", point=False), b"1", 1.0))
        self.dirty.clear()

    def read(self, ids: list[int]) -> Changes:
        encoder = RowEncoder(PROFILE)
        found = {n: encoder.key_bytes({"id": encoder.value_bytes("id", n)}) for n in ids}
        rows = self.check._rows

        with connect(self.copy.source) as connector:
            return Changes.of(
                [KEYS.key_digest(key) for key in found.values()], list(rows(connector, [*found.values()]))
            )

    def pieces(self, count: int = 40) -> list[Checked]:
        """Enough pieces to look at everything."""
        return [self.check.piece() for _ in range(count)]

    def as_scanned(self) -> bool:
        """Whether the index is what a scan makes of the table now, with sums that are those of its rows."""
        cold = build_index(self.copy, SerialExecutor(), self.folder / "cold", lambda _: None)
        state = self.index.view().state
        anew = recount(self.index.view().layers, "plain", ruled=False)
        return anew.differs(state) == "" and cold.index.sums.root == state.sums.root and not state.faults


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(tmp_path)
    yield made
    made.index.close()


def faults(checked: list[Checked]) -> list[Checked]:
    return [one for one in checked if one.fault]


def test_a_right_index_has_no_faults_while_its_table_is_written(table: Table) -> None:
    for n in range(20):
        table.change(f"UPDATE orders SET name = 'new {n}' WHERE id = {n * 7}", n * 7)
        table.change(f"DELETE FROM orders WHERE id = {200 + n}", 200 + n)
        assert faults(table.pieces(2)) == []
    assert faults(table.pieces()) == []
    assert table.as_scanned()
    assert table.check.compared > 3 * ROWS


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE orders SET name = 'nobody told' WHERE id = 77",
        "DELETE FROM orders WHERE id = 77",
        "INSERT INTO orders VALUES (7000, 'nobody told')",
    ],
)
@pytest.mark.parametrize("came_with_a_change", [False, True])
def test_a_lost_event_is_found_and_repaired(table: Table, statement: str, came_with_a_change: bool) -> None:
    if came_with_a_change:
        table.change("UPDATE orders SET name = 'told' WHERE id = 77", 77)
        table.refresh()
    table.write(statement)
    assert not table.as_scanned()
    [found, *more] = faults(table.pieces())
    assert more == []
    assert "1 keys are not as in the table" in found.fault
    assert table.as_scanned()
    assert any("self-check" in note for note in table.index.view().state.notes)


def test_a_skipped_change_is_found_and_repaired(table: Table) -> None:
    """The event came, the position moved on, and the row was not taken over."""
    table.write("UPDATE orders SET name = 'skipped' WHERE id IN (3, 250)")
    table.index.advance(Reached(Position("past it", point=False), b"2", 2.0))
    found = faults(table.pieces())
    assert found
    assert all(one.repaired for one in found)
    assert table.as_scanned()


def test_a_row_that_was_spoilt_unseen_is_found_once(table: Table) -> None:
    table.write("UPDATE orders SET name = 'x' || char(0) WHERE id = 77")
    [found] = faults(table.pieces())
    assert found.repaired
    assert sum(table.index.view().state.dead.values()) == 1
    assert faults(table.pieces()) == [], "a dead row's digest is of chance, in the index and in the table"


def test_a_row_that_changes_while_it_is_repaired_is_right_afterwards(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row was read again, then a refresh put in a newer one, then the older one followed."""
    apply, newer = table.index.apply, []

    def late(changes: Changes, reached: Reached | None = None) -> Applied:
        if table.index.view().state.faults and not newer:
            newer.append(77)
            table.change("UPDATE orders SET name = 'newer' WHERE id = 77", 77)
            table.refresh()
        return apply(changes, reached)

    monkeypatch.setattr(table.index, "apply", late)
    table.write("UPDATE orders SET name = 'nobody told' WHERE id = 77")
    assert len(faults(table.pieces())) == 1
    assert newer
    assert table.as_scanned()


def flipped(table: Table, place: float) -> str:
    """Flip one byte of a shard's run, so far into it; the shard's name."""
    held = table.index.view().state.scanned[2]
    assert held.run is not None
    path = table.folder / "index" / held.run.file
    with path.open("r+b") as file:
        file.seek(at := 64 + int(place * (path.stat().st_size - 65)))
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 4]))
    return held.name


@pytest.mark.parametrize("place", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
def test_a_flipped_byte_is_found_and_the_shard_replaced(table: Table, place: float) -> None:
    name = flipped(table, place)
    before = table.index.view().state.named(name)
    [found] = faults(table.pieces(12))
    assert (found.place, found.repaired) == (name, True)
    assert "checksum" in found.fault
    after = table.index.view().state.named(name)
    assert before is not None
    assert after is not None
    assert after.run != before.run
    assert table.as_scanned()


def test_what_cannot_be_repaired_stays_in_doubt_until_the_next_scan(table: Table) -> None:
    table.change("INSERT INTO orders VALUES (7000, 'told')", 7000)  # the file is another version: it is cut anew
    name = flipped(table, 0.5)
    found = faults(table.pieces(12))
    assert found
    assert not any(one.repaired for one in found if one.place == name)
    [fault] = table.index.view().state.faults
    assert fault.place == name
    table.index.close()
    table.index = DurableIndex.open(table.folder / "index", identity_of(table.copy), digester="plain")
    assert table.index.view().state.faults == (fault,)
    table.install()
    assert table.as_scanned()


def test_an_index_in_doubt_is_scanned_anew_or_its_region_is_unknown(table: Table) -> None:
    table.index.doubt("a shard", "a flipped byte")
    table.index.close()
    letters = SweepLetters(None, PROFILE, KEYS, "")
    with WarmIndex(table.copy, table.folder / "index", Following("")) as warm:
        as_it_is = warm.built(SerialExecutor, table.folder / "s", lambda _: None, letters, Freshness(None, False))
        assert as_it_is.faults == ("a shard: a flipped byte",)
        built = warm.built(SerialExecutor, table.folder / "s", lambda _: None, letters)
        assert built.faults == ()
        assert any("in doubt" in note for note in built.notes)
    table.index = DurableIndex.open(table.folder / "index", identity_of(table.copy), digester="plain")
    assert table.as_scanned()
