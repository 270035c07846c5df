"""Processes that can die at any moment, and take with them whatever they were about to do.

What runs in a process knows it by a context variable, so that its tasks, and its work for threads, end with it. What a
dead process still tries (``finally`` clauses run in a simulation, and not after SIGKILL) must reach nothing: its store
refuses (:class:`MortalStore`), its spool has another name by then, its streams are cut.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa

from coordinator.store import Store

T = TypeVar("T")
_RUNNING: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Death(BaseException):
    """The process is gone: nobody handles it."""


class Process:
    """One life of a coordinator or an agent. ``fatal`` is the number of the step at which it dies, None for never.

    A step is a moment at which something on disk has changed, or is about to: see :func:`step`.
    """

    def __init__(self, name: str, fatal: int | None = None) -> None:
        self.name = name
        self.fatal = fatal
        self.alive = True
        self.steps = 0
        self.on_death: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it in this process."""
        context = contextvars.copy_context()
        context.run(_RUNNING.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """A task was begun by what runs in this process."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if not self.alive:
            asyncio.get_running_loop().call_soon(task.cancel)

    def step(self) -> None:
        """Raises Death where this is the fatal one, or the process is dead already."""
        self.demand_alive()
        self.steps += 1
        if self.steps == self.fatal:
            self.die()
            raise Death

    def demand_alive(self) -> None:
        """Raises Death."""
        if not self.alive:
            raise Death

    def die(self) -> None:
        """End now. Idempotent."""
        if not self.alive:
            return
        self.alive = False
        for hook in self.on_death:
            hook()
        asyncio.get_running_loop().call_soon(self._cancel)

    def _cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def gone(self) -> None:
        """Wait until nothing of it is left."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))


def running() -> Process | None:
    """The process that this code runs in."""
    return _RUNNING.get()


def step() -> None:
    """Something that outlives the process has happened, or is about to. Raises Death."""
    if (process := running()) is not None:
        process.step()


def tasks_of_processes(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **options: Any) -> Any:
    """A task factory by which every task belongs to the process of whoever began it."""
    task: asyncio.Task[T] = asyncio.Task(work, loop=loop, **options)
    context: contextvars.Context | None = options.get("context")
    process = running() if context is None else context.get(_RUNNING)
    if process is not None:
        process.adopt(task)
    return task


class MortalStore(Store):
    """A store whose process may die before and after each of its writes is committed."""

    process: Process | None = None

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        if self.process is not None:
            self.process.step()
        with super()._writing() as connection:
            yield connection
        if self.process is not None:
            self.process.step()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        if self.process is not None:
            self.process.demand_alive()
        with super()._reading() as connection:
            yield connection
