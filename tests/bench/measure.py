"""Measure a command as a whole: wall and CPU seconds, and memory of its process tree while it runs."""

from __future__ import annotations

import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

SAMPLE_S = 0.2


@dataclass(slots=True)
class Run:
    """One run. Memory in bytes: ``pss_worker`` is the largest single process, ``pss_total`` the whole tree's peak."""

    wall_s: float
    cpu_s: float
    pss_worker: int
    pss_total: int
    exit_code: int
    stdout: str = ""
    stderr: str = ""
    server_cpu_s: dict[str, float] = field(default_factory=dict)


class _Sampler(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.ended = threading.Event()
        self.worker = self.total = 0

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_S):
            try:
                root = psutil.Process(self._pid)
                sizes = [_pss(process) for process in [root, *root.children(recursive=True)]]
            except psutil.Error:
                continue
            self.worker = max([self.worker, *sizes])
            self.total = max(self.total, sum(sizes))


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def run(command: Sequence[str], timeout_s: float = 900.0) -> Run:
    """Run a command to its end and measure it; all of its own descendants count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    sampler = _Sampler(process.pid)
    sampler.start()
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
    wall = time.perf_counter() - began
    sampler.ended.set()
    sampler.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, cpu, sampler.worker, sampler.total, process.returncode, stdout, stderr)


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """One line about where this ran."""
    model = "?"
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = psutil.virtual_memory().total / 2**30
    load = psutil.getloadavg()[0]
    return f"{psutil.cpu_count()} cores ({model}), {memory:.0f} GiB, load {load:.1f} at the start"
