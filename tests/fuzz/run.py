"""Feed every parser of foreign bytes with damaged input: ``python tests/fuzz/run.py [--parser NAME] [--runs N]``.

Each parser runs in a process of its own, which may take 256 MiB more than it has when it begins, with a second of CPU
time for an input. Input number n of a parser is always the same, so ``--first n --runs 1`` shows a failure again. Long
runs are done in pieces: ``--first 0 --runs 1000000``, then ``--first 1000000`` and so on; with ``--state FILE`` the
next piece begins where the last one ended.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from mutating import Mutator
from parser import Parser

MEMORY_BYTES_MAX: Final = 256 << 20
INPUT_S_MAX: Final = 1.0
HANG_S: Final = 20
"""CPU seconds after which the process is ended: an input that never ends cannot be timed."""
FAILURES_SHOWN: Final = 5
REARM_RUNS: Final = 64
_PROGRESS: Final = struct.Struct("<q")


@dataclass(slots=True)
class Outcome:
    """What became of the inputs of one parser."""

    parser: str
    runs: int = 0
    refused: int = 0
    examples_refused: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    grown_bytes: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, number: int, what: str, data: bytes = b"") -> None:
        if len(self.failures) < FAILURES_SHOWN:
            again = f"python tests/fuzz/run.py --parser {self.parser} --first {number} --runs 1"
            self.failures.append({"input": number, "what": what, "again": again, "begins": data[:400].hex()})


def memory_bytes(name: str) -> int:
    """A line of this process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"no {name} in the status of a process")


def fuzz(parser: Parser, first: int, runs: int, progress: mmap.mmap) -> Outcome:
    """Run inputs ``first`` and on, in this process."""
    _PROGRESS.pack_into(progress, 0, first)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_S)
    outcome = Outcome(parser.name, examples_refused=sum(map(parser.refuses, parser.examples())))
    mutator = Mutator(parser.examples(), parser.tokens, lines=parser.lines)
    rng = random.Random()
    salt = sum(parser.name.encode()) << 40
    for number in range(3):  # what is made once and kept is no growth
        parser.warm(mutator.made(random.Random(number)))
    gc.collect()
    limit = memory_bytes("VmSize") + MEMORY_BYTES_MAX
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    grown_before = memory_bytes("VmHWM")
    began = time.process_time()
    wild = parser.wild()
    for number in range(first - (len(wild) if first == 0 else 0), first + runs):
        if number % REARM_RUNS == 0 or number == first or number < 0:
            signal.setitimer(signal.ITIMER_VIRTUAL, HANG_S)
        _PROGRESS.pack_into(progress, 0, number)
        rng.seed(salt + number)
        one(parser, number, mutator.made(rng) if number >= 0 else wild[number], outcome)
    outcome.seconds = time.process_time() - began
    outcome.grown_bytes = memory_bytes("VmHWM") - grown_before
    if outcome.grown_bytes > MEMORY_BYTES_MAX:
        outcome.fail(first, f"took {outcome.grown_bytes >> 20} MiB more")
    return outcome


def one(parser: Parser, number: int, data: bytes, outcome: Outcome) -> None:
    """One input."""
    started = time.process_time()
    try:
        parser.parse(data)
    except parser.refusals:
        outcome.refused += 1
    except BaseException as error:  # noqa: BLE001 - anything else is what is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        outcome.fail(number, f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"[:600], data)
    took = time.process_time() - started
    for _ in range(2 if took > INPUT_S_MAX else 0):  # time that a virtual machine is denied may be counted as ours
        started = time.process_time()
        with contextlib.suppress(BaseException):
            parser.parse(data)
        took = min(took, time.process_time() - started)
    outcome.slowest_s = max(outcome.slowest_s, took)
    if took > INPUT_S_MAX:
        outcome.fail(number, f"took {took:.2f} s", data)
    outcome.runs += 1


def in_a_process(parser: Parser, first: int, runs: int) -> Outcome:
    """Fuzz in a child; one that dies is a failure of the input that it was at."""
    progress = mmap.mmap(-1, mmap.PAGESIZE)
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        code = 1
        try:
            outcome = fuzz(parser, first, runs, progress)
            with os.fdopen(writable, "w") as pipe:
                json.dump({name: getattr(outcome, name) for name in Outcome.__slots__}, pipe)
            code = 0
        except BaseException:  # noqa: BLE001 - a child must not go on as its parent
            traceback.print_exc()
        os._exit(code)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if status == 0 and told:
        return Outcome(**json.loads(told))
    (number,) = _PROGRESS.unpack_from(progress, 0)
    outcome = Outcome(parser.name, runs=number - first)
    ended = (
        f"signal {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else f"exit code {status >> 8}"
    )
    outcome.fail(number, f"the process ended with {ended}")
    return outcome


def main(arguments: list[str]) -> int:
    """Run, and print one JSON line a parser; 1 where anything failed."""
    from parsers import PARSERS  # everything that reads foreign bytes: seconds

    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--parser", action="append", choices=sorted(PARSERS), help="only these")
    flags.add_argument("--first", type=int, default=None, help="number of the first input")
    flags.add_argument("--runs", type=int, default=20_000, help="inputs for each parser")
    flags.add_argument("--state", type=Path, help="file that remembers where the last piece ended")
    chosen = flags.parse_args(arguments)
    done = json.loads(chosen.state.read_text()) if chosen.state and chosen.state.exists() else {}
    failed = False
    for name in chosen.parser or PARSERS:
        first = done.get(name, 0) if chosen.first is None else chosen.first
        PARSERS[name].prepare()
        outcome = in_a_process(PARSERS[name], first, chosen.runs)
        failed |= bool(outcome.failures)
        print(json.dumps({field: getattr(outcome, field) for field in Outcome.__slots__}), flush=True)
        if chosen.state and not outcome.failures:
            done[name] = first + outcome.runs
            chosen.state.write_text(json.dumps(done))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
