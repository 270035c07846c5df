"""Scans that are interrupted and go on: no finished shard is read again, and no row is lost or doubled by that."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from msgpack import packb

from edge_agent import build as build_module
from edge_agent import kept as kept_module
from edge_agent.build import Built, Copy, build_index, built_before
from edge_agent.connectors.contract import Source
from edge_agent.executors import SerialExecutor, ThreadExecutor
from edge_agent.index.rest import RestKey
from edge_agent.kept import FORMAT, NAME, Kept, of_use
from edge_agent.scan import ScanTask, ShardResult
from paritree.core.digest import DatasetKeys
from paritree.core.errors import SourceError
from paritree.core.messages import Progress
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type

KEYS = DatasetKeys.of(bytes(range(32)), "t")
ROWS = 1_000
SHARD_ROWS = 100
SHARDS = 10


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    with closing(sqlite3.connect(tmp_path / "t.db")) as database, database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
        database.executemany("INSERT INTO t VALUES (?, ?)", [(n, f"value {n}") for n in range(ROWS)])
    columns = {"id": parse_type("int"), "v": parse_type("text")}
    binding = Binding("t", "t", ("id",), tuple(BoundColumn(n, kind, source=n) for n, kind in columns.items()))
    source = Source(f"sqlite:///{tmp_path}/t.db")
    return Copy(source, Profile("t", ("id",), columns), binding, KEYS, SHARD_ROWS, "plain")


class Interrupted(Exception):
    """The process is gone."""


class Scans:
    """Which shards were scanned, and an end of the process after so many."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.read: list[int] = []
        scan = build_module.scan_shard

        def counted(task: ScanTask) -> ShardResult:
            self.read.append(task.shard.number)
            return scan(task)

        monkeypatch.setattr(build_module, "scan_shard", counted)

    def run(self, copy: Copy, *, until: int | None = None, workers: int = 1) -> tuple[Built | None, list[int]]:
        """Build, or go on with it, up to ``until`` shards; the index, and the shards that were read for it."""
        self.read.clear()
        kept = Kept.open(self.folder, b"same", b"request", 7)

        def note(progress: Progress) -> None:
            if until is not None and progress.shards_done >= until:
                raise Interrupted

        executor = SerialExecutor() if workers == 1 else ThreadExecutor(workers)
        with executor:
            try:
                return build_index(copy, executor, self.folder, note, None, kept), sorted(self.read)
            except Interrupted:
                return None, sorted(self.read)


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scans:
    return Scans(tmp_path / "spool" / "t" / "sweep-1", monkeypatch)


def entries(built: Built | None) -> list[tuple[bytes, bytes, bytes]]:
    assert built is not None
    return sorted(
        (run.key_digests(row, row + 1).tobytes(), run.row_digest(row), run.locator(row))
        for run in built.index.runs
        for row in range(run.rows)
    )


def same(one: Built | None, other: Built | None) -> bool:
    assert one is not None
    assert other is not None
    roots = one.index.sums.root == other.index.sums.root
    return roots and bool((one.index.probe.sketch.sums == other.index.probe.sketch.sums).all())


@pytest.mark.parametrize("workers", [1, 3])
def test_interrupted_after_any_shard_it_reads_the_others_only(copy: Copy, scans: Scans, workers: int) -> None:
    whole, read = scans.run(copy)
    assert read == list(range(SHARDS))
    for until in range(1, SHARDS + 1):
        one = Scans.__new__(Scans)
        one.folder, one.read = scans.folder.with_name(f"sweep-{until}"), scans.read
        first, _ = one.run(copy, until=until, workers=workers)
        assert first is None
        done = {done.number for done in Kept.read(one.folder).done}  # type: ignore[union-attr]
        assert len(done) >= until
        built, again = one.run(copy, workers=workers)
        assert again == sorted(set(range(SHARDS)) - done)
        assert same(built, whole)
        assert entries(built) == entries(whole)
        assert built is not None
        assert built.position.point  # nobody has written: it is as if it had been read at once
        assert f"{len(done)} of {SHARDS} shards had been read before the scan was interrupted" in built.notes


def test_it_may_be_interrupted_again_and_again(copy: Copy, scans: Scans) -> None:
    whole, _ = scans.run(copy)
    scans.folder = scans.folder.with_name("again")
    every: list[int] = []
    for until in range(1, SHARDS + 1):
        _, read = scans.run(copy, until=until)
        every += read
    built, read = scans.run(copy)
    assert sorted(every + read) == list(range(SHARDS))
    assert entries(built) == entries(whole)


def test_a_written_file_is_read_anew(copy: Copy, scans: Scans, tmp_path: Path) -> None:
    """SQLite does not tell which rows changed, so what was read counts only while nothing did."""
    scans.run(copy, until=4)
    with closing(sqlite3.connect(tmp_path / "t.db")) as database, database:
        database.execute("UPDATE t SET v = 'new' WHERE id = 3")
    built, read = scans.run(copy)
    assert read == list(range(SHARDS))
    scans.folder = scans.folder.with_name("fresh")
    fresh, _ = scans.run(copy)
    assert entries(built) == entries(fresh)


@pytest.mark.parametrize("damage", ["lost", "cut", "flipped", "other rows"])
def test_a_damaged_run_is_read_again_and_no_other(copy: Copy, scans: Scans, damage: str) -> None:
    whole, _ = scans.run(copy)
    scans.folder = scans.folder.with_name("damaged")
    scans.run(copy, until=4)
    run = scans.folder / "000002.run"
    data = bytearray(run.read_bytes())
    match damage:
        case "lost":
            run.unlink()
        case "cut":
            run.write_bytes(data[:-9])
        case "flipped":
            data[-1] ^= 1
            run.write_bytes(data)
        case _:
            run.write_bytes((scans.folder.with_name("sweep-1") / "000009.run").read_bytes())
    built, read = scans.run(copy)
    assert read == [2, *range(4, SHARDS)]
    assert entries(built) == entries(whole)


