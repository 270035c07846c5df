"""What decoding costs the coordinator: processor seconds from two sketches to the keys that differ.

    python tests/bench/decoding.py [--differences 100000] [--repetitions 5]

60 % of the differing rows are changed, 40 % are in one region alone; the sized sketch is as large as the planner makes
it and is peeled jointly with the probe, as in a sweep. What is decoded is checked against what was planted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent)]

from measure import machine

from paritree.core.decode import decode
from paritree.core.sketch import probe_of, size_for, sketch_of

WITHIN_S = 1.0


def seconds(differences: int, seed: int) -> float:
    """Processor seconds of one decoding. Raises AssertionError unless it gives exactly what was planted."""
    chance = np.random.default_rng(seed)
    k, mine, theirs = (chance.integers(0, 1 << 64, differences, np.uint64) for _ in range(3))
    kept = np.arange(differences) < differences * 6 // 10  # the other region lacks the rest
    probe = probe_of(k, mine).minus(probe_of(k[kept], theirs[kept]))
    cells = size_for(probe.at_most)
    sized = sketch_of(k, mine, cells, seed).minus(sketch_of(k[kept], theirs[kept], cells, seed))
    started = time.process_time()
    decoded = decode([sized, probe.sketch])
    took = time.process_time() - started
    planted = mine - np.where(kept, theirs, np.uint64(0))
    assert decoded.complete
    assert decoded.deltas == dict(zip(k.tolist(), planted.tolist(), strict=True))
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--differences", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    took = [seconds(arguments.differences, seed) for seed in range(arguments.repetitions)]
    print(f"{arguments.differences:,} differences decoded in {statistics.median(took):.2f} s (median of {len(took)}, ")
    print(f"longest {max(took):.2f} s of processor time; at most {WITHIN_S:g} s). {machine()}")
    return int(arguments.differences <= 100_000 and statistics.median(took) > WITHIN_S)


if __name__ == "__main__":
    sys.exit(main())
