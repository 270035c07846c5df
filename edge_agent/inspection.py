"""What ``paritree index`` says of an agent's indexes and does with them, beside the agent or while it is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.build import Copy
from edge_agent.index.disk import Disk
from edge_agent.index.durable import DurableIndex
from edge_agent.index.manifest import Unusable
from edge_agent.index.recount import recount
from edge_agent.index.shelf import is_locked, read_view
from edge_agent.index.view import View
from edge_agent.letters.store import FILE, LetterStore
from edge_agent.letters.sweep import SweepLetters
from edge_agent.serve import copies_of, executor_of
from edge_agent.spool import index_folder
from edge_agent.upkeep import warm_index
from edge_agent.wholescan import identity_of
from paritree.config.agent import AgentConfig
from paritree.config.toml import near
from paritree.core.errors import ConfigError, SourceError
from paritree.core.messages import Progress

READS: Final = 5
"""Times to read an index that its agent changes meanwhile."""


@dataclass(frozen=True, slots=True)
class Place:
    """One dataset's index: where it is and what it has to be of."""

    dataset: str
    copy: Copy
    folder: Path

    def view(self) -> View:
        """The index as it is now, without locking it. Raises Unusable, ConfigError."""
        disk = Disk(self.folder, self.copy.rest_key)
        for _ in range(READS):
            try:
                return read_view(disk, self.copy.digester, identity_of(self.copy))
            except FileNotFoundError as error:
                lost = Path(str(error.filename or error)).name
        raise Unusable(f"its file {lost} is gone")


def places(config: AgentConfig, datasets: Sequence[str]) -> list[Place]:
    """The indexes of these datasets, of all that have one where none is named. Raises ConfigError."""
    copies = copies_of(config)
    for name in datasets:
        if name not in copies:
            raise ConfigError(f"{config.file}: this agent has no dataset '{name}'", next_step=near(name, copies))
        if name not in config.refresh:
            raise ConfigError(
                f"{config.file}: dataset '{name}' keeps no index",
                next_step=near(name, config.refresh) or f"add [refresh.{name}] to the agent's file",
            )
    for name in datasets or config.refresh:
        if name not in copies:
            raise ConfigError(f"{config.file}: refresh.{name}: no dataset '{name}' in region {config.region}")
    return [Place(name, copies[name], index_folder(config.spool, name)) for name in datasets or config.refresh]


def status(place: Place) -> dict[str, Any]:
    """What an index is: a document for people and programs."""
    said: dict[str, Any] = {"dataset": place.dataset, "folder": str(place.folder), "in_use": is_locked(place.folder)}
    try:
        view = place.view()
    except SourceError as why:  # none, a damaged one, or one under another key
        return {**said, "state": "none", "reason": why.message}
    state = view.state
    checked = [shard.checked_at for shard in state.scanned]
    return {
        **said,
        "state": "in doubt" if state.faults else "ready",
        "rows": state.rows,
        "shards": len(state.scanned),
        "runs": len(view.runs),
        "change_runs": len(state.changes),
        "changes": sum(held.run.rows for held in state.changes),
        "bytes": sum(run.bytes_on_disk for run in view.runs.values()),
        "position": state.reached.position.text,
        "age_s": round(max(0.0, time.time() - state.as_of), 3),
        "scanned_s": round(max(0.0, time.time() - state.built_at), 3),
        "checked_s": round(max(0.0, time.time() - min(checked)), 3) if checked else None,
        "duplicate_keys": state.duplicates,
        "dead_letters": sum(state.dead.values()) + sum(sum(s.keyless.values()) for s in state.scanned),
        "format": state.identity.format,
        "generation": state.generation,
        "encrypted": place.copy.rest_key is not None,
        "faults": [{"place": fault.place, "reason": fault.reason} for fault in state.faults],
        "notes": list(state.notes),
    }


def verify(place: Place) -> dict[str, Any]:
    """Read every run and count everything anew; what is found is remembered in the index where nobody has it open."""
    try:
        view = place.view()
    except SourceError as why:  # none, a damaged one, or one under another key
        return {"dataset": place.dataset, "ok": False, "runs": 0, "rows": 0, "faults": [_fault("", why.message)]}
    faults = list(_damaged(view))
    if not faults:
        anew = recount(view.layers, view.digester, ruled=view.state.identity.ruled)
        if differs := anew.differs(view.state):
            faults.append(_fault("sums", differs))
    if faults and not is_locked(place.folder):
        with _opened(place) as index:
            for fault in faults:
                index.doubt(fault["place"], fault["reason"])
    known = [_fault(fault.place, fault.reason) for fault in view.state.faults]
    found = {"ok": not faults and not known, "runs": len(view.runs), "rows": view.state.rows}
    return {"dataset": place.dataset, **found, "faults": [*faults, *known]}


def rebuild(config: AgentConfig, dataset: str, progress: Callable[[Progress], None]) -> dict[str, Any]:
    """Scan the dataset's table and make that the index. Raises ConfigError, also while an agent has it; SourceError."""
    began = time.monotonic()
    copies = copies_of(config)
    store = LetterStore(config.spool / FILE, config.region)
    with warm_index(config, copies, dataset) as index:
        letters = SweepLetters(store, copies[dataset].profile, copies[dataset].keys, "rebuild")
        built = index.rebuilt(executor_of(config), progress, letters)
    return {
        "dataset": dataset,
        "rows": built.index.sums.root.count,
        "shards": built.shards,
        "seconds": round(time.monotonic() - began, 3),
        "notes": list(built.notes),
    }


def _damaged(view: View) -> Iterator[dict[str, str]]:
    names = {shard.run.file: shard.name for shard in view.state.scanned if shard.run is not None}
    for file, run in view.runs.items():
        try:
            run.verify()
        except SourceError as error:
            yield _fault(names.get(file, "changed rows"), f"{file}: {error.message}")


def _opened(place: Place) -> DurableIndex:
    return DurableIndex.open(
        place.folder, identity_of(place.copy), key=place.copy.rest_key, digester=place.copy.digester
    )


def _fault(place: str, reason: str) -> dict[str, str]:
    return {"place": place, "reason": reason}
