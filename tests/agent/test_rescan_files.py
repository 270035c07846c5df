"""Files are scanned again where they were written, and nowhere else; the index is then what a scan makes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from agent.files_case import FORMS, TICK_S, Files, Rows, settle, shards_of_a_file, some
from agent.rescan_case import OLD, Kept
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.build import build_index
from edge_agent.connectors import fileversion
from edge_agent.executors import SerialExecutor, ThreadExecutor
from edge_agent.index.changes import Reached
from edge_agent.index.rest import RestKey, is_sealed
from edge_agent.letters.sweep import SchemaDrift
from edge_agent.warm import Following
from paritree.core.errors import ConfigError, SourceError
from paritree.core.messages import Freshness, Progress


@pytest.fixture(autouse=True)
def fine_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fileversion, "SETTLED_NS", int(TICK_S * 1e9))


@pytest.fixture(params=FORMS)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    """Four files of 100 rows: three Parquet shards each, one of CSV."""
    made = Files(request.param, tmp_path)
    for number in range(4):
        made.write(f"part-{number}", some(100 * number, 100))
    return made


@pytest.fixture
def kept(files: Files) -> Iterator[Kept]:
    made = files.kept()
    yield made
    made.close()


def test_unchanged_files_are_not_scanned(files: Files, kept: Kept) -> None:
    built = kept.check()
    assert kept.last == built.shards == 4 * shards_of_a_file(files)
    again = kept.check()
    assert kept.last == 0
    assert again.position == built.position
    assert again.position.point
    assert again.age_s < 1.0
    assert "nothing was scanned" in again.notes[-1]
    kept.reopen()
    assert kept.check(OLD).position == built.position
    assert kept.last == 0


def test_only_changed_and_new_files_are_scanned_and_rows_of_vanished_ones_go(files: Files, kept: Kept) -> None:
    kept.check()
    files.write("part-1", some(100, 100, "other"))
    files.write("part-9", some(1_000, 30))
    (files.place / f"part-3.{files.form}").unlink()
    settle()
    built = kept.check()
    assert kept.last == shards_of_a_file(files) + 1
    assert built.index.sums.root.count == 330
    assert built.position.point
    assert kept.check().index.sums.root.count == 330
    assert kept.last == 0


def test_rows_that_move_between_files_are_there_once(files: Files, kept: Kept) -> None:
    kept.check()
    files.write("part-0", some(0, 60))
    files.write("part-1", some(60, 140))
    settle()
    assert kept.check().index.sums.root.count == 400
    files.write("part-0", some(0, 70))  # rows of part-1, too
    settle()
    assert kept.check().index.duplicates() > 0


def test_a_version_that_is_not_proved_is_no_version(files: Files, kept: Kept) -> None:
    """Written in place, with size and time of the last write as before: only the inode knows."""
    kept.check()
    path = files.place / f"part-2.{files.form}"
    before = path.stat()
    data = path.read_bytes()
    settle()
    if files.form == "parquet":
        files.write("part-2", some(200, 100, "NAME"))
    else:
        path.write_bytes(data.replace(b"name 250", b"NAME 250"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    settle()
    kept.check()
    assert kept.last == shards_of_a_file(files)


def test_a_file_that_was_just_written_is_scanned_again(
    files: Files, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of Parquet its bytes are looked at again, and they are those that were read before."""
    kept.check()
    again = 0 if files.form == "parquet" else 4
    monkeypatch.setattr(fileversion, "SETTLED_NS", 10**9 * 3_600)
    kept.check()
    kept.check()
    assert kept.last == again
    monkeypatch.setattr(fileversion, "SETTLED_NS", int(TICK_S * 1e9))
    kept.check()
    assert kept.last == again, "what was found before may have been written since"
    kept.check()
    assert kept.last == 0


def test_without_leave_to_scan_a_changed_file_leaves_the_index_as_old_as_it_is(files: Files, kept: Kept) -> None:
    kept.check()
    assert kept.built(Freshness(0.0, rescan=False)).age_s < 0.5, "files that are as they were are proved, not scanned"
    time.sleep(0.3)
    files.write("part-0", some(0, 5))
    built = kept.built(Freshness(0.1, rescan=False))
    assert kept.last == 0
    assert built.age_s > 0.25
    assert "used as it is" in built.notes[-1]


def test_a_scan_that_is_broken_off_leaves_the_index_as_it_was(files: Files, kept: Kept) -> None:
    before = kept.check().index.sums.root
    files.write("part-0", some(0, 5))
    files.write("part-2", some(200, 5))
    settle()

    def ended(told: Progress) -> None:
        if told.shards_done == 1:
            raise SourceError("nobody wants it any more")

    with pytest.raises(SourceError, match="nobody wants"):
        kept.built(progress=ended)
    assert kept.index._index.view().state.sums.root == before
    kept.check()
    assert kept.last == 2


def test_a_file_that_changes_meanwhile_is_an_error_and_no_index(files: Files, kept: Kept) -> None:
    kept.check()
    files.write("part-0", some(0, 5))
    settle()

    def written(_: Progress) -> None:
        files.write("part-3", some(300, 7))

    with pytest.raises(SourceError, match="changed"):
        kept.built(progress=written)
    settle()
    kept.check()


