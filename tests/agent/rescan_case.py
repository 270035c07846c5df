"""A source that tells no changes, an index whose shards are scanned again, and what a scan says of the same moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent import build as build_module
from edge_agent.build import Built, Copy, build_index
from edge_agent.connectors.contract import Source
from edge_agent.executors import SerialExecutor
from edge_agent.index.recount import recount
from edge_agent.letters.store import LetterStore
from edge_agent.letters.sweep import SweepLetters
from edge_agent.scan import ScanTask, ShardResult
from edge_agent.warm import Following, WarmIndex
from paritree.core.digest import DatasetKeys
from paritree.core.messages import ANY_AGE, Freshness, Progress
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type

KINDS = {"id": parse_type("int"), "name": parse_type("text")}
PROFILE = Profile("orders", ("id",), KINDS)
KEYS = DatasetKeys.of(bytes(32), "orders")
RESCAN = Following("", rescan_rows_s=1e6)
OLD = Freshness(0.0, rescan=True)


def bound_to(table: str) -> Binding:
    return Binding("orders", table, ("id",), tuple(BoundColumn(n, t, source=n) for n, t in KINDS.items()))


class Kept:
    """A source and its index. ``scanned`` counts the shards that were scanned, ever."""

    def __init__(
        self, source: Source, table: str, folder: Path, *, shard_rows: int = 50, following: Following = RESCAN
    ) -> None:
        self.folder, self.following = folder, following
        self.copy = Copy(source, PROFILE, bound_to(table), KEYS, shard_rows, "plain")
        self.store = LetterStore(folder / "letters.db", "eu")
        self.index = self.opened()
        self.scanned = self.colds = 0

    def opened(self) -> WarmIndex:
        return WarmIndex(self.copy, self.folder / "index", self.following)

    def reopen(self) -> None:
        self.index.close()
        self.index = self.opened()

    def killed(self, until: int) -> None:
        """Begin the whole scan, and be gone when so many shards were read; then another process has the index open."""

        def gone(told: Progress) -> None:
            if told.shards_done >= until:
                raise SystemExit

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("edge_agent.wholescan.WholeScan.left", lambda *_: True)
            with pytest.raises(SystemExit):
                self.built(progress=gone)
        self.reopen()

    def went_on(self, *, last: int) -> Built:
        """As :meth:`check`: the scan that was killed goes on, and reads so many shards."""
        read: list[str] = []
        scan = build_module.scan_shard

        def counted(task: ScanTask) -> ShardResult:
            read.append(task.shard.label)
            return scan(task)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(build_module, "scan_shard", counted)
            built = self.built()
        assert len(read) == last, read
        self.colds += 1
        cold = build_index(self.copy, SerialExecutor(), self.folder / f"cold-{self.colds}", lambda _: None)
        assert built.index.sums.root == cold.index.sums.root
        return built

    def letters(self, sweep: str = "s1") -> SweepLetters:
        return SweepLetters(self.store, PROFILE, KEYS, sweep)

    def built(self, freshness: Freshness = ANY_AGE, progress: Callable[[Progress], None] = lambda _: None) -> Built:
        """What a sweep would get."""
        whole: list[int] = []

        def seen(told: Progress) -> None:
            whole.append(told.shards_done)
            progress(told)

        before = self.index._rescan.scanned if self.index._rescan else 0
        built = self.index.built(SerialExecutor, self.folder / "sweep", seen, self.letters(), freshness)
        again = self.index._rescan.scanned - before if self.index._rescan else 0
        self.last = again or (max(whole, default=0) if any(n.startswith("scanned,") for n in built.notes) else 0)
        self.scanned += self.last
        return built

    def check(self, freshness: Freshness = ANY_AGE) -> Built:
        """As :meth:`built`, and it is what a scan says; ``last`` is how many shards it took."""
        built, self.colds = self.built(freshness), self.colds + 1
        cold = build_index(self.copy, SerialExecutor(), self.folder / f"cold-{self.colds}", lambda _: None)
        assert built.index.sums.root.count == cold.index.sums.root.count
        if not cold.dead.keyed:  # the digests of dead rows are never the same
            assert built.index.sums.root == cold.index.sums.root
            assert np.array_equal(built.index.probe.sketch.sums, cold.index.probe.sketch.sums)
            assert np.array_equal(built.index.probe.pulls, cold.index.probe.pulls)
        assert (built.dead, built.index.duplicates()) == (cold.dead, cold.index.duplicates())
        if cold.position.point:
            assert built.position == cold.position
        view = self.index._index.view()
        assert recount(view.layers, "plain", ruled=False).differs(view.state) == ""
        assert {path.name for path in (self.folder / "index").glob("*.*s")} == {view.state.sums_file}, "letters left"
        assert {path.name for path in (self.folder / "index").glob("*.run")} == view.state.files - {
            view.state.sums_file
        }
        return built

    def close(self) -> None:
        self.index.close()
