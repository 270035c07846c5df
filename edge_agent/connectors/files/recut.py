"""How files are cut so that what an index has of them already is not read again.

    held       a.parquet  [g0 g1] [g2 g3] [g4]
    now        a.parquet  g0 g1 g2 x g4 y                      g3 was written anew, y was appended
    cut        a.parquet  [g0 g1] [g2 x] [g4] [y]              [g0 g1] and [g4] are held, wherever they lie by now

A piece is a run of the index, so it is found as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from edge_agent.connectors.contract import Shard
from edge_agent.connectors.files.format import Format, Piece, packed
from edge_agent.connectors.files.scan import file_version

PIECES_MAX: Final = 4
"""A file in so many times as many pieces as it would be cut into anew is cut, and read, anew."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A piece of a file; ``held`` is the label under which its rows are held, "" where they are to be read."""

    path: str
    piece: Piece
    rows: int
    held: str = ""
    content: str = ""


def recut(
    form: Format,
    versions: Mapping[str, str],
    shards: Sequence[Shard],
    held: Sequence[Shard],
    names: Sequence[str],
    shard_rows: int,
) -> list[Cut]:
    """The pieces of all files. ``versions`` are those of the files now, ``shards`` how they would be cut anew.

    Raises SourceError where a file cannot be read.
    """
    before = _by_path(sorted(held, key=lambda shard: shard.number))
    same = {
        path for path, version in versions.items() if version and _all_of(version, before.get(path, []))
    }  # each version is held in whole or not at all
    known = _Known(shard for path, found in before.items() if path not in same for shard in found)
    out: list[Cut] = []
    for path, anew in _by_path(shards).items():
        if path in same:
            out += [Cut(path, s.range["piece"], s.rows_estimate, s.label, s.content) for s in before[path]]
            continue
        cuts = _found_again(form, path, known, names, shard_rows) if known else []
        if cuts and len(cuts) <= PIECES_MAX * len(anew):
            known.take(cut.held for cut in cuts if cut.held)
            out += cuts
        else:
            out += [Cut(path, s.range["piece"], s.rows_estimate) for s in anew]
    return out


def _by_path(shards: Iterable[Shard]) -> dict[str, list[Shard]]:
    """The shards of each file, in their order."""
    out: dict[str, list[Shard]] = {}
    for shard in shards:
        out.setdefault(shard.range["path"], []).append(shard)
    return out


def _all_of(version: str, shards: Sequence[Shard]) -> bool:
    return bool(shards) and all(file_version(shard) == version for shard in shards)


@dataclass(slots=True)
class _Known:
    """Held shards that may be found again, by label; each once."""

    shards: Iterable[Shard]
    left: dict[str, Shard] = field(init=False)

    def __post_init__(self) -> None:
        self.left = {shard.label: shard for shard in self.shards if shard.content}

    def __bool__(self) -> bool:
        return bool(self.left)

    def take(self, labels: Iterable[str]) -> None:
        """These are found."""
        for label in labels:
            del self.left[label]

    def by_first(self, path: str) -> dict[str, list[Shard]]:
        """By the fingerprint that they begin with: those of the same file first, then the longest."""
        order = sorted(self.left.values(), key=lambda s: (s.range["path"] != path, -s.content.count(" ")))
        return {first: list(some) for first, some in _grouped(order)}


def _grouped(shards: Sequence[Shard]) -> Iterable[tuple[str, Iterable[Shard]]]:
    def first(shard: Shard) -> str:
        return shard.content.partition(" ")[0]

    return groupby(sorted(shards, key=first), key=first)  # which leaves the order of those that begin alike


def _found_again(form: Format, path: str, known: _Known, names: Sequence[str], shard_rows: int) -> list[Cut]:
    """The pieces of one file; [] where its format knows no parts."""
    parts = form.fingerprints(path, names, None)
    prints = [fingerprint for fingerprint, _ in parts]
    candidates = known.by_first(path)
    out: list[Cut] = []
    new: list[tuple[int, int]] = []

    def cut_new() -> None:
        out.extend(Cut(path, form.piece_of(numbers), rows) for numbers, rows in packed(new, shard_rows))
        new.clear()

    at = 0
    while at < len(parts):
        found = next((s for s in candidates.get(prints[at], []) if _stands(s, prints, at)), None)
        if found is None:
            new.append((at, parts[at][1]))
            at += 1
            continue
        cut_new()
        candidates[prints[at]].remove(found)
        numbers = range(at, at + found.content.count(" ") + 1)
        rows = sum(parts[number][1] for number in numbers)
        out.append(Cut(path, form.piece_of(numbers), rows, found.label, found.content))
        at = numbers.stop
    cut_new()
    return out


def _stands(shard: Shard, prints: Sequence[str], at: int) -> bool:
    content = shard.content.split(" ")
    return list(prints[at : at + len(content)]) == content
