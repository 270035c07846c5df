"""Bulk loss: where most rows of a range are gone from a region, the range is reported with its counts, not key by key.

Keys are spread over the tree by a keyed hash, so whatever was lost, every range lost the same share: the range that is
looked at is the whole table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paritree.core import limits


@dataclass(frozen=True, slots=True)
class RangeFinding:
    """``rows`` of every region below the node ``prefix`` (hexadecimal) of depth ``bits``; ``gone_in`` lacks most."""

    rows: Mapping[str, int]
    gone_in: tuple[str, ...]
    prefix: str = ""
    bits: int = 0

    def report(self) -> dict[str, Any]:
        """The entry of the JSON report."""
        return {"kind": "range", "prefix": self.prefix, "bits": self.bits, "rows": dict(self.rows)}

    @property
    def reason(self) -> str:
        """One line for people."""
        counts = ", ".join(f"{count:,} rows in {name}" for name, count in self.rows.items())
        return f"most rows are gone in {', '.join(self.gone_in)}: {counts}; told by the counts, without a look at keys"


def bulk_loss(rows: Mapping[str, int]) -> RangeFinding | None:
    """The regions that hold less than half of the rows of the fullest one, where that is too much to list."""
    most = max(rows.values(), default=0)
    gone = tuple(name for name, count in rows.items() if 2 * count < most and most - count >= limits.RANGE_ROWS_MIN)
    return RangeFinding(rows, gone) if gone else None
