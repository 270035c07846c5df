"""Row groups of a rewritten Parquet file that have the bytes of before are not read again, wherever they lie by now."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from agent.files_case import TICK_S, settle
from agent.rescan_case import Kept, bound_to
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.connectors import fileversion
from edge_agent.connectors.contract import Source
from edge_agent.connectors.files import recut
from edge_agent.connectors.files.fingerprint import Fingerprints
from edge_agent.index.rest import RestKey

Group = tuple[tuple[int, str], ...]
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.utf8()), ("more", pa.int32())])


@pytest.fixture(autouse=True)
def fine_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fileversion, "SETTLED_NS", int(TICK_S * 1e9))


def group(number: int, name: str = "name", rows: int = 40) -> Group:
    """Rows of one group, of distinct keys."""
    return tuple((n, f"{name} {n}") for n in range(1_000 * number, 1_000 * number + rows))


def write(path: Path, groups: Sequence[Group], *, more: int = 0, **options: Any) -> None:
    """A file of those row groups; ``more`` is a column that is not compared."""
    with pq.ParquetWriter(path, SCHEMA, **options) as writer:
        for rows in groups:
            columns = {"id": [n for n, _ in rows], "name": [v for _, v in rows], "more": [more] * len(rows)}
            writer.write_table(pa.table(columns, schema=SCHEMA))


class OneFile:
    """A folder with one file of ten groups, each a shard, and its index."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "orders"
        self.place.mkdir()
        self.groups = [group(number) for number in range(10)]
        self.write(self.groups)
        self.kept = Kept(Source(f"parquet:///{self.place}/*.parquet"), "orders", folder)

    def write(self, groups: Sequence[Group], name: str = "a", **options: Any) -> None:
        write(self.place / f"{name}.parquet", groups, **options)
        settle()

    def check(self, last: int) -> None:
        """The index is what a scan makes, and so many shards were read for it; then none."""
        self.kept.check()
        assert self.kept.last == last
        self.kept.check()
        assert self.kept.last == 0


@pytest.fixture
def one(tmp_path: Path) -> Iterator[OneFile]:
    made = OneFile(tmp_path)
    made.check(10)
    yield made
    made.kept.close()


def changed(rows: Group) -> Group:
    """Two rows in the middle have changed their values: keys, counts, sizes and statistics are as they were."""
    values = [v for _, v in rows]
    middle = len(rows) // 2
    values[middle], values[middle + 1] = values[middle + 1], values[middle]
    return tuple((n, v) for (n, _), v in zip(rows, values, strict=True))


HISTORIES = {
    "one is appended": (lambda g: [*g, group(10)], 1),
    "one in the middle is written anew": (lambda g: [*g[:4], group(4, "other"), *g[5:]], 1),
    "one is changed in place": (lambda g: [*g[:4], changed(g[4]), *g[5:]], 1),
    "one is dropped": (lambda g: [*g[:4], *g[5:]], 0),
    "they are in another order": (lambda g: g[::-1], 0),
    "one is there twice": (lambda g: [*g[:3], g[7], *g[3:]], 1),
    "the first is dropped and the last changed": (lambda g: [*g[1:-1], changed(g[-1])], 1),
    "two have changed places and one came between": (lambda g: [g[1], group(11), g[0], *g[2:]], 1),
    "all but one are gone": (lambda g: g[6:7], 0),
}


@pytest.mark.parametrize("history", HISTORIES)
def test_only_groups_of_other_bytes_are_read(one: OneFile, history: str) -> None:
    how, last = HISTORIES[history]
    one.write(how(one.groups))
    one.check(last)
    one.kept.reopen()
    one.check(0)


def test_statistics_and_sizes_prove_nothing(one: OneFile) -> None:
    """What the footer says of the changed group is what it said before."""
    path = one.place / "a.parquet"
    before = footer(path, 4)
    one.write([*one.groups[:4], changed(one.groups[4]), *one.groups[5:]])
    assert footer(path, 4) == before
    one.check(1)


def footer(path: Path, number: int) -> list[dict[str, Any]]:
    found = pq.read_metadata(path).row_group(number)
    return [found.column(index).to_dict() for index in range(found.num_columns)]


def test_duplicates_over_groups_come_and_go(one: OneFile) -> None:
    one.write([*one.groups, one.groups[3], one.groups[3]])
    one.check(2)
    built = one.kept.check()
    assert built.index.duplicates() == 40
    one.write([*one.groups, one.groups[3]])
    one.check(0)
    assert one.kept.check().index.duplicates() == 40
    one.write(one.groups)
    one.check(0)
    assert one.kept.check().index.duplicates() == 0


def test_a_renamed_file_and_rows_that_went_to_another_are_not_read(one: OneFile) -> None:
    (one.place / "a.parquet").rename(one.place / "b.parquet")
    settle()
    one.check(0)
    one.write(one.groups[:5], "b")
    one.write(one.groups[5:], "c")
    one.check(0)


