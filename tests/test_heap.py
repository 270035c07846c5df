"""What the settings of the C library change, each in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such settings")

FAULTS = """
import resource, numpy as np
for _ in range(10):
    held = [np.ones(1 << 18) for _ in range(24)]  # 48 MiB in blocks of 2, for which numpy asks no huge pages
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
HELD = """
import numpy as np
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = resident()
held = [np.ones(1 << 15) for _ in range(400)]  # 100 MiB in blocks of a quarter
del held[::2]
print(resident() - before)
"""


def told(setting: str, code: str) -> int:
    first = f"import resource, numpy; from paritree import heap; {setting}"
    count = "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt"
    done = subprocess.run(
        [sys.executable, "-c", f"{first}\n{count}\n{code}"], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_scans_use_freed_memory_again() -> None:
    """Where blocks are the system's own pages, those of every round come anew: ten times 12,288 of them."""
    assert told("heap.give_freed_memory_back()", FAULTS) > 100_000
    assert told("heap.reuse_freed_memory()", FAULTS) < 20_000


def test_a_long_life_gives_large_blocks_back() -> None:
    """Where every other block was freed, half of the memory is left; in a heap, all of it."""
    assert told("heap.reuse_freed_memory()", HELD) > 90 << 20
    assert told("heap.give_freed_memory_back()", HELD) < 60 << 20
