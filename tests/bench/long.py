"""What takes too long for every run: 50,000 simulated seeds, a million inputs a parser, an hour of soak.

``poe long --state DIR --minutes 30`` goes on where the last run ended, for as long as it may, and prints what stands.
Of the seeds, even numbers are worlds and odd ones trials; seed n is always the same, and one that fails says how to
replay it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

TESTS: Final = Path(__file__).parents[1]
PIECE: Final = 10
"""Seeds between two writes of the state."""
FUZZ_RUNS: Final = 100_000
SOAK_MINUTES: Final = 60.0
"""One life of the processes: what leaks slowly is not seen in shorter ones."""
FIRST: Final = 2_000
"""Seeds below are run by every run of the tests."""


@dataclass
class Seeds:
    """How far the simulation is. ``met`` is what happened in the trials."""

    next: int = FIRST
    passed: int = 0
    cpu_s: float = 0.0
    met: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Seeds:
        if not file.exists():
            return cls()
        said = json.loads(file.read_text())
        return cls(**{**said, "met": Counter(said["met"])})

    def write(self, file: Path) -> None:
        file.with_suffix(".part").write_text(json.dumps(vars(self), indent=1))
        os.replace(file.with_suffix(".part"), file)


def seeds(file: Path, wanted: int, until: float) -> bool:
    """Play seeds until so many have passed; whether none has failed."""
    from simulation.seeds import play, play_trial, quiet

    state = Seeds.read(file)
    with quiet():
        while state.passed < wanted and time.monotonic() < until and not state.failed:
            began = time.process_time()
            for seed in range(state.next, state.next + PIECE):
                try:
                    if seed % 2:
                        state.met.update(play_trial(seed)[1])
                    else:
                        play(seed)
                    state.passed += 1
                except AssertionError as error:
                    state.failed.append(f"{error}\n{error.__cause__!r}")
            state.next += PIECE
            state.cpu_s = round(state.cpu_s + time.process_time() - began, 1)
            state.write(file)
    print(json.dumps({"seeds": vars(state)}, indent=1), flush=True)
    return not state.failed


def fuzzed(file: Path, wanted: int, until: float) -> bool:
    """Feed parsers until each has had so many inputs; whether none has failed."""
    from fuzz.parsers import PARSERS

    def done() -> dict[str, int]:
        known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        return {name: known.get(name, 0) for name in PARSERS}

    while (left := {name: runs for name, runs in done().items() if runs < wanted}) and time.monotonic() < until:
        least = min(left, key=lambda name: left[name])
        command = [sys.executable, str(TESTS / "fuzz/run.py"), "--parser", least, "--state", str(file)]
        if subprocess.run([*command, "--runs", str(min(FUZZ_RUNS, wanted - left[least]))], check=False).returncode:
            return False
    print(json.dumps({"fuzz": done()}, indent=1), flush=True)
    return True


def soaked(file: Path, minutes: float, until: float) -> bool:
    """Soak in pieces; whether nothing was wrong and nothing leaked."""

    def done() -> dict[str, Any]:
        return json.loads(file.read_text()) if file.exists() else {"seconds": 0.0}

    while done()["seconds"] < 60 * (minutes - 0.05) and time.monotonic() < until:
        piece = min(minutes, done()["seconds"] / 60 + SOAK_MINUTES)
        command = [sys.executable, str(TESTS / "soak/run.py"), "--minutes", str(piece), "--fault-every", "30"]
        if subprocess.run([*command, "--state", str(file)], check=False).returncode:
            return False
    print(json.dumps({"soak": done()}, indent=1), flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder that remembers how far everything is")
    parser.add_argument("--minutes", type=float, default=1e6, help="time for this run; a piece that began is finished")
    parser.add_argument("--only", choices=("seeds", "fuzz", "soak"))
    parser.add_argument("--seeds", type=int, default=50_000)
    parser.add_argument("--fuzz-runs", type=int, default=1_000_000)
    parser.add_argument("--soak-minutes", type=float, default=60.0)
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [str(TESTS / "fuzz"), str(TESTS), str(TESTS.parent)]
    until = time.monotonic() + 60 * options.minutes
    parts = {
        "seeds": lambda: seeds(options.state / "seeds.json", options.seeds, until),
        "fuzz": lambda: fuzzed(options.state / "fuzz.json", options.fuzz_runs, until),
        "soak": lambda: soaked(options.state / "soak.json", options.soak_minutes, until),
    }
    results = [part() for name, part in parts.items() if options.only in (None, name)]  # all, whatever one comes to
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
