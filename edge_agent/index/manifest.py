"""The manifest: the one file that says what an index is. Renaming it is the moment of every change.

    manifest    magic, BLAKE2b-128 of the rest, MessagePack of everything but the sums
    NNN.sums    the same frame around fixed-size arrays: leaf sums of depth 12 and the probe

Both are written beside the old ones under other names. What the manifest in place does not name is garbage.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from msgpack import packb, unpackb

from edge_agent.connectors.contract import Position, Shard
from edge_agent.index.changes import Reached
from edge_agent.index.disk import Disk
from edge_agent.index.state import Fault, HeldChanges, HeldRun, HeldShard, Identity, State
from paritree.core.errors import InvariantBroken, SourceError
from paritree.core.leaves import LeafSums, NodeSum
from paritree.core.limits import LEVEL_BITS_MAX
from paritree.core.sketch import PROBE_CELLS, TABLES, WORDS, Probe, Sketch

MANIFEST: Final = "manifest"
MAGIC: Final = b"PTMANI\x00\x01"
GARBAGE: Final = re.compile(r"(\d{6,}(-\w+)?\.(run|sums|section|partial)|manifest\.partial)\Z")
"""The files that an index may remove: only what it writes."""
_LEAVES: Final = 1 << LEVEL_BITS_MAX
_SKETCH_WORDS: Final = TABLES * PROBE_CELLS * WORDS
_SUMS_BYTES: Final = 8 * (3 * _LEAVES + _SKETCH_WORDS) + 2 * TABLES * PROBE_CELLS * 2


class Unusable(SourceError):
    """There is no index here that can be used: none at all, a damaged one, or one of another format."""


def store(disk: Disk, state: State) -> None:
    """Make ``state`` the index: its runs and sums are on the disk. The folder is to be synced once more after this."""
    disk.sync_folder()  # the files that the new manifest names are there before it is
    with disk.create(MANIFEST) as output:
        output.write(_framed(packb(_packed(state))))
        output.publish()


def store_sums(disk: Disk, name: str, sums: LeafSums, probe: Probe) -> bytes:
    """Write the sums' file; its checksum."""
    if sums.bits != LEVEL_BITS_MAX or probe.sketch.sums.shape != (TABLES, PROBE_CELLS, WORDS):
        raise InvariantBroken("an index keeps its sums and its probe in one size only")
    words = np.concatenate([sums.counts, sums.r, sums.r2, probe.sketch.sums.reshape(-1)]).astype("<u8")
    content = _framed(words.tobytes() + probe.pulls.astype("<i2").tobytes())
    with disk.create(name) as output:
        output.write(content)
        output.publish()
    return content[len(MAGIC) : len(MAGIC) + 16]


def load(disk: Disk) -> State:
    """The index as its manifest says. Raises Unusable; FileNotFoundError where it changes under our eyes."""
    if not (disk.folder / MANIFEST).exists():
        raise Unusable("there is no index yet")
    packed = _unframed(disk, MANIFEST)
    try:
        values = unpackb(packed, strict_map_key=False)
        identity = Identity(**values["identity"])
    except (ValueError, TypeError, KeyError) as error:
        raise Unusable(f"its manifest has another format ({type(error).__name__})") from error
    if identity.format != Identity.__dataclass_fields__["format"].default:
        raise Unusable(f"it has format {identity.format}, which this version does not read")
    try:
        sums, probe, checksum = _sums(disk, values["sums_file"])
        if checksum != values["sums_checksum"]:
            raise Unusable("its sums are not those of its manifest")
        return _state(values, identity, sums, probe)
    except (ValueError, TypeError, KeyError) as error:
        raise Unusable(f"its manifest cannot be read ({type(error).__name__})") from error


def collect_garbage(disk: Disk, state: State | None) -> list[str]:
    """Remove what no manifest names: it was left by a crash, or by an index that is gone."""
    needed = set() if state is None else {*state.files, MANIFEST}
    left = sorted(path.name for path in disk.folder.iterdir() if GARBAGE.match(path.name) and path.name not in needed)
    for name in left:
        disk.remove(name)
    return left


def _framed(content: bytes) -> bytes:
    return MAGIC + hashlib.blake2b(content, digest_size=16).digest() + content


