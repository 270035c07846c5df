"""An event loop whose time jumps to the next timer as soon as nothing is left to do, and that has no threads.

Whatever runs on it takes no time but what it waits for, and runs in the same order each time: the loop's own order is
that of its queue and its timers, and work for threads is done in the loop, at once or after what a slow disk takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from simulation.mortal import Death, Process, running, tasks_of_processes

T = TypeVar("T")


class Stuck(AssertionError):
    """Everybody waits, and nobody for time to pass, or time stands still: a real system would hang here."""


MOMENT_STEPS_MAX = 1_000_000
"""Steps of the loop in one moment, far beyond what a sweep takes."""


class _Jump(selectors.BaseSelector):
    """Instead of waiting for files, moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._steps = 0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._keys[fileobj] = selectors.SelectorKey(fileobj, fileobj, events, data)
        return self._keys[fileobj]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("everybody waits for somebody else")
        before = self.now
        self.now += max(0.0, timeout)
        self._steps = self._steps + 1 if self.now == before else 0
        if self._steps > MOMENT_STEPS_MAX:
            raise Stuck(f"time stands still at {self.now:g} s")
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time`` is virtual seconds since the start. ``faults`` are exceptions that nobody caught.

    ``disk_s`` gives the seconds that the next work for a thread takes, half of them before it is done.
    """

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self.faults: list[Mapping[str, Any]] = []
        self.disk_s: Callable[[], float] = lambda: 0.0
        self.set_exception_handler(self._note)
        self.set_task_factory(tasks_of_processes)

    def _note(self, _loop: Any, context: Mapping[str, Any]) -> None:
        if not isinstance(context.get("exception"), Death):
            self.faults.append(context)

    def time(self) -> float:
        return self._jump.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """The result; at once where the disk is not slow. Work of a process that is dead by then is not done."""
        future: asyncio.Future[T] = self.create_future()
        process, took_s = running(), self.disk_s()
        if not took_s:
            _done(future, process, func, *args)
        else:
            self.call_later(took_s / 2, self._slowly, future, took_s / 2, process, func, *args)
        return future

    def _slowly(self, future: asyncio.Future[T], rest_s: float, process: Process | None, *call: Any) -> None:
        made: asyncio.Future[T] = self.create_future()
        _done(made, process, *call)
        self.call_later(rest_s, _passed_on, made, future)


def _done(future: asyncio.Future[T], process: Process | None, func: Callable[..., T], *args: Any) -> None:
    if process is not None and not process.alive:
        return
    try:
        future.set_result(func(*args))
    except StopIteration as error:
        future.set_exception(RuntimeError(str(error)))
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever awaits the future
        future.set_exception(error)


def _passed_on(made: asyncio.Future[T], to: asyncio.Future[T]) -> None:
    if not made.done():
        return
    error = made.exception()
    if to.done():
        return
    if error is None:
        to.set_result(made.result())
    else:
        to.set_exception(error)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of its own. Raises Stuck, and AssertionError for exceptions that nobody caught."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        result = runner.run(main)
        loop = runner.get_loop()
    assert isinstance(loop, VirtualLoop)
    assert not loop.faults, loop.faults
    return result


@contextlib.asynccontextmanager
async def background(*work: Coroutine[Any, Any, Any]):  # type: ignore[no-untyped-def]
    """Tasks that are cancelled, and have ended, on leaving; what one of them raised is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
