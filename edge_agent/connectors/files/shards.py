"""Shards: the pieces of every file. All shards see the same files, or the sweep fails."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from edge_agent.connectors import paths
from edge_agent.connectors.contract import Plan, Position, Shard
from edge_agent.connectors.files.format import Format, Piece
from edge_agent.connectors.files.recut import recut
from edge_agent.connectors.files.scan import names_read
from edge_agent.connectors.filestate import FileState, version
from edge_agent.connectors.fileversion import settled_version
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding


class FilesPlan(Plan):
    """The files of a glob as they were when the plan was made."""

    def __init__(self, form: Format, pattern: str, shard_rows: int) -> None:
        if shard_rows < 1:
            raise ConfigError("shard_rows is at least 1")
        self._form = form
        self._pattern = pattern
        self._shard_rows = shard_rows
        self._states = {path: FileState.of(path) for path in paths.matches(pattern)}
        if not self._states:
            raise SourceError("the files have gone", next_step="put them back and sweep again")
        self._base = os.path.commonpath([os.path.dirname(path) for path in self._states])
        self._versions: dict[str, str] = {}
        pieces: list[tuple[str, Piece, int]] = []
        for path, state in self._states.items():
            self._versions[path] = settled_version([path], form)
            pieces += [(path, piece, rows) for piece, rows in form.pieces(path, shard_rows)]
            state.unchanged(path)
        self.shards = self._cut(pieces)

    def position(self) -> Position:
        """The version of the files, a point. Raises SourceError where a file came, went or changed since the plan."""
        now = paths.matches(self._pattern)
        if now != list(self._states):
            odd = sorted(set(now) ^ set(self._states))[0]
            raise SourceError(f"{odd} came or went during the sweep", next_step="sweep again", retryable=True)
        for path, state in self._states.items():
            state.unchanged(path)
        return Position(version(self._states), point=True)

    def memento(self) -> dict[str, Any]:
        """The files as they were: as long as nobody has written them, the same shards have the same rows."""
        return {"version": version(self._states), "shard_rows": self._shard_rows}

    def take_up(self, mementos: Sequence[Mapping[str, Any]], shards: tuple[Shard, ...]) -> tuple[Plan, ...] | None:
        """Their shards, which may be cut in another way (:meth:`recut`), of the files as they are now."""
        if any(memento != self.memento() for memento in mementos):
            return None
        self.shards = tuple(
            self._shard(s.number, s.label, s.range["path"], s.range["piece"], s.rows_estimate)
            for s in sorted(shards, key=lambda shard: shard.number)
        )
        return ()

    def recut(self, binding: Binding, held: Sequence[Shard]) -> Mapping[str, str]:
        """Files that nobody wrote are cut as they were; in others, pieces of the same bytes are found again."""
        names = names_read(binding)
        cuts = recut(self._form, self._versions, self.shards, held, names, self._shard_rows)
        self.shards = self._cut([(cut.path, cut.piece, cut.rows) for cut in cuts], [cut.content for cut in cuts])
        return {shard.label: cut.held for shard, cut in zip(self.shards, cuts, strict=True) if cut.held}

    def close(self) -> None:
        """Nothing is kept open."""

    def _cut(self, pieces: Sequence[tuple[str, Piece, int]], contents: Sequence[str] = ()) -> tuple[Shard, ...]:
        """The pieces, those of a file together, as shards."""
        out: list[Shard] = []
        parts: dict[str, int] = {}
        for path, piece, rows in pieces:
            index = parts[path] = parts.get(path, -1) + 1
            label = f"{os.path.relpath(path, self._base)} part {index}"
            out.append(self._shard(len(out), label, path, piece, rows, contents[len(out)] if contents else ""))
        return tuple(out)

    def _shard(self, number: int, label: str, path: str, piece: Piece, rows: int, content: str = "") -> Shard:
        """A piece as the file is now."""
        span = {"path": path, "state": astuple(self._states[path]), "piece": piece}
        known = self._versions[path] and f"{self._versions[path]} {piece}"
        return Shard(number, label, span, rows, known, content)
