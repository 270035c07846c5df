"""The first scan of files is killed, and another process goes on: what was read is not read again, if it is proved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent.files_case import FORMS, TICK_S, Files, settle, shards_of_a_file, some
from agent.rescan_case import Kept

from edge_agent.connectors import fileversion


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


def test_a_first_scan_that_was_killed_goes_on(files: Files, kept: Kept) -> None:
    kept.killed(2)
    built = kept.went_on(last=4 * shards_of_a_file(files) - 2)
    assert any("2 of" in note and "before the scan was interrupted" in note for note in built.notes)
    kept.reopen()
    kept.check()
    assert kept.last == 0


def test_what_was_written_since_it_was_killed_is_scanned_anew(files: Files, kept: Kept) -> None:
    kept.killed(2)
    files.write("part-0", some(0, 100, "other"))
    settle()
    built = kept.went_on(last=4 * shards_of_a_file(files))
    assert "not in the same place" in built.notes[-1]


def test_a_shard_whose_file_was_written_unseen_is_read_again(files: Files, kept: Kept) -> None:
    """Size and time of the last write are as before: only the shard's version tells."""
    kept.killed(shards_of_a_file(files) + 1)
    path = files.place / f"part-0.{files.form}"
    before = path.stat()
    if files.form == "parquet":
        files.write("part-0", some(0, 100, "NAME"))
    else:
        path.write_bytes(path.read_bytes().replace(b"name 50", b"NAME 50"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    settle()
    kept.went_on(last=4 * shards_of_a_file(files) - 1)
    kept.check()
    assert kept.last == 0


def test_shards_of_a_file_that_was_just_written_prove_nothing(
    files: Files, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fileversion, "SETTLED_NS", 10**9 * 3_600)
    kept.killed(2)
    built = kept.went_on(last=4 * shards_of_a_file(files))
    assert "proved to be as it was" in built.notes[-1]
