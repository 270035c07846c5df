"""A table, its warm index, and what a scan says of the same moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from connectors.pg_case import PgCase

from edge_agent.build import Built, Copy, build_index
from edge_agent.connectors.contract import Source
from edge_agent.executors import SerialExecutor
from edge_agent.letters.sweep import SweepLetters
from edge_agent.warm import Following, WarmIndex
from paritree.core.digest import DatasetKeys
from paritree.core.profile import Binding, Profile


class Warm:
    """A table, its warm index, and what a scan says of it."""

    def __init__(self, pg: PgCase, folder: Path, binding: Binding) -> None:
        self.pg, self.folder = pg, folder
        types = {column.name: column.type for column in binding.columns}
        profile = Profile("orders", binding.key, types)
        keys = DatasetKeys.of(bytes(32), "orders")
        self.copy = Copy(Source(pg.server.url(pg.database)), profile, binding, keys, shard_rows=100)
        self.following = Following("eu/eu-1")
        self.index = self.opened()
        self.scans = 0

    def opened(self) -> WarmIndex:
        return WarmIndex(self.copy, self.folder / "index", self.following)

    def built(self) -> Built:
        """What a sweep would get, which is what a scan of the same moment gives."""
        letters = SweepLetters(None, self.copy.profile, self.copy.keys, "")
        return self.index.built(SerialExecutor, self.folder / "sweep", lambda _: None, letters)

    def check(self) -> Built:
        """As :meth:`built`, and it is what a scan says."""
        built, self.scans = self.built(), self.scans + 1
        cold = build_index(self.copy, SerialExecutor(), self.folder / f"cold-{self.scans}", lambda _: None)
        assert built.index.sums.root == cold.index.sums.root
        for one, other in zip(probe_of(built), probe_of(cold), strict=True):
            assert np.array_equal(one, other)
        assert (built.dead, built.index.duplicates()) == (cold.dead, cold.index.duplicates())
        return built

    def close(self) -> None:
        self.index.forget()
        self.index.close()


def probe_of(built: Built) -> tuple[np.ndarray, ...]:
    """The arrays of its probe."""
    return built.index.probe.sketch.sums, built.index.probe.pulls


def scanned(built: Built) -> bool:
    """Whether a sweep's index came from a scan."""
    assert sum("nothing was scanned" in note for note in built.notes) + sum("scanned," in n for n in built.notes) == 1
    return any(note.startswith("scanned,") for note in built.notes)
