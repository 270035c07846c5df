"""What it costs to build a probe with the scan: processor time a row, beside a plain pass of the same words.

    python tests/bench/sketching.py [--rows 3000000] [--repetitions 5]

A shard's rows are added to its probe as in ``edge_agent/scan``: by the kernel, shard by shard, on one thread. Only
processor time counts. Another job on the same core makes that longer too (caches, hyper-threads), so a kernel that
mixes every k once and adds it up, in the same process and in turn with the other, tells how slow the machine is now.
Ends with 1 where the probe takes more than 0.15 µs a row.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from measure import machine

from paritree.core.fast.sketches import add_rows, probe_of
from paritree.core.fast.sketching import mixed_word
from paritree.core.leaves import U64
from paritree.core.limits import SHARD_ROWS
from paritree.core.sketch import empty_sketch, size_for

WITHIN_US = 0.15
SIZED_FOR = 10_000
"""Differing keys for which the sized sketch is built, which is no part of a scan: it is asked for in round 2."""


@numba.njit("uint64(uint64[::1])")
def mixed_once(words: Any) -> Any:
    """The reference: every word is read and mixed once."""
    total = np.uint64(0)
    for i in range(len(words)):
        total += mixed_word(words[i], np.uint64(1))
    return total


def us_a_row(work: Callable[[U64, U64], object], k: U64, r: U64) -> float:
    """Microseconds of processor time of this thread a row, shard by shard."""
    started = time.thread_time()
    for first in range(0, len(k), SHARD_ROWS):
        work(k[first : first + SHARD_ROWS], r[first : first + SHARD_ROWS])
    return (time.thread_time() - started) / len(k) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    chance = np.random.default_rng(1)
    k, r = (chance.integers(0, 1 << 64, arguments.rows, np.uint64) for _ in range(2))
    sized = empty_sketch(size_for(SIZED_FOR), 7)
    kinds: dict[str, Callable[[U64, U64], object]] = {
        "every k mixed once (reference)": lambda k, r: mixed_once(k),
        "probe": lambda k, r: probe_of(k, r),
        f"sketch for {SIZED_FOR:,} keys (round 2)": lambda k, r: add_rows(sized, k, r),
    }
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for work in kinds.values():
        us_a_row(work, k[:1000], r[:1000])
    for _ in range(arguments.repetitions):
        for kind, work in kinds.items():
            took[kind].append(us_a_row(work, k, r))
    print(f"{arguments.rows:,} rows, processor time. {machine()}")
    reference = statistics.median(next(iter(took.values())))
    for kind, values in took.items():
        median = statistics.median(values)
        print(f"{kind}: {median:.4f} µs a row (longest {max(values):.4f}), {median / reference:.1f} × the reference")
    return int(statistics.median(took["probe"]) > WITHIN_US)


if __name__ == "__main__":
    sys.exit(main())
