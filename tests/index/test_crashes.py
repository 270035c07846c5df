"""Killed, or without power, at any step: the index is the old one or the new one, and what is left over is removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import indexed
import pytest
from indexed import OPERATIONS, begin, opened, whole

from edge_agent.index.rest import RestKey
from paritree.core.errors import SourceError

CRASHER = Path(__file__).with_name("crasher.py")
POINTS_MIN = {"applied": 20, "replaced": 25, "installed": 12, "compacted": 90, "doubted": 8}
"""So that a step that is no longer counted is noticed."""


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        *((indexed.compaction, n) for n in ("SMALLEST_ROWS", "FOLDED_ROWS_MIN", "FAN_IN")),
        (indexed.slices, "SLICE_ROWS"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # is set back after the test
    indexed.small_sizes()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where possible: hundreds of synced files are quick there, and killing loses none of them."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as made:
        yield Path(made)


def outcomes(folder: Path, operation: str) -> tuple[str, str]:
    """What the index says before and after the operation."""
    shutil.copytree(folder / "base", folder / "done")
    with opened(folder / "done") as index:
        before = whole(index)
        OPERATIONS[operation](index)
        after = whole(index)
    assert (before == after) == (operation in ("compacted", "doubted"))
    return before, after


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_every_step_it_is_the_old_index_or_the_new_one(folder: Path, operation: str) -> None:
    begin(folder / "base")
    before, after = outcomes(folder, operation)
    command = [sys.executable, str(CRASHER), operation, str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    points = int(said.stdout)
    assert points >= POINTS_MIN[operation]
    found = []
    for point in range(points):
        with opened(folder / str(point)) as index:
            assert index.why_not == ""
            found.append(whole(index) if not index.view().state.faults else before)
            assert found[-1] in (before, after), f"neither old nor new after step {point}"
            index.trust("a")
            if point % 4:
                continue
            OPERATIONS[operation](index)  # what is told again is taken over again
            assert whole(index) == after
    assert before in found
    assert found == sorted(found, key=[before, after].index), "once it is the new index it stays that"
    if before != after:
        assert after in found


class PowerLoss:
    """Copies of a folder as they would be without what was not synced, made before each step.

    Data is lost until it is synced. Of names a file system may keep ``all`` at once, only those of a ``synced`` folder,
    or anything in between: ``removals`` at once, and the others of a synced folder.
    """

    def __init__(self, folder: Path, into: Path, *, kept: str) -> None:
        self._folder, self._into, self._kept = folder, into, kept
        self._data = {inode: path.read_bytes() for path, inode in self._files()}
        self._names = {path.name: inode for path, inode in self._files()}
        self._last = ""
        self.images = 0

    def _files(self) -> list[tuple[Path, int]]:
        return [(path, path.stat().st_ino) for path in self._folder.iterdir() if path.is_file()]

    def __call__(self, step: str) -> None:
        what, _, name = self._last.partition(" ")
        if self._last == "sync folder":
            self._names = {path.name: inode for path, inode in self._files()}
        elif what == "sync":
            path = self._folder / name
            self._data[path.stat().st_ino] = path.read_bytes()
        self._last = step
        image = self._into / str(self.images)
        image.mkdir()
        self.images += 1
        now = {path.name: inode for path, inode in self._files()}
        names = now if self._kept == "all" else self._names
        for name, inode in names.items():
            if self._kept == "removals" and name not in now:
                continue
            (image / name).write_bytes(self._data.get(inode, b""))


@pytest.mark.parametrize("kept", ["all", "synced", "removals"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_without_power_at_every_step_it_is_the_old_index_or_the_new_one(
    folder: Path, operation: str, kept: str
) -> None:
    begin(folder / "base")
    before, after = outcomes(folder, operation)
    (folder / "images").mkdir()
    loss = PowerLoss(folder / "base", folder / "images", kept=kept)
    with opened(folder / "base", at=loss) as index:
        OPERATIONS[operation](index)
    assert loss.images >= POINTS_MIN[operation]
    for number in range(loss.images):
        with opened(folder / "images" / str(number)) as index:
            assert index.why_not == "", f"step {number}"
            doubted = operation == "doubted" and index.view().state.faults
            assert doubted or whole(index) in (before, after), f"step {number}"


def test_two_processes_cannot_write_one_index(tmp_path: Path) -> None:
    begin(tmp_path / "i")
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from indexed import opened\n"
        "from paritree.core.errors import ConfigError\n"
        "try: opened(Path(sys.argv[2]))\n"
        "except ConfigError as error: print(error); sys.exit(7)"
    )
    command = [sys.executable, "-c", program, str(CRASHER.parents[1]), str(tmp_path / "i")]
    with opened(tmp_path / "i"):
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 7
    assert "another process has it open" in refused.stdout
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("operation", ["applied", "replaced", "installed", "compacted"])
def test_a_full_disk_leaves_the_old_index_and_says_so(tmp_path: Path, operation: str) -> None:
    """Files may not grow beyond a limit, which is lowered byte by byte of the files that the operation writes."""
    program = (
        "import resource, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import indexed\n"
        "from paritree.core.errors import SourceError\n"
        "indexed.small_sizes()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "index = indexed.opened(Path(sys.argv[2]))\n"
        "before = indexed.whole(index)\n"
        "refused = 0\n"
        "for limit in (0, 63, 64, 200, 700, 2_000, 50_000, 110_000):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    try: indexed.OPERATIONS[sys.argv[3]](index)\n"
        "    except SourceError as error:\n"
        "        refused += 1\n"
        "        assert 'File too large' in str(error) and 'free space' in error.next_step, error\n"
        "    else: break\n"
        "    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "    for path in Path(sys.argv[2]).glob('scan/*'): path.unlink()\n"
        "    left = {p.name for p in Path(sys.argv[2]).iterdir()} - index.view().state.files\n"
        "    assert indexed.summary(index) == before\n"
        "    index.close(); index = indexed.opened(Path(sys.argv[2]))\n"
        "    assert indexed.whole(index) == before, limit\n"
        "assert refused >= 5, refused\n"
        "indexed.OPERATIONS[sys.argv[3]](index); indexed.whole(index)\n"
    )
    begin(tmp_path / "i")
    command = [sys.executable, "-c", program, str(CRASHER.parents[1]), str(tmp_path / "i"), operation]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_only_files_of_an_index_are_garbage(tmp_path: Path) -> None:
    begin(tmp_path / "i")
    for name in ("999999.run", "999998.partial", "999997-heap.section", "manifest.partial", "notes.txt", "1.run"):
        (tmp_path / "i" / name).write_bytes(b"x")
    opened(tmp_path / "i").close()
    left = {path.name for path in (tmp_path / "i").iterdir()}
    assert {"notes.txt", "1.run"} <= left
    assert not left & {"999999.run", "999998.partial", "999997-heap.section", "manifest.partial"}
    assert os.access(tmp_path / "i" / "manifest", os.R_OK)


def test_a_closed_index_is_not_written(tmp_path: Path) -> None:
    begin(tmp_path / "i")
    index = opened(tmp_path / "i")
    index.close()
    with opened(tmp_path / "i") as other:
        before = whole(other)
        with pytest.raises(SourceError, match="closed"):
            OPERATIONS["doubted"](index)
        assert whole(other) == before


def test_under_another_key_it_stays_until_another_index_is_in_its_place(tmp_path: Path) -> None:
    one, other = RestKey(b"1" * 32), RestKey(b"2" * 32)
    begin(tmp_path / "i", key=one)
    with opened(tmp_path / "i", key=one) as index:
        before = whole(index)
    with opened(tmp_path / "i", key=other) as index:
        assert "another key" in index.why_not
    with opened(tmp_path / "i", key=one) as index:
        assert whole(index) == before
    with opened(tmp_path / "i", key=other) as index:
        OPERATIONS["installed"](index)
        whole(index)