def test_a_file_that_was_touched_only_is_not_read(one: OneFile) -> None:
    shutil.copy(one.place / "a.parquet", one.place.parent / "copy")
    (one.place / "a.parquet").unlink()
    shutil.copy(one.place.parent / "copy", one.place / "a.parquet")
    settle()
    one.check(0)


def test_columns_that_are_not_compared_do_not_count(one: OneFile) -> None:
    one.write(one.groups, more=5)
    one.check(0)


@pytest.mark.parametrize(
    "options", [{"compression": "gzip"}, {"use_dictionary": False}, {"data_page_version": "2.0"}, {"version": "1.0"}]
)
def test_the_same_rows_in_other_bytes_are_read(one: OneFile, options: dict[str, Any]) -> None:
    one.write(one.groups, **options)
    one.check(10)


def test_how_bytes_are_read_counts(tmp_path: Path) -> None:
    """The same bytes of int64 as another type are other rows."""
    prints = []
    for kind in (pa.int64(), pa.uint64(), pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("ms")):
        path = tmp_path / f"{len(prints)}.parquet"
        table = pa.table({"id": pa.array([1, 2, 3], pa.int64()).cast(kind)})
        pq.write_table(table, path, compression="none", use_dictionary=False)
        with pq.ParquetFile(path) as file, path.open("rb") as raw:
            prints.append(Fingerprints(file, raw, ["id"]).of(0))
    assert len(set(prints)) == len(prints)
    assert "" not in prints


def test_a_file_that_was_just_written_is_found_again_and_proves_nothing(
    one: OneFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fileversion, "SETTLED_NS", 10**9 * 3_600)
    one.write([*one.groups, group(10)])
    for _ in range(2):
        one.kept.check()
        assert one.kept.last == 1, "what was read of it may have been written since; the others have their bytes"
    monkeypatch.setattr(fileversion, "SETTLED_NS", int(TICK_S * 1e9))
    one.check(1)


def test_a_piece_of_several_groups_is_found_as_a_whole(tmp_path: Path) -> None:
    one = OneFile(tmp_path)
    try:
        one.kept.copy = replace(one.kept.copy, shard_rows=120, rest_key=RestKey(bytes(32)))
        one.kept.reopen()
        one.check(4)  # 3 + 3 + 3 + 1 groups
        one.write([group(11), *one.groups[:4], *one.groups[5:]])
        one.check(2)  # the new one; groups 3 and 5
        one.write([*one.groups[:3], group(11)])
        one.check(0)
    finally:
        one.kept.close()


def test_a_file_in_many_small_pieces_is_cut_anew(one: OneFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recut, "PIECES_MAX", 1)
    one.kept.copy = replace(one.kept.copy, shard_rows=400)
    one.kept.reopen()
    one.check(0)
    one.write([*one.groups, group(10)])
    one.check(2)


def test_a_damaged_run_of_a_file_that_was_cut_again_is_replaced(one: OneFile) -> None:
    """The self-check cuts the shard as the index has it, not as it would be cut anew."""
    one.kept.copy = replace(one.kept.copy, shard_rows=120)
    one.kept.index.close()
    shutil.rmtree(one.kept.folder / "index")
    one.kept.index = one.kept.opened()
    one.check(4)
    one.write([group(11), *one.groups])
    one.check(1)
    index = one.kept.index._index
    held = index.view().state.scanned[2]
    assert held.run is not None
    path = one.kept.folder / "index" / held.run.file
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(bytes(data))
    one.kept.reopen()
    check = one.kept.index._check
    for _ in range(20):
        found = check.piece()
        if found.fault:
            break
    assert found.place == held.name
    assert found.repaired
    one.check(0)


GROUPS = st.lists(
    st.lists(st.tuples(st.integers(0, 15), st.sampled_from("xyz")), min_size=1, max_size=4).map(tuple), max_size=5
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_history_of_row_groups_ends_in_what_a_scan_makes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Groups are taken over from any file, in any order, any number of times, beside new ones; files come and go."""
    one = OneFile(tmp_path_factory.mktemp("history"))
    one.kept.copy = replace(one.kept.copy, shard_rows=data.draw(st.sampled_from([1, 4, 100])))
    one.kept.reopen()
    files: dict[str, list[Group]] = {"a": one.groups}
    try:
        one.kept.check()
        for _ in range(data.draw(st.integers(1, 5))):
            name = data.draw(st.sampled_from("abc"))
            old = [each for some in files.values() for each in some]
            taken = data.draw(st.lists(st.sampled_from(old), max_size=6)) if old else []
            files[name] = data.draw(st.permutations([*taken, *data.draw(GROUPS)]))
            write(one.place / f"{name}.parquet", files[name])
            if data.draw(st.booleans()):
                settle()
            one.kept.check()
        settle()
        one.kept.check()
        one.kept.check()
        assert one.kept.last == 0
    finally:
        one.kept.close()


def test_the_binding_of_the_case_reads_two_of_three_columns() -> None:
    assert [column.source for column in bound_to("orders").columns] == ["id", "name"]