def test_other_columns_stop_the_dataset(files: Files, kept: Kept) -> None:
    kept.check()
    for path in files.place.iterdir():
        path.unlink()
    data = pa.table({"id": [1], "more": ["x"]})
    path = files.place / f"part-0.{files.form}"
    pq.write_table(data, path) if files.form == "parquet" else pa_csv.write_csv(data, path)
    with pytest.raises(SchemaDrift):
        kept.built()


def test_dead_letters_end_with_the_file_that_had_them(tmp_path: Path) -> None:
    files = Files("csv", tmp_path)
    files.write("part-0", some(0, 10))
    for part in ("part-1", "part-2"):
        (files.place / f"{part}.csv").write_text(
            f"id,name\n{part[-1]}00,x\nnot a number,x\n{part[-1]}01,\xff\n", "latin-1"
        )
    kept = files.kept()
    try:
        kept.check()
        ids = {letter.id for letter in kept.store.letters("orders")}
        files.write("part-1", some(100, 2))
        settle()
        kept.check()
        assert kept.last == 1
        left = {letter.id for letter in kept.store.letters("orders")}
        assert left <= ids
        files.write("part-2", some(200, 2))
        settle()
        assert kept.check().dead.keyed == 0
        assert kept.store.letters("orders") == []
    finally:
        kept.close()


def test_another_way_to_scan_cuts_the_shards_anew(files: Files, kept: Kept) -> None:
    kept.check()
    kept.copy = replace(kept.copy, shard_rows=1_000)
    kept.reopen()
    kept.check()
    kept.check()
    assert kept.last == 0


NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(
    st.tuples(
        NAMES, st.dictionaries(st.integers(0, 30), st.sampled_from("xyz"), max_size=12) | st.none(), st.booleans()
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_history_of_files_ends_in_what_a_scan_makes(
    form: str, steps: list[tuple[str, Rows | None, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Files come, change and go; ``settled``: with time before the next sweep, or at once."""
    files = Files(form, tmp_path_factory.mktemp("history"))
    files.write("always", some(0, 3))
    kept = files.kept()
    try:
        kept.check()
        for name, rows, settled in steps:
            if rows is None:
                (files.place / f"{name}.{form}").unlink(missing_ok=True)
            else:
                files.write(name, rows)
            if settled:
                settle()
            kept.check()
        settle()
        kept.check()
        kept.check()
        assert kept.last == 0
    finally:
        kept.close()


def test_a_file_that_vanished_is_an_error(files: Files, kept: Kept) -> None:
    kept.check()
    for path in files.place.iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="there is no file"):
        kept.built()


def test_the_default_clock_is_the_coarsest_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    path = tmp_path / "a"
    path.write_text("x")
    now = path.stat().st_ctime_ns
    assert fileversion.settled_version([str(path)], now_ns=now + 1_999_999_999) == ""
    version = fileversion.settled_version([str(path)], now_ns=now + 2_000_000_001)
    assert version == fileversion.settled_version([str(path)], now_ns=now + 10**12)
    assert version != fileversion.settled_version([str(path)], "read otherwise", now_ns=now + 10**12)
    with pytest.raises(SourceError):
        fileversion.settled_version([str(tmp_path / "none")])


def test_the_version_of_a_locked_file_leaves_its_locks(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    now = path.stat().st_ctime_ns + 10**12
    another = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-c", another, str(path)]
    with path.open("r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        version = fileversion.settled_version([str(path)], locked=True, now_ns=now)
        assert b"BlockingIOError" in subprocess.run(command, capture_output=True, check=False).stderr
        assert version == fileversion.settled_version([str(path)], now_ns=now)  # which opens and closes it
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0, "what ``locked`` is for"
    with pytest.raises(SourceError):
        fileversion.settled_version([str(tmp_path / "none")], locked=True)


def test_an_index_made_before_is_taken_over_by_a_scan(files: Files) -> None:
    """One that was kept by its age alone has versions, too."""
    settle()
    kept = files.kept()
    try:
        kept.following = Following("", max_age_s=3_600.0)
        kept.reopen()
        kept.built()
        kept.following = Following("", rescan_rows_s=1e6)
        kept.reopen()
        kept.check()
        assert kept.last == 0
        cold = build_index(kept.copy, SerialExecutor(), kept.folder / "cold", lambda _: None)
        assert cold.index.sums.root == kept.built().index.sums.root
    finally:
        kept.close()


def test_an_index_that_followed_changes_is_scanned_as_a_whole(files: Files, kept: Kept) -> None:
    """Its rows are not all those of a shard, and its age is not that of its shards."""
    kept.check()
    position = kept.index._index.reached.position
    kept.index._index.advance(Reached(position, b"where the changes go on", time.time() - 1))
    built = kept.check(OLD)
    assert kept.last == 4 * shards_of_a_file(files)
    assert any("changes were told" in note for note in built.notes)
    kept.check()
    assert kept.last == 0


def test_shards_are_scanned_by_threads_and_encrypted(files: Files, kept: Kept) -> None:
    kept.copy = replace(kept.copy, rest_key=RestKey(bytes(range(32))))
    kept.reopen()
    kept.check()
    for number in (0, 2):
        files.write(f"part-{number}", some(100 * number, 50, "other"))
    settle()
    index, letters = kept.index, kept.letters()
    built = index.built(lambda: ThreadExecutor(2), kept.folder / "sweep", lambda _: None, letters)
    assert "only" in built.notes[-1]
    assert all(is_sealed(path) for path in (kept.folder / "index").glob("*.run"))
    assert kept.check().index.sums.root == built.index.sums.root
    assert kept.last == 0
