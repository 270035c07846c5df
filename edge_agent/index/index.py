"""An index over runs: answers what the descent asks, merging the slices of all runs, without a shuffle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.index.run import Run
from edge_agent.sketching import add_rows
from paritree.core.leaves import U64, LeafSums, sums_between
from paritree.core.sketch import Probe, Sketch

_SKETCH_ROWS = 1 << 20
"""Rows that are added to a sketch at once: bounds the memory of the plain form."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the index."""

    key_digest: bytes
    row_digest: bytes
    locator: bytes


@dataclass(frozen=True, slots=True)
class NodeRows:
    """The rows below some nodes, in node order, sorted by k within a node: ``counts`` u32, the rest u64."""

    counts: NDArray[np.uint32]
    k: U64
    r: U64
    r2: U64


class Index:
    """The runs of one dataset, their merged sums at depth ``sums.bits`` and their merged probe.

    ``digester`` is "compiled" or "plain": how sketches are made.
    """

    def __init__(self, runs: Sequence[Run], sums: LeafSums, probe: Probe, digester: str = "compiled") -> None:
        self.runs = tuple(runs)
        self.sums = sums
        self.probe = probe
        self._digester = digester

    def add_to(self, sketch: Sketch, bits: int, prefixes: U64) -> Iterator[int]:
        """Add the rows below the nodes to a sketch in place, run by run; yields how many runs it has."""
        for done, run in enumerate(self.runs, 1):
            for prefix in prefixes.tolist():
                low, high = _window(run, prefix << (64 - bits), (prefix + 1) << (64 - bits))
                for first in range(low, high, _SKETCH_ROWS):
                    window = slice(first, min(high, first + _SKETCH_ROWS))
                    add_rows(sketch, run.k[window], run.r[window], self._digester)
            yield done

    def children(self, bits: int, to_bits: int, prefixes: U64) -> U64:
        """Σr of the descendants at ``to_bits`` of each node: shape (len(prefixes) × 2^(to_bits - bits),)."""
        fan_out = 1 << (to_bits - bits)
        if to_bits <= self.sums.bits:
            return self.sums.fold(to_bits).r.reshape(-1, fan_out)[prefixes.astype(np.int64)].reshape(-1)
        total = np.zeros(len(prefixes) * fan_out, np.uint64)
        for position, prefix in enumerate(prefixes):
            cuts_at = _node_cuts(int(prefix), bits, to_bits)
            window = total[position * fan_out : (position + 1) * fan_out]
            for run in self.runs:
                window += _slice_sums(run, cuts_at, is_last=(int(prefix) + 1) >> bits == 1)
        return total

    def rows_below(self, bits: int, prefixes: U64) -> NodeRows:
        """Every row below each node; a node's rows are read from all runs and sorted by k."""
        counts = np.zeros(len(prefixes), np.uint32)
        parts = [np.zeros((3, 0), np.uint64)]
        for position, prefix in enumerate(prefixes):
            rows = self._rows_between(int(prefix) << (64 - bits), (int(prefix) + 1) << (64 - bits))
            counts[position] = rows.shape[1]
            parts.append(rows)
        merged = np.concatenate(parts, axis=1)
        return NodeRows(counts, merged[0], merged[1], merged[2])

    def _rows_between(self, first: int, end: int) -> U64:
        """k, r and r′ of all rows with k in [first, end), shape (3, n), sorted by k."""
        slices = [np.zeros((3, 0), np.uint64)]
        for run in self.runs:
            window = slice(*_window(run, first, end))
            slices.append(np.stack([run.k[window], run.r[window], run.r2[window]]))
        rows = np.concatenate(slices, axis=1)
        return rows[:, np.argsort(rows[0], kind="stable")]

    def find(self, ks: Sequence[int]) -> Iterator[Entry]:
        """Every row whose k is among ``ks``."""
        wanted = np.array(sorted(set(ks)), np.uint64)
        for run in self.runs:
            low, high = np.searchsorted(run.k, wanted, "left"), np.searchsorted(run.k, wanted, "right")
            for position in np.flatnonzero(high > low).tolist():
                for row in range(int(low[position]), int(high[position])):
                    yield Entry(run.key_digests(row, row + 1).tobytes(), run.row_digest(row), run.locator(row))

    def duplicates(self) -> int:
        """How many keys occur more than once.

        Reads the key digests of one slice of the key space at a time, so memory stays flat in the number of rows.
        """
        count = 0
        for first, end in self._slices():
            parts = [np.zeros((0, 16), np.uint8)]
            parts.extend(run.key_digests(*_window(run, first, end)) for run in self.runs)
            words = np.concatenate(parts).view(">u8").astype(np.uint64)
            k = np.sort(words[:, 0])
            repeated = np.unique(k[1:][k[1:] == k[:-1]])
            if len(repeated):  # a k may be that of two keys: compare the whole digests
                suspects = words[np.isin(words[:, 0], repeated)]
                _, counts = np.unique(suspects, axis=0, return_counts=True)
                count += int((counts > 1).sum())
        return count

    def _slices(self) -> Iterator[tuple[int, int]]:
        """Cut the key space into slices of about a million rows."""
        rows = sum(run.rows for run in self.runs)
        bits = max(0, (rows >> 20).bit_length())
        for prefix in range(1 << bits):
            yield prefix << (64 - bits), (prefix + 1) << (64 - bits)


def _window(run: Run, first: int, end: int) -> tuple[int, int]:
    low = int(run.cuts(np.array([first], np.uint64))[0])
    high = run.rows if end >= 1 << 64 else int(run.cuts(np.array([end], np.uint64))[0])
    return low, high


def _node_cuts(prefix: int, bits: int, to_bits: int) -> list[int]:
    """The first k of each descendant, and the end of the last, which may be 2^64."""
    fan_out = 1 << (to_bits - bits)
    start = prefix << (to_bits - bits)
    return [(start + i) << (64 - to_bits) for i in range(fan_out + 1)]


def _slice_sums(run: Run, cuts_at: list[int], *, is_last: bool) -> U64:
    firsts = np.array(cuts_at[:-1], np.uint64)
    last = run.rows if is_last else int(run.cuts(np.array(cuts_at[-1:], np.uint64))[0])
    cuts = np.append(run.cuts(firsts), last).astype(np.int64)
    low = int(cuts[0])
    return sums_between(run.r[low:last], cuts - low)
