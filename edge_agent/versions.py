"""When the rows of a look-up were written: by the column that the dataset declares for it, else as the source knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from edge_agent.build import Copy
from edge_agent.connectors.contract import VERSION
from paritree.core.carrier import plain_values
from paritree.core.errors import DeadLetter

_ENDLESS: Final = frozenset({(1 << 63) - 1, -(1 << 63)})
"""Infinite times."""


@dataclass(frozen=True, slots=True)
class Version:
    """``at`` is microseconds since 1970 (or the number of a declared column); ``whole``: of all of the row."""

    at: int
    whole: bool


def versions_of(copy: Copy, batch: pa.RecordBatch) -> Sequence[Version | None]:
    """The version of each row of a look-up's batch, None where nothing says it."""
    if copy.version:
        values = plain_values(batch.column(copy.version), copy.profile.columns[copy.version])
        return [_declared(value) for value in values]
    if VERSION not in batch.schema.names:
        return [None] * batch.num_rows
    told = batch.column(VERSION).to_pylist()
    return [None if one is None else Version(one["at"], one["whole"]) for one in told]


def _declared(value: object) -> Version | None:
    """A declared version counts for the whole row: that is what is declared."""
    if isinstance(value, DeadLetter) or not isinstance(value, int) or value in _ENDLESS or not -(2**63) < value < 2**63:
        return None
    return Version(value, whole=True)
