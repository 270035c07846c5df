"""What differs between file formats; everything else in this package is common to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from edge_agent.connectors.keyfilter import Key
from paritree.core.profile import Binding
from paritree.core.schema import SourceColumn

Piece = Mapping[str, Any]
"""A part of one file that is read on its own; picklable, meaningful to its format only."""


class Format(Protocol):
    """One file format. Every method raises SourceError or ConfigError only."""

    @property
    def name(self) -> str:
        """What the format is called in messages."""

    def columns(self, path: str, /) -> tuple[SourceColumn, ...]:
        """The columns of one file. Raises ConfigError for a file that is not of this format."""

    def pieces(self, path: str, shard_rows: int, /) -> list[tuple[Piece, int]]:
        """The file cut into pieces of about ``shard_rows`` rows, at least one, each with its rows (0 = unknown)."""

    def fingerprints(self, path: str, names: Sequence[str], piece: Piece | None, /) -> list[tuple[str, int]]:
        """Of each part of a piece (None: of the file) that can be read on its own: what its rows are made from, rows.

        Parts of one fingerprint that is not "" have the same rows in the columns of those names. Empty where the format
        knows no parts.
        """

    def piece_of(self, parts: Sequence[int], /) -> Piece:
        """Those parts of the file, by their places in :meth:`fingerprints`, as a piece."""

    def read(self, path: str, piece: Piece, names: Sequence[str], /) -> Iterator[pa.RecordBatch]:
        """The rows of a piece with (at least) the columns of those names, as the file has them."""

    def bound(self, batch: pa.RecordBatch, binding: Binding, /) -> pa.RecordBatch:
        """A batch of :meth:`read` as the binding's batch."""

    def narrowed(self, path: str, piece: Piece, binding: Binding, /) -> Piece:
        """The part of a piece that may have rows of the binding's bucket; may be empty."""

    def asks(self, binding: Binding, /) -> bool:
        """Whether :meth:`narrowed` can leave anything out for the binding's bucket."""

    def promising(self, path: str, binding: Binding, keys: Sequence[Key], /) -> Piece | None:
        """The part of the file that may have one of the keys, None where none can."""

    def check(self, binding: Binding, /) -> None:
        """Raise ConfigError for a column whose type the format cannot give."""


def packed(parts: Sequence[tuple[int, int]], shard_rows: int) -> list[tuple[list[int], int]]:
    """Neighbouring parts (number, rows) together up to about so many rows: their numbers, and the rows of all."""
    out: list[tuple[list[int], int]] = []
    for number, rows in parts:
        if out and out[-1][1] + rows <= shard_rows:
            out[-1] = ([*out[-1][0], number], out[-1][1] + rows)
        else:
            out.append(([number], rows))
    return out
