"""What one sweep may cost. A budget that is used up ends it with a partial result: `unknown`, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds of work, bytes sent and received by all regions, rows digested in all regions, differing keys looked at.

    None: no limit.
    """

    time_s: float | None = None
    bytes: int | None = None
    rows: int | None = None
    differences: int | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """From the options of a stored sweep; what they do not name is not limited."""
        return cls(**{name: options.get(f"max_{name}") for name in cls.__slots__})

    def options(self) -> dict[str, Any]:
        """As options of a stored sweep."""
        return {f"max_{name}": value for name, value in asdict(self).items()}

    def spent(self, *, time_s: float = 0.0, bytes_moved: int = 0, rows: int = 0) -> str:
        """Which limit is used up, as a sentence; "" while none is."""
        if self.time_s is not None and time_s >= self.time_s:
            return f"the budget of {self.time_s:g} s is used up"
        if self.bytes is not None and bytes_moved >= self.bytes:
            return f"the budget of {self.bytes:,} bytes is used up"
        if self.rows is not None and rows > self.rows:
            return f"the budget of {self.rows:,} rows is used up"
        return ""
