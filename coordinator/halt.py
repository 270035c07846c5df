"""How a sweep under way is told to end early with what it has, or to rest."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from paritree.core.errors import ParitreeError


class Rested(ParitreeError):
    """The sweep rests: nothing is concluded, and whoever takes it up goes on from what is stored."""


class Halt:
    """Asked for once; the first reason stays, but ending goes before resting."""

    def __init__(self) -> None:
        self.reason = ""
        self.rest = False
        self._asked = asyncio.Event()

    def ask(self, reason: str, *, rest: bool = False) -> None:
        """End the sweep for this reason, or let it ``rest``. It takes effect once stored answers are used up."""
        if not self.reason or (self.rest and not rest):
            self.reason, self.rest = reason, rest
        self._asked.set()

    async def passing(self) -> None:
        """To be awaited before asking a region: does not return once the sweep was told to halt."""
        if self._asked.is_set():
            await asyncio.Event().wait()

    async def unless_asked(self, task: asyncio.Task[Any]) -> None:
        """Wait for the task, whose error is raised, but not once it was told to halt."""
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    async def driving(self, work: Coroutine[Any, Any, None], live: asyncio.Event) -> str:
        """Do the work: "" when it came to its end, else why it was ended before, with nothing of it still running.

        Raises Rested when it was told to rest, and what the work raises.
        """
        if self._asked.is_set() and live.is_set():  # there is nothing stored to begin with, and nobody is to be asked
            work.close()
            return self._ended()
        doing, asked = asyncio.create_task(work), asyncio.create_task(self._when_asked(live))
        try:
            await asyncio.wait({doing, asked}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                doing.result()
                return ""
        finally:
            for task in (doing, asked):
                task.cancel()
            await asyncio.gather(doing, asked, return_exceptions=True)
        return self._ended()

    def _ended(self) -> str:
        if self.rest:
            raise Rested(self.reason)
        return self.reason

    async def _when_asked(self, live: asyncio.Event) -> None:
        await live.wait()
        await self._asked.wait()
