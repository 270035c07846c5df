"""An index over runs: answers what the descent asks, merging the slices of all layers, without a shuffle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.index.layers import Layer, Weights, netted
from edge_agent.index.marks import is_taken, shard_of
from edge_agent.index.run import Run
from edge_agent.sketching import add_rows
from paritree.core.leaves import U64, LeafSums, sums_between
from paritree.core.sketch import Probe, Sketch

_ENTRIES = 1 << 16
"""Rows that are read with their keys at once: some tens of MB."""
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

    Each run is given back after its turn: a row that is looked at maps 64 KiB of every section (Linux maps pages around
    it too), so that a hundred keys in a hundred runs would take a gigabyte.

    ``changes`` are layers of changes over the runs, already in sums and probe. ``duplicate_keys`` is known where the
    index is maintained. ``digester`` is "compiled" or "plain": how sketches are made.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        sums: LeafSums,
        probe: Probe,
        digester: str = "compiled",
        *,
        changes: Sequence[Layer] = (),
        duplicate_keys: int | None = None,
    ) -> None:
        self.runs = tuple(runs)
        self.changes = tuple(changes)
        self.layers = (*map(Layer, runs), *changes)
        self.sums = sums
        self.probe = probe
        self._digester = digester
        self._duplicate_keys = duplicate_keys

    def add_to(self, sketch: Sketch, bits: int, prefixes: U64) -> Iterator[int]:
        """Add the rows below the nodes to a sketch in place, layer by layer; yields how many that were."""
        for done, layer in enumerate(self.layers, 1):
            for prefix in prefixes.tolist():
                low, high = layer.run.window(prefix << (64 - bits), (prefix + 1) << (64 - bits))
                for first in range(low, high, _SKETCH_ROWS):
                    words = layer.words(first, min(high, first + _SKETCH_ROWS))
                    add_rows(sketch, words.k, words.signed[0], self._digester)
            layer.run.release()
            yield done

    def children(self, bits: int, to_bits: int, prefixes: U64) -> U64:
        """Σr of the descendants at ``to_bits`` of each node: shape (len(prefixes) × 2^(to_bits - bits),)."""
        return self._nodes(bits, to_bits, prefixes, "r", _slice_sums)

    def counts(self, bits: int, to_bits: int, prefixes: U64) -> U64:
        """Rows of the same descendants, in the same shape."""
        return self._nodes(bits, to_bits, prefixes, "counts", _slice_counts)

    def _nodes(
        self, bits: int, to_bits: int, prefixes: U64, what: str, of_slice: Callable[[Layer, list[int]], U64]
    ) -> U64:
        fan_out = 1 << (to_bits - bits)
        if to_bits <= self.sums.bits:
            known: U64 = getattr(self.sums.fold(to_bits), what)
            return known.reshape(-1, fan_out)[prefixes.astype(np.int64)].reshape(-1)
        total = np.zeros(len(prefixes) * fan_out, np.uint64)
        for layer in self.layers:
            for position, prefix in enumerate(prefixes):
                window = total[position * fan_out : (position + 1) * fan_out]
                window += of_slice(layer, _node_cuts(int(prefix), bits, to_bits))
            layer.run.release()
        return total

    def rows_below(self, bits: int, prefixes: U64) -> NodeRows:
        """Every row below each node; a node's rows are read from all layers and sorted by k."""
        slices: list[list[U64]] = [[np.zeros((3, 0), np.uint64)] for _ in prefixes]
        weights: list[list[Weights]] = [[np.zeros(0, np.int64)] for _ in prefixes]
        for layer in self.layers:
            for position, prefix in enumerate(map(int, prefixes)):
                words = layer.words(*layer.run.window(prefix << (64 - bits), (prefix + 1) << (64 - bits)))
                slices[position].append(np.stack([words.k, words.r, words.r2]))
                weights[position].append(np.ones(len(words.k), np.int64) if words.weights is None else words.weights)
            layer.run.release()
        nodes = [
            self._merged(np.concatenate(s, axis=1), np.concatenate(w)) for s, w in zip(slices, weights, strict=True)
        ]
        merged = np.concatenate([np.zeros((3, 0), np.uint64), *nodes], axis=1)
        return NodeRows(np.array([n.shape[1] for n in nodes], np.uint32), merged[0], merged[1], merged[2])

    def _merged(self, rows: U64, weights: Weights) -> U64:
        """k, r and r′ of one node's rows, shape (3, n), sorted by k, without those that changes took away."""
        if self.changes:
            return np.stack(netted(rows[0], rows[1], rows[2], weights))
        return rows[:, np.argsort(rows[0], kind="stable")]

    def find(self, ks: Sequence[int]) -> Iterator[Entry]:
        """Every row whose k is among ``ks``."""
        wanted = np.array(sorted(set(ks)), np.uint64)
        held: dict[tuple[bytes, bytes], list[bytes]] = defaultdict(list)
        taken: list[tuple[tuple[bytes, bytes], bytes]] = []
        for layer in self.layers:
            run = layer.run
            low, high = run.spans(wanted)
            for position in np.flatnonzero(high > low).tolist():
                for row in range(int(low[position]), int(high[position])):
                    counts = _counts(layer, row)
                    entry = (run.key_digests(row, row + 1).tobytes(), run.row_digest(row))
                    if counts > 0:
                        held[entry].append(run.locator(row))
                    elif counts < 0:
                        taken.append((entry, run.locator(row)))
            run.release()
        for entry, locator in taken:  # one that names no locator is content with any: the key has just that one
            locators = held[entry]
            if locators:
                locators.remove(locator if locator in locators else locators[0])
        for (key_digest, row_digest), locators in held.items():
            for locator in locators:
                yield Entry(key_digest, row_digest, locator)

    def below(self, bits: int, prefix: int) -> Iterator[Entry]:
        """Every row below a node, in no order."""
        for first, end in self._slices(_ENTRIES, bits, prefix):
            ks = [layer.run.k.slice(*layer.run.window(first, end)) for layer in self.changes]
            changed = np.unique(np.concatenate([np.zeros(0, np.uint64), *ks]))
            yield from self.find(changed.tolist())
            for run in self.runs:
                yield from _entries(run, *run.window(first, end), changed)
                run.release()

    def duplicates(self) -> int:
        """How many keys occur more than once.

        Reads the key digests of one slice of the key space at a time, so memory stays flat in the number of rows.
        """
        if self._duplicate_keys is not None:
            return self._duplicate_keys
        count = 0
        for first, end in self._slices(1 << 20):
            windows = [(run, *run.window(first, end)) for run in self.runs]
            k = np.sort(
                np.concatenate([np.zeros(0, np.uint64), *(run.k.slice(low, high) for run, low, high in windows)])
            )
            repeated = k[1:][k[1:] == k[:-1]]
            if len(repeated):  # a k may be that of two keys: compare the whole digests
                parts = [
                    run.key_digests(low, high)[np.isin(run.k.slice(low, high), repeated)] for run, low, high in windows
                ]
                _, counts = np.unique(np.concatenate(parts), axis=0, return_counts=True)
                count += int((counts > 1).sum())
            for run in self.runs:
                run.release()
        return count

    def repeated(self, most: int) -> list[int]:
        """About so many k of keys that occur more than once, the lowest first; some may be that of two keys."""
        found: list[int] = []
        for first, end in self._slices(1 << 20):
            words = [layer.run.k.slice(*layer.run.window(first, end)) for layer in self.layers]
            k = np.sort(np.concatenate([np.zeros(0, np.uint64), *words]))
            found += np.unique(k[1:][k[1:] == k[:-1]]).tolist()
            for run in self.runs:
                run.release()
            if len(found) >= most:
                break
        return found[:most]

    def _slices(self, slice_rows: int, above: int = 0, node: int = 0) -> Iterator[tuple[int, int]]:
        """Cut a node of depth ``above``, or the key space, into slices of about so many rows."""
        rows = sum(run.rows for run in self.runs)
        bits = max(above, (rows // slice_rows).bit_length())
        for prefix in range(node << (bits - above), (node + 1) << (bits - above)):
            yield prefix << (64 - bits), (prefix + 1) << (64 - bits)


def _entries(run: Run, low: int, high: int, without: U64) -> Iterator[Entry]:
    """The rows [low, high) of a run but for some ks."""
    keys, rows = run.key_digests(low, high).tobytes(), run.row_digests(low, high).tobytes()
    locators = run.locators(low, high)
    for at in np.flatnonzero(~np.isin(run.k.slice(low, high), without)).tolist():
        part = slice(16 * at, 16 * at + 16)
        yield Entry(keys[part], rows[part], locators[at].as_py())


def _counts(layer: Layer, row: int) -> int:
    """1, or -1 for a row that is taken away, or 0 for one that is void."""
    if layer.shard is not None or layer.run.marks is None:
        return 1
    mark = layer.run.marks.slice(row, row + 1)
    void = layer.void(shard_of(mark))
    if void is not None and void[0]:
        return 0
    return -1 if is_taken(mark)[0] else 1


def _node_cuts(prefix: int, bits: int, to_bits: int) -> list[int]:
    """The first k of each descendant, and the end of the last, which may be 2^64."""
    fan_out = 1 << (to_bits - bits)
    start = prefix << (to_bits - bits)
    return [(start + i) << (64 - to_bits) for i in range(fan_out + 1)]


def _slice_sums(layer: Layer, cuts_at: list[int]) -> U64:
    words = layer.words(*layer.run.window(cuts_at[0], cuts_at[-1]))
    cuts = np.searchsorted(words.k, np.array(cuts_at[:-1], np.uint64))
    return sums_between(words.signed[0], np.append(cuts, len(words.k)).astype(np.int64))


def _slice_counts(layer: Layer, cuts_at: list[int]) -> U64:
    words = layer.words(*layer.run.window(cuts_at[0], cuts_at[-1]))
    cuts = np.append(np.searchsorted(words.k, np.array(cuts_at[:-1], np.uint64)), len(words.k)).astype(np.int64)
    if words.weights is None:
        return np.diff(cuts).astype(np.uint64)
    return sums_between(words.weights.astype(np.uint64), cuts)
