"""Twenty thousand damaged inputs for every parser of foreign bytes, and proof that the harness would notice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
RUN = HERE / "run.py"
NAMES = sorted(
    name
    for file in ("stream", "files", "pages", "slots", "topics")
    for name in re.findall(r'Parser\("([\w-]+)"', (HERE / f"{file}.py").read_text())
)

SPOILT = {"locators": 1, "configuration": 2, "topic": 7}
"""How many examples are no valid ones, on purpose: a sealed key, what is nested too deeply, what is no JSON or key."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(RUN), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def outcomes() -> dict[str, Any]:
    """All parsers, one after the other."""
    done = run("--runs", "20000")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(NAMES) >= 14, done.stderr
    return {outcome["parser"]: outcome for outcome in found}


@pytest.mark.parametrize("name", NAMES)
def test_no_crash_no_hang_no_flood(outcomes: dict[str, Any], name: str) -> None:
    outcome = outcomes[name]
    assert outcome["failures"] == [], "\n".join(f"{one['what']}\n{one['again']}" for one in outcome["failures"])
    assert outcome["runs"] >= 20_000
    assert outcome["refused"] < outcome["runs"], "nothing was read at all"
    assert outcome["examples_refused"] == SPOILT.get(name, 0), "valid examples go to the wrong decoder, or are none"


PLANTED = r"""
import random, sys, time
from pathlib import Path
here = Path(sys.argv[1])
sys.path[:0] = [str(here), str(here.parent), str(here.parents[1])]
from parser import Parser
from guarded import Guarded
import ctypes, run

GUARDED = Guarded()
ALLOWED = []

def touch(at_end, offset):
    def parse(data):
        GUARDED.begin(at_end=at_end)
        array = GUARDED.holding(data or b"x")
        ctypes.memmove(array.ctypes.data + (len(array) if at_end else 0) + offset, b"y", 1)
    return parse

def spin(data):
    while True:
        pass

def slow(data):
    ALLOWED.append(data)
    if len(ALLOWED) >= 5:
        end = time.process_time() + 1.1
        while time.process_time() < end:
            pass

def examples():
    return [b"0123456789" * 3]

for name, parse in {
    "past the end": touch(True, 0), "before the start": touch(False, -1), "within": touch(True, -1),
    "hang": spin, "slow": slow,
    "memory": lambda data: ALLOWED.append(bytearray(64 << 20)), "error": lambda data: {}[data],
}.items():
    run.HANG_S = 1 if name == "hang" else 20
    outcome = run.in_a_process(Parser(name, examples, parse, (ValueError,) if name != "memory" else ()), 1, 5)
    print(f"{name}: {outcome.failures[0]['what'] if outcome.failures else 'fine'}", flush=True)
made = [run.Mutator(examples()).made(random.Random(n)) for n in range(200)]
again = [run.Mutator(examples()).made(random.Random(n)) for n in range(200)]
print(f"inputs: {len(set(made))} different, the same again: {made == again}")
"""


def test_the_harness_notices_what_it_is_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLANTED, str(HERE)], capture_output=True, text=True, check=False, timeout=120
    )
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert said["within"] == "fine", done.stderr
    assert said["past the end"] == said["before the start"] == "the process ended with signal SIGSEGV"
    assert said["hang"] == "the process ended with signal SIGVTALRM"
    assert said["slow"].startswith("took ")
    assert said["memory"].startswith("MemoryError")
    assert said["error"].startswith("KeyError")
    different, same = said["inputs"].split(" different, the same again: ")
    assert int(different) > 100
    assert same == "True"
