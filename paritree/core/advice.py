"""What to add where a catalogue does not decide: worded as a flag of ``diff`` or as a line of a datasets file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from shlex import quote
from typing import Protocol

from paritree.core.errors import ConfigError
from paritree.core.merging import with_precision
from paritree.core.types import TIMES, LogicalType

NAMES_LISTED_MAX = 12
"""Known names listed where none comes near: what still fits on a few lines of a terminal."""
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


class Advice(Protocol):
    """The next step for each kind of mistake; columns are logical names."""

    def key(self, columns: Sequence[str]) -> str:
        """Name the key columns; an example where ``columns`` is empty."""

    def ignore(self, column: str) -> str:
        """Leave a column out of the comparison."""

    def precision(self, column: str, kind: LogicalType, unit: str) -> str:
        """Compare a time at that unit (s, ms, us)."""

    def rule(self, column: str, rule: str) -> str:
        """Apply a text rule."""

    def tolerance(self, column: str, kind: LogicalType) -> str:
        """Say a tolerance that can be one."""

    def exact(self, column: str) -> str:
        """Compare a column without a tolerance."""

    def declare(self, column: str) -> str:
        """Decide between types that do not go together."""


class Flags:
    """The flags of ``paritree diff``."""

    def key(self, columns: Sequence[str]) -> str:
        return f"--key {quote(','.join(columns))}" if columns else "--key a,b, or --key '*' for the whole row"

    def ignore(self, column: str) -> str:
        return f"--ignore {quote(column)}"

    def precision(self, column: str, kind: LogicalType, unit: str) -> str:  # noqa: ARG002 - a flag needs no type
        return f"--precision {quote(f'{column}={unit}')}"

    def rule(self, column: str, rule: str) -> str:
        return f"--rule {quote(f'{column}={rule}')}"

    def tolerance(self, column: str, kind: LogicalType) -> str:  # noqa: ARG002 - a flag needs no type
        return f"--tolerance {quote(f'{column}=0.01')}"

    def exact(self, column: str) -> str:
        return f"leave out --tolerance {column}=..."

    def declare(self, column: str) -> str:
        return f"--ignore {quote(column)}, or declare its type in a datasets file ('paritree init' writes one)"


class Lines:
    """The lines of a dataset in a datasets file."""

    def key(self, columns: Sequence[str]) -> str:
        if not columns:
            return 'key = ["a", "b"], or key = "*" for the whole row'
        return f"key = {json.dumps(list(columns), ensure_ascii=False)}"

    def ignore(self, column: str) -> str:
        return f"{quoted(column)} = {{ ignore = true }}"

    def precision(self, column: str, kind: LogicalType, unit: str) -> str:
        if kind.name in TIMES:
            return f'{quoted(column)} = {{ type = "{kind.name}", precision = "{unit}" }}'
        return f"{quoted(column)} = {json.dumps(str(with_precision(kind, unit)), ensure_ascii=False)}"

    def rule(self, column: str, rule: str) -> str:
        return f'{quoted(column)} = {{ type = "text", rules = ["{rule}"] }}'

    def tolerance(self, column: str, kind: LogicalType) -> str:
        return f'{quoted(column)} = {{ type = "{kind.name}", tolerance = 0.01 }}'

    def exact(self, column: str) -> str:
        return f"take tolerance out of {quoted(column)} = {{ ... }}"

    def declare(self, column: str) -> str:
        name = quoted(column)
        return (
            f"{self.ignore(column)}, or one type for all regions and, where a region has another, "
            f'{name} = {{ expression = "..." }} in its columns'
        )


FLAGS: Advice = Flags()
LINES: Advice = Lines()


def quoted(name: str) -> str:
    """A TOML key."""
    return name if _BARE_KEY.match(name) else json.dumps(name, ensure_ascii=False)


def near(name: str, known: Iterable[str]) -> str:
    """For a name that nothing has: the names that come near, else those that exist."""
    names = sorted(known)
    close = [n for n in names if n.lower() == name.lower()] or get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(n) for n in close)}?"
    listed = ", ".join(names[:NAMES_LISTED_MAX])
    return f"known: {listed}{', ...' if len(names) > NAMES_LISTED_MAX else ''}" if names else "there are none"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: what is wrong, and the flag or line (or what to look at) that would decide it."""

    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.text}: {self.fix}" if self.fix else self.text


def refuse(what: str, problems: Sequence[Problem]) -> None:
    """Raise one ConfigError with all the problems; nothing where there are none."""
    if not problems:
        return
    if len(problems) == 1:
        raise ConfigError(f"{what}: {problems[0].text}", next_step=problems[0].fix)
    listed = "".join(f"\n  - {problem}" for problem in problems)
    raise ConfigError(f"{what}: {len(problems)} things to decide{listed}")