def _unframed(disk: Disk, name: str) -> bytes:
    blob = disk.open(name)
    framed = blob.read(0, blob.size).tobytes()
    content = framed[len(MAGIC) + 16 :]
    if framed[: len(MAGIC)] != MAGIC:
        raise Unusable(f"its {name} has another format")
    if hashlib.blake2b(content, digest_size=16).digest() != framed[len(MAGIC) : len(MAGIC) + 16]:
        raise Unusable(f"its {name} does not match its checksum")
    return content


def _sums(disk: Disk, name: str) -> tuple[LeafSums, Probe, bytes]:
    content = _unframed(disk, name)
    if len(content) != _SUMS_BYTES:
        raise Unusable(f"its {name} has another size")
    words = np.frombuffer(content, "<u8", 3 * _LEAVES + _SKETCH_WORDS).astype(np.uint64)
    pulls = np.frombuffer(content, "<i2", offset=8 * len(words)).astype(np.int16).reshape(TABLES, PROBE_CELLS, 2)
    leaves = words[: 3 * _LEAVES].reshape(3, _LEAVES)
    sketch = Sketch(0, words[3 * _LEAVES :].reshape(TABLES, PROBE_CELLS, WORDS))
    sums = LeafSums(LEVEL_BITS_MAX, *(leaves[i].copy() for i in range(3)))
    return sums, Probe(sketch, pulls), hashlib.blake2b(content, digest_size=16).digest()


def _packed(state: State) -> dict[str, Any]:
    reached = state.reached
    return {
        "identity": {name: getattr(state.identity, name) for name in Identity.__dataclass_fields__},
        "engine": state.engine,
        "reached": [reached.position.text, reached.position.point, reached.cursor, reached.as_of],
        "shards": [_packed_shard(shard) for shard in state.shards.values()],
        "changes": [[held.number, _packed_run(held.run)] for held in state.changes],
        "faults": [[fault.place, fault.reason, fault.at] for fault in state.faults],
        **{name: getattr(state, name) for name in _PLAIN},
        "plan": None if state.plan is None else _kept(state.plan),
    }


_PLAIN: Final = (
    *("sums_file", "sums_checksum", "dead", "duplicates", "notes", "plan", "generation", "built_at", "scan_s"),
    *("next_file", "next_number", "next_shard"),
)


def _packed_shard(held: HeldShard) -> list[Any]:
    shard, total = held.shard, held.sum
    run = None if held.run is None else _packed_run(held.run)
    about = [shard.number, shard.label, _kept(shard.range), shard.rows_estimate, shard.version, shard.content]
    return [
        *(held.id, held.name, about, run),
        *([total.count, total.r, total.r2], held.floor, held.as_of, dict(held.keyless), held.checked_at),
    ]


def _packed_run(run: HeldRun) -> list[Any]:
    return [run.file, run.rows, run.checksum]


def _kept(span: Mapping[str, Any]) -> dict[str, Any]:
    """A shard's range; one that MessagePack does not hold is left out: such a shard is found by a new plan only."""
    try:
        return {str(name): _plain(item) for name, item in span.items()}
    except TypeError:
        return {}


def _plain(value: Any) -> Any:
    """Tuples become lists, which connectors take as well. Raises TypeError."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | float | str | bytes):
        return value
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
        return value
    raise TypeError(type(value).__name__)


def _state(values: dict[str, Any], identity: Identity, sums: LeafSums, probe: Probe) -> State:
    text, point, cursor, as_of = values["reached"]
    plain = {name: values[name] for name in _PLAIN}
    plain["notes"] = tuple(plain["notes"])
    return State(
        identity=identity,
        engine=values["engine"],
        reached=Reached(Position(text, point), cursor, as_of),
        shards={row[0]: _shard(*row) for row in values["shards"]},
        sums=sums,
        probe=probe,
        changes=tuple(HeldChanges(number, HeldRun(*run)) for number, run in values["changes"]),
        faults=tuple(Fault(*fault) for fault in values["faults"]),
        **plain,
    )


def _shard(id_: int, name: str, shard: list[Any], run: list[Any] | None, total: list[int], *rest: Any) -> HeldShard:
    held = None if run is None else HeldRun(*run)
    return HeldShard(id_, name, Shard(*shard), held, NodeSum(*total), *rest)