def test_a_torn_record_is_as_if_it_had_not_been_written(copy: Copy, scans: Scans) -> None:
    scans.run(copy, until=4)
    progress = scans.folder / NAME
    data = progress.read_bytes()
    for cut in (1, 5, 20):
        progress.write_bytes(data[:-cut])
        kept = Kept.read(scans.folder)
        assert kept is not None
        assert [done.number for done in kept.done] == [0, 1, 2]
        assert len(progress.read_bytes()) < len(data) - cut  # the torn end is gone: what follows can be read
        kept.note_fence(9)
        again = Kept.read(scans.folder)
        assert again is not None
        assert (len(again.done), again.fence) == (3, 9)
    _, read = scans.run(copy)
    assert read == list(range(3, SHARDS))


def test_a_damaged_record_is_as_if_it_had_not_been_written(copy: Copy, scans: Scans) -> None:
    """Also where it can still be decoded."""
    scans.run(copy, until=4)
    progress = scans.folder / NAME
    whole = Kept.read(scans.folder)
    assert whole is not None
    data = bytearray(progress.read_bytes())
    data[data.rindex(whole.done[3].checksum)] ^= 1
    progress.write_bytes(data)
    kept = Kept.read(scans.folder)
    assert kept is not None
    assert [done.number for done in kept.done] == [0, 1, 2]


@pytest.mark.parametrize("more", [{}, {"more": 1}])
def test_progress_of_another_format_begins_anew(copy: Copy, scans: Scans, more: dict[str, int]) -> None:
    """Whatever its records have in them."""
    scans.run(copy, until=4)
    progress = scans.folder / NAME
    changes = {"begun": {"format": FORMAT + 1}, "done": more}
    written = b""
    for kind, values, _ in kept_module._records(progress.read_bytes(), None):
        content = packb([kind, values | changes[kind] if kind in changes else values])
        digest = hashlib.blake2b(content, digest_size=8).digest()
        written += len(content).to_bytes(4, "little") + digest + content
    progress.write_bytes(written)
    assert Kept.read(scans.folder) is None
    built, read = scans.run(copy)
    assert read == list(range(SHARDS))
    assert len(entries(built)) == ROWS


def test_another_scan_does_not_go_on_with_it(copy: Copy, scans: Scans) -> None:
    scans.run(copy, until=4)
    kept = Kept.open(scans.folder, b"other", b"request", 7)
    assert kept.done == []
    assert list(scans.folder.glob("*.run")) == []
    _, read = scans.run(copy)
    assert read == list(range(SHARDS))


def test_another_cut_of_the_table_is_read_anew(copy: Copy, scans: Scans) -> None:
    scans.run(copy, until=4)
    built, read = scans.run(replace(copy, shard_rows=250))
    assert read == list(range(4))
    assert built is not None
    assert built.index.sums.root.count == ROWS


def test_a_whole_index_is_opened_without_its_source(copy: Copy, scans: Scans, tmp_path: Path) -> None:
    copy = replace(copy, rest_key=RestKey(bytes(32)))
    whole, _ = scans.run(copy)
    (tmp_path / "t.db").unlink()
    kept = Kept.read(scans.folder)
    assert kept is not None
    again = built_before(copy, kept)
    assert entries(again) == entries(whole)
    assert same(again, whole)
    assert again is not None
    assert whole is not None
    assert (again.position, again.engine, again.dead, again.notes) == (
        whole.position,
        whole.engine,
        whole.dead,
        whole.notes,
    )
    next(iter(scans.folder.glob("*.run"))).unlink()
    assert built_before(copy, kept) is None


def test_with_a_key_at_rest_it_is_sealed_and_of_no_use_without(copy: Copy, scans: Scans) -> None:
    key, other = RestKey(bytes(32)), RestKey(bytes(range(32)))
    Kept.open(scans.folder, b"same", b"a request that says much", 7, key).note_fence(3)
    data = (scans.folder / NAME).read_bytes()
    assert b"request" not in data
    kept = Kept.read(scans.folder, key)
    assert kept is not None
    assert (kept.request, kept.fence) == (b"a request that says much", 3)
    for wrong in (None, other):
        (scans.folder / NAME).write_bytes(data)
        assert Kept.read(scans.folder, wrong) is None


def test_what_is_kept_is_readable_by_its_owner_only_and_gets_old(copy: Copy, scans: Scans) -> None:
    scans.run(copy, until=1)
    progress = scans.folder / NAME
    assert progress.stat().st_mode & 0o777 == 0o600
    assert of_use(scans.folder)
    os.utime(progress, (0, 0))
    assert not of_use(scans.folder)
    assert not of_use(scans.folder.with_name("nothing"))


@contextmanager
def full_spool(folder: Path) -> Iterator[None]:
    """Nothing can be written there."""
    progress = folder / NAME
    progress.unlink()
    progress.mkdir()
    yield


def test_a_spool_that_takes_nothing_is_an_error_with_a_next_step(copy: Copy, scans: Scans) -> None:
    kept = Kept.open(scans.folder, b"same", b"request", 7)
    with full_spool(scans.folder), pytest.raises(SourceError) as caught:
        kept.note_fence(1)
    assert caught.value.next_step
    assert caught.value.retryable
