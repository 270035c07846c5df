"""An index as it is at one moment, to be read for as long as somebody likes, whatever is written meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_agent.index.disk import Disk
from edge_agent.index.index import Index
from edge_agent.index.layers import Floors, Layer
from edge_agent.index.manifest import Unusable
from edge_agent.index.run import Run
from edge_agent.index.state import HeldRun, State


@dataclass(frozen=True, slots=True)
class View:
    """A state and its open runs, by file; removing a file does not end a view. ``digester``: how sketches are made."""

    state: State
    runs: Mapping[str, Run]
    digester: str

    @property
    def index(self) -> Index:
        """What answers the descent."""
        state = self.state
        runs = [self.runs[shard.run.file] for shard in state.shards.values() if shard.run is not None]
        return Index(
            runs, state.sums, state.probe, self.digester, changes=self.changes, duplicate_keys=state.duplicates
        )

    @property
    def changes(self) -> list[Layer]:
        """The layers of changes."""
        floors = Floors({shard.id: shard.floor for shard in self.state.shards.values() if shard.floor})
        return [Layer(self.runs[held.run.file], None, held.number, floors) for held in self.state.changes]

    @property
    def layers(self) -> list[Layer]:
        """All layers, those of shards under their ids."""
        shards = self.state.shards.values()
        return [Layer(self.runs[s.run.file], s.id) for s in shards if s.run is not None] + self.changes


def open_runs(disk: Disk, runs: Iterable[HeldRun], known: Mapping[str, Run]) -> dict[str, Run]:
    """The runs by file; those that are open already stay so.

    Raises Unusable where one is not the run that the manifest names, FileNotFoundError where it has gone.
    """
    return {held.file: known.get(held.file) or open_run(disk, held) for held in runs}


def open_run(disk: Disk, held: HeldRun) -> Run:
    """One run, as :func:`open_runs`."""
    if not (disk.folder / held.file).exists():
        raise FileNotFoundError(held.file)
    run = Run(disk.folder / held.file, disk.key)
    if (run.rows, run.checksum) != (held.rows, held.checksum):
        raise Unusable(f"{held.file} is not the run that the manifest names")
    return run


def runs_of(state: State) -> list[HeldRun]:
    """Every run that a state names."""
    return [s.run for s in state.shards.values() if s.run is not None] + [held.run for held in state.changes]
