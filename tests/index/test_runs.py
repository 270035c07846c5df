"""Files of an index: written slice by slice or at once, plain or encrypted, read by any slices."""

from __future__ import annotations

import itertools
import random
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import indexed
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexed import changes, contents, install, opened, reached, row, run_rows, scanned, whole

from edge_agent.index.compaction import compact
from edge_agent.index.digests import as_digests, digest_words, distinct, places
from edge_agent.index.disk import Disk
from edge_agent.index.rest import BLOCK_BYTES, RestKey, SealedBlob
from edge_agent.index.run import Run, RunRows, put_run
from edge_agent.index.runwriter import RunWriter
from paritree.core.errors import ConfigError, SourceError

KEY = RestKey(bytes(range(32)))


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("dead", [{}, {3: "NUL in text", 8: "too long"}])
@pytest.mark.parametrize("cuts", [(), (1,), (7, 7, 9), (3, 11, 20)])
def test_a_run_written_by_parts_is_the_run_written_at_once(
    tmp_path: Path, key: RestKey | None, dead: dict[int, str], cuts: tuple[int, ...]
) -> None:
    rows = run_rows([row(n) for n in range(21)], dead)
    disk = Disk(tmp_path, key)
    checksum = put_run(disk, "000001.run", rows)
    with RunWriter(disk, "000002.run", marked=bool(dead)) as writer:
        edges = [0, *cuts, len(rows)]
        for low, high in itertools.pairwise(edges):
            part = slice(low, high)
            marks = None if rows.marks is None else rows.marks[part]
            writer.add(RunRows(rows.key_digests[part], rows.row_digests[part], rows.locators[part], marks))
        held = writer.finish(rows.reasons)
    assert (held.rows, held.checksum) == (21, checksum)
    one, other = disk.open("000001.run"), disk.open("000002.run")
    assert one.read(0, one.size).tobytes() == other.read(0, other.size).tobytes()
    run = Run(tmp_path / "000002.run", key)
    run.verify()
    assert run.reasons == rows.reasons
    assert [run.locator(n) for n in range(21)] == rows.locators.to_pylist()
    assert not list(tmp_path.glob("*.section"))


SIZES = st.sampled_from([0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES]) | st.integers(
    0, 200_000
)


@settings(max_examples=40, deadline=None)
@given(size=SIZES, parts=st.lists(st.integers(0, 90_000), max_size=4), data=st.data())
def test_any_slice_of_an_encrypted_file_is_that_of_its_content(
    size: int, parts: list[int], data: st.DataObject
) -> None:
    content = random.Random(size).randbytes(size)
    with tempfile.TemporaryDirectory() as folder:
        with Disk(Path(folder), KEY).create("f") as output:
            at = 0
            for part in parts:
                output.write(content[at : at + part])
                at += part
            output.write(content[at:])
            output.publish()
        blob = Disk(Path(folder), KEY).open("f")
        assert blob.size == size
        for _ in range(5):
            low = data.draw(st.integers(0, size))
            high = data.draw(st.integers(low, size))
            assert blob.read(low, high).tobytes() == content[low:high]


def damages(content: bytes) -> dict[str, bytes]:
    block = BLOCK_BYTES + 16
    first, second = content[24 : 24 + block], content[24 + block : 24 + 2 * block]
    return {
        "a flipped byte": content[:5_000] + bytes([content[5_000] ^ 1]) + content[5_001:],
        "another salt": content[:10] + bytes([content[10] ^ 1]) + content[11:],
        "a lost end": content[:-1],
        "a lost block": content[: 24 + 2 * block],
        "blocks that changed places": content[:24] + second + first + content[24 + 2 * block :],
        "one more byte": content + b"x",
    }


@pytest.mark.parametrize("damage", damages(bytes(300_000)))
def test_an_encrypted_file_that_was_touched_does_not_open(tmp_path: Path, damage: str) -> None:
    with Disk(tmp_path, KEY).create("f") as output:
        output.write(bytes(2 * BLOCK_BYTES + 100))
        output.publish()
    path = tmp_path / "f"
    path.write_bytes(damages(path.read_bytes())[damage])
    with pytest.raises(SourceError, match="damaged"):
        read_all(path)


def read_all(path: Path) -> None:
    blob = SealedBlob(path, KEY)
    blob.read(0, blob.size)


def test_no_key_and_another_key_are_told_apart(tmp_path: Path) -> None:
    put_run(Disk(tmp_path, KEY), "000001.run", run_rows([row(1)]))
    with pytest.raises(ConfigError, match="no key is named"):
        Run(tmp_path / "000001.run")
    with pytest.raises(SourceError):
        Run(tmp_path / "000001.run", RestKey(b"x" * 32))
    assert "000102" not in repr(KEY)
    assert KEY.secret.hex() not in repr(KEY)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)))
)
def test_digests_are_found_by_both_halves(known: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    def digests(pairs: list[tuple[int, int]]) -> np.ndarray:
        return as_digests([high.to_bytes(8, "big") + low.to_bytes(8, "big") for high, low in pairs])

    once = distinct(digests(known))
    assert list(zip(*(words.tolist() for words in digest_words(once)), strict=True)) == sorted(set(known))
    order = sorted(set(known))
    assert places(once, digests(asked)).tolist() == [order.index(a) if a in order else -1 for a in asked]


def test_readers_writers_and_compaction_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views stay what they were; nothing is lost; what was replaced is removed."""
    for name in ("SMALLEST_ROWS", "FOLDED_ROWS_MIN", "FAN_IN"):
        monkeypatch.setattr(indexed.compaction, name, getattr(indexed.compaction, name))
    monkeypatch.setattr(indexed.slices, "SLICE_ROWS", indexed.slices.SLICE_ROWS)
    indexed.small_sizes()
    index = opened(tmp_path / "i")
    install(
        index,
        [scanned(index, name, [row(n) for n in range(k, k + 20)]) for k, name in ((0, "a"), (20, "b"))],
        reached("0"),
    )
    failed: list[BaseException] = []
    done = threading.Event()

    def until_done(work: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                while not done.is_set():
                    work()
            except BaseException as error:  # noqa: BLE001 - told below, by the thread that waits
                failed.append(error)

        return threading.Thread(target=run)

    def read() -> None:
        view = index.view()
        below = view.index.rows_below(0, np.zeros(1, np.uint64))
        assert int(below.counts[0]) == view.state.rows
        assert int(below.r.sum(dtype=np.uint64)) == view.state.sums.root.r

    threads = [until_done(read), until_done(read), until_done(lambda: compact(index))]
    for thread in threads:
        thread.start()
    for version in range(1, 60):
        index.apply(changes([version % 40, 100 + version], [row(version % 40, version), row(100 + version)]))
        if version % 10 == 0:
            index.replace([scanned(index, "b", [row(n, version) for n in range(20, 40)])])
            index.apply(changes(range(20, 40), [row(n, version) for n in range(20, 40)]))
    done.set()
    for thread in threads:
        thread.join()
    assert failed == []
    latest = {n: row(n, max((v for v in range(1, 60) if v % 40 == n), default=0)) for n in range(20)}
    for n in range(20, 40):
        latest[n] = row(n, 50 if n != 40 else 0)
    for version in range(51, 60):
        latest[version % 40] = row(version % 40, version)
    wanted = [*latest.values(), *(row(100 + version) for version in range(1, 60))]
    assert sorted(contents(index).elements()) == sorted(wanted)
    whole(index)
