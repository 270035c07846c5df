"""In how many sweeps of a thousand the rounds are what they should be, and from which d on two no longer do.

    python tests/bench/rounds.py [--sweeps 5000] [--first 0]

Rounds are those of the descent and of the detail; the second look, and the third at keys that are missing, come
``lag_max`` later and are not counted. The regions are those of ``tests/planted.py``: 2, 3 or 5 of ten million rows,
with updates, losses or both, in one region, in any, or in each its own; ``--sweeps`` are of each band, a tenth of them
with no difference. Ends with 1 where fewer than 99.9 % of a band's sweeps take the band's rounds at most.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from measure import machine, table
from planted import BANDS, Band

SHARE = 0.999
EDGE = (180, 200, 220, 240, 250, 260, 270, 280, 290, 300, 310)
"""Numbers of differing keys around which the probe alone no longer does."""


def counted(band: Band, seeds: range) -> Counter[int]:
    """How many of the sweeps took how many rounds; those that took more than the band's are told."""
    rounds: Counter[int] = Counter()
    for seed in seeds:
        what, took = band.sweep(seed)
        rounds[took] += 1
        if took > band.rounds:
            print(f"seed {seed}: {what}: {said(took)} rounds", flush=True)
    return rounds


def said(rounds: int) -> str:
    return "more, by lists" if rounds == 99 else str(rounds)


def share(rounds: Counter[int], most: int) -> float:
    return sum(count for took, count in rounds.items() if took <= most) / rounds.total()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=5_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--edge", type=int, default=0, help="sweeps of each number of keys around 200")
    arguments = parser.parse_args()
    print(f"2, 3 or 5 regions of 10,000,000 rows, from seed {arguments.first}. {machine()}\n", flush=True)
    rows, shares = [], []
    for band in BANDS:
        sweeps = arguments.sweeps if band.most else max(1, arguments.sweeps // 10)
        rounds = counted(band, range(arguments.first, arguments.first + sweeps))
        shares.append(share(rounds, band.rounds))
        seen = ", ".join(f"{said(took)}: {count:,}" for took, count in sorted(rounds.items()))
        rows.append([str(band), f"{rounds.total():,}", f"at most {band.rounds}: {shares[-1]:.2%}", seen])
    print(table(["differing keys", "sweeps", "share", "rounds: sweeps"], rows), flush=True)
    edge = []
    for most in EDGE if arguments.edge else ():
        rounds = counted(Band(most, most, 9), range(arguments.first, arguments.first + arguments.edge))
        edge.append([str(most), f"{share(rounds, 2):.2%}"])
    if edge:
        print(table(["differing keys", "two rounds do"], edge))
    return int(min(shares) < SHARE)


if __name__ == "__main__":
    sys.exit(main())
