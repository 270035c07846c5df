"""What the settings of the C library change, each in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such settings")

FAULTS = """
import resource
for _ in range(10):
    held = [np.ones(1 << 18) for _ in range(24)]  # 48 MiB in blocks of 2, for which numpy asks no huge pages
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
HELD = """
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = resident()
held = [np.ones(1 << 15) for _ in range(400)]  # 100 MiB in blocks of a quarter
del held[::2]
print(resident() - before)
"""

HEAPS = """
import ctypes, tempfile, threading
ready, done, held = threading.Barrier(9), threading.Event(), []
def take():
    held.append(np.ones(1 << 10))
    ready.wait()
    done.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads:
    thread.start()
ready.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile("rb") as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(file.read().count(b"<heap nr="))
done.set()
"""


def told(setting: str, code: str) -> int:
    first = f"import resource, numpy as np; from paritree import heap; {setting}"
    count = "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt"
    done = subprocess.run(
        [sys.executable, "-c", f"{first}\n{count}\n{code}"], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_scans_use_freed_memory_again() -> None:
    """Where blocks are the system's own pages, those of every round come anew: ten times 12,288 of them."""
    assert told("heap.give_freed_memory_back()", FAULTS) > 100_000
    assert told("heap.reuse_freed_memory()", FAULTS) < 20_000


def test_free_memory_is_returned_from_within_the_heaps() -> None:
    """As long as scans keep it for themselves, a process is as large as the most that it ever did at once."""
    returned = HELD.replace("print(", "heap.return_free_memory()\nprint(")
    assert told("heap.reuse_freed_memory()", HELD) > 90 << 20
    assert told("heap.reuse_freed_memory(); heap.return_free_memory()", returned) < 60 << 20


def test_a_long_life_gives_large_blocks_back() -> None:
    """Where every other block was freed, half of the memory is left; in a heap, all of it."""
    assert told("heap.reuse_freed_memory()", HELD) > 90 << 20
    assert told("heap.give_freed_memory_back()", HELD) < 60 << 20


def test_threads_share_two_heaps() -> None:
    """Of glibc's own accord each of eight threads has one for itself, up to eight times the number of cores."""
    assert told("pass", HEAPS) > 4
    assert told("heap.share_heaps()", HEAPS) == 2
    assert told("heap.share_heaps(); heap.reuse_freed_memory()", FAULTS) < 20_000
