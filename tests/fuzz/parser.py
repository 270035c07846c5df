"""What a parser of foreign bytes is to the harness: valid examples, how it is called, which errors it may raise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass


def _nothing() -> None:
    """Nothing has to be made ready."""


@dataclass(frozen=True, slots=True)
class Parser:
    """``parse`` raises one of ``refusals``, or returns; ``prepare`` is called before the process is divided.

    ``tokens`` mean something to the parser; ``lines``: it reads text in lines. ``wild`` are inputs that are as large
    as they get, once each.
    """

    name: str
    examples: Callable[[], Sequence[bytes]]
    parse: Callable[[bytes], None]
    refusals: tuple[type[BaseException], ...]
    prepare: Callable[[], None] = _nothing
    tokens: tuple[bytes, ...] = ()
    lines: bool = False
    wild: Callable[[], Sequence[bytes]] = tuple

    def refuses(self, data: bytes) -> bool:
        """Whether it is refused, once."""
        try:
            self.parse(data)
        except Exception as error:  # noqa: BLE001 - what is wrong will come again
            return isinstance(error, self.refusals)
        return False

    def warm(self, data: bytes) -> None:
        """Parse once, whatever comes of it: what is wrong will come again."""
        with contextlib.suppress(Exception):
            self.parse(data)
