"""What regions have answered about nodes in one sweep, so that a descent that starts again asks nobody the same twice.

A region that is excluded on the way has the others descend once more. They are asked for what only that takes; what
sized sketches have cost in the descents before counts against what they may cost in this one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from paritree.core.descent import Answer, Ask
from paritree.core.messages import AskSketch
from paritree.core.planner import sketch_bytes
from paritree.wire import codec


class Answered:
    """The answers by region and question."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, bytes], Answer] = {}
        self._sketches: dict[bytes, int] = {}

    @property
    def sketch_bytes(self) -> int:
        """What the sized sketches have cost the region of which all were asked."""
        return sum(self._sketches.values())

    async def of(self, region: str, ask: Ask, asking: Callable[[], Awaitable[Answer]]) -> Answer:
        """The region's answer to the question, which is asked where it was not answered before."""
        question = codec.fingerprint(ask)
        if isinstance(ask, AskSketch):
            self._sketches[question] = sketch_bytes(ask.cells)
        if (region, question) not in self._answers:
            self._answers[region, question] = await asking()
        return self._answers[region, question]

    def forget(self, region: str) -> None:
        """The region has another index from now on, or is not compared any more."""
        self._answers = {about: answer for about, answer in self._answers.items() if about[0] != region}

    def clear(self) -> None:
        """Nobody will descend any more."""
        self._answers.clear()
