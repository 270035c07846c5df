"""An event loop whose time jumps to the next timer as soon as nothing is left to do, and that has no threads.

Whatever runs on it takes no time but what it waits for, and runs in the same order each time: the loop's own order is
that of its queue and its timers, and work for threads is done at once, in the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(AssertionError):
    """Everybody waits, and nobody for time to pass: a real system would hang here."""


class _Jump(selectors.BaseSelector):
    """Instead of waiting for files, moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._keys[fileobj] = selectors.SelectorKey(fileobj, fileobj, events, data)
        return self._keys[fileobj]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("everybody waits for somebody else")
        self.now += max(0.0, timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time`` is virtual seconds since the start. ``faults`` are exceptions that nobody caught."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self.faults: list[Mapping[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def time(self) -> float:
        return self._jump.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """The result, at once."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except StopIteration as error:
            future.set_exception(RuntimeError(str(error)))
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever awaits the future
            future.set_exception(error)
        return future


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
