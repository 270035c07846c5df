"""Shards: the pieces of every file. All shards see the same files, or the sweep fails."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from edge_agent.connectors import paths
from edge_agent.connectors.contract import Plan, Position, Shard
from edge_agent.connectors.files.format import Format
from edge_agent.connectors.filestate import FileState, version
from edge_agent.connectors.fileversion import settled_version
from paritree.core.errors import ConfigError, SourceError


class FilesPlan(Plan):
    """The files of a glob as they were when the plan was made."""

    def __init__(self, form: Format, pattern: str, shard_rows: int) -> None:
        if shard_rows < 1:
            raise ConfigError("shard_rows is at least 1")
        self._pattern = pattern
        self._shard_rows = shard_rows
        self._states = {path: FileState.of(path) for path in paths.matches(pattern)}
        self.shards = tuple(_shards(form, self._states, shard_rows))

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

    def close(self) -> None:
        """Nothing is kept open."""


def _shards(form: Format, states: dict[str, FileState], shard_rows: int) -> Sequence[Shard]:
    out: list[Shard] = []
    base = os.path.commonpath([os.path.dirname(path) for path in states]) if states else ""
    for path, state in states.items():
        version_of_file = settled_version([path], form)
        for index, (piece, rows) in enumerate(form.pieces(path, shard_rows)):
            span = {"path": path, "state": astuple(state), "piece": piece}
            known = version_of_file and f"{version_of_file} {piece}"
            out.append(Shard(len(out), f"{os.path.relpath(path, base)} part {index}", span, rows, known))
        state.unchanged(path)
    if not out:
        raise SourceError("the files have gone", next_step="put them back and sweep again")
    return out
