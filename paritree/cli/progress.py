"""How far a sweep is: bars on a terminal, a plain line now and then elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from paritree.cli.output import note

LINE_S: Final = 5.0
"""Least time between two plain lines of one region's stage."""


class Progressed(Protocol):
    """What is shown: see ``paritree.wire.control.SweepProgress``."""

    @property
    def region(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def shards_done(self) -> int: ...
    @property
    def shards_total(self) -> int: ...
    @property
    def rows(self) -> int: ...


@contextmanager
def shown_progress() -> Iterator[Callable[[Progressed], None]]:
    """A function that shows progress until the block ends."""
    if sys.stderr.isatty():
        with _bars() as update:
            yield update
    else:
        yield PlainLines().update


class PlainLines:
    """A line when a region's stage changes or ends, and at most every :data:`LINE_S` seconds in between."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, tuple[str, float]] = {}

    def update(self, progress: Progressed) -> None:
        """Say it, if it is time to."""
        now = self._clock()
        stage, at = self._told.get(progress.region, ("", 0.0))
        ended = 0 < progress.shards_total == progress.shards_done
        if progress.stage == stage and not ended and now - at < LINE_S:
            return
        self._told[progress.region] = progress.stage, now
        note(line(progress))


def line(progress: Progressed) -> str:
    """``eu: scan 3/12 shards, 750,000 rows, 2 min left``."""
    said = f"{progress.region}: {progress.stage}" if progress.region else progress.stage
    if progress.shards_total:
        said += f" {progress.shards_done}/{progress.shards_total} shards"
    if progress.rows:
        said += f", {progress.rows:,} rows"
    left = getattr(progress, "eta_s", None)
    return f"{said}, {duration(left)} left" if left else said


def duration(seconds: float) -> str:
    """``7 s``, ``3 min``, ``2 h 5 min``: as exact as a forecast is."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def _bars() -> Iterator[Callable[[Progressed], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def update(progress: Progressed) -> None:
            name = progress.region or "sweep"
            if name not in tasks:
                tasks[name] = bars.add_task(escape(name), total=None, said="")
            bars.update(
                tasks[name],
                total=progress.shards_total or None,
                completed=progress.shards_done,
                said=escape(line(progress).partition(": ")[2] or progress.stage),
            )

        yield update
