"""What agent and coordinator say to each other, as plain values; the protobuf form is made in ``paritree.wire.codec``.

The coordinator asks (:class:`Request`), one region answers with one or more parts (:class:`Reply`); the last part has
``last`` set. Numbers travel as packed little-endian arrays, here numpy arrays. Nothing here can hold a raw key or value
but :class:`Revealed`, which an agent sends only under a grant of its own policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from paritree.core.asks import ANY_AGE as ANY_AGE
from paritree.core.asks import AskAgain as AskAgain
from paritree.core.asks import AskChildren as AskChildren
from paritree.core.asks import AskDetail as AskDetail
from paritree.core.asks import AskKeep as AskKeep
from paritree.core.asks import AskLetters as AskLetters
from paritree.core.asks import AskLists as AskLists
from paritree.core.asks import AskReveal as AskReveal
from paritree.core.asks import AskRoot as AskRoot
from paritree.core.asks import AskSketch as AskSketch
from paritree.core.asks import Begin as Begin
from paritree.core.asks import End as End
from paritree.core.asks import Freshness as Freshness
from paritree.core.asks import RequestBody as RequestBody
from paritree.core.asks import U64Array as U64Array
from paritree.core.deadletters import Letter
from paritree.core.header import Header as Header
from paritree.core.looktable import LookTable
from paritree.core.sketch import PROBE_CELL_BYTES, PROBE_CELLS, TABLES, Probe

U32Array = NDArray[np.uint32]
PROTOCOL_VERSION = 3


class ByteClass(StrEnum):
    """The classes in which every byte on the stream is counted."""

    CONTROL = "control"
    NODES = "nodes"
    SKETCHES = "sketches"
    LISTS = "lists"
    DETAILS = "details"
    REVEALED = "revealed"


@dataclass(frozen=True, slots=True)
class DatasetOffer:
    """A dataset that an agent serves.

    ``tells``: notices say when it changes. ``rooted``: it has an index that is kept, and answers :class:`AskRoot`.
    """

    dataset: str
    profile_id: bytes
    canonical_version: int
    key_id: bytes
    tells: bool = False
    rooted: bool = False


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message on a stream. ``instance`` is new with every start of the agent process."""

    region: str
    agent: str
    instance: str
    datasets: tuple[DatasetOffer, ...]
    protocol: int = PROTOCOL_VERSION


# --- requests: their bodies are in paritree.core.asks --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """One exchange of one sweep. A repeated request (same sweep, same exchange) gets the same answer.

    ``fence`` is the coordinator's fencing token: a lower one than the sweep has had is refused.
    """

    exchange: int
    sweep_id: str
    body: RequestBody
    timeout_s: float
    fence: int = 0


# --- replies --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the scan is; also the sign of life that keeps an exchange from timing out."""

    shards_done: int
    shards_total: int
    rows: int


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Rows that could not be canonicalised: with a readable key, without one, and how many for each reason."""

    keyed: int = 0
    keyless: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.keyed + self.keyless


@dataclass(frozen=True, slots=True)
class Ready:
    """The index is built: the root and the probe of all rows (PROBE_CELLS a table, salt 0).

    ``duplicate_keys`` counts the keys that occur more than once. ``scan_s`` is seconds, ``point`` tells a point from an
    interval position.
    ``disclosure`` is what the region's policy lets leave: "nothing", "tokens" or "keys". ``age_s`` is how long before
    the request the index was proven to be the table; ``faults`` are what was found wrong in it and is not repaired.
    """

    header: Header
    engine: str
    rows: int
    root_r: int
    root_r2: int
    probe: Probe
    point: bool
    scan_s: float
    age_s: float = 0.0
    duplicate_keys: int = 0
    dead: DeadLetters = field(default_factory=DeadLetters)
    disclosure: str = "tokens"
    sealed_keys: bool = False
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def root(self) -> str:
        """Count, Σr and Σr′ in one word."""
        return _root(self.rows, self.root_r, self.root_r2)


@dataclass(frozen=True, slots=True)
class Rooted:
    """The root of an index that is kept. ``doubt``, or "": why it is no proof of what the table holds.

    ``age_s`` and ``point`` are as in :class:`Ready`.
    """

    header: Header
    rows: int
    root_r: int
    root_r2: int
    age_s: float
    point: bool
    doubt: str = ""

    @property
    def root(self) -> str:
        """As that of :class:`Ready`."""
        return _root(self.rows, self.root_r, self.root_r2)


def _root(rows: int, r: int, r2: int) -> str:
    return f"{rows}-{r:016x}{r2:016x}"


@dataclass(frozen=True, slots=True)
class Children:
    """Σr (u64), the descendants of each asked node in order: shape (nodes × 2^(to_bits - bits),), part by part.

    ``counts`` (u64) are their rows, where they were asked for.
    """

    header: Header
    sums: U64Array
    counts: U64Array = field(default_factory=lambda: np.zeros(0, np.uint64))


@dataclass(frozen=True, slots=True)
class Sketched:
    """Words of the asked sketch (u64) in the order table, cell, (S1, S2, S3), part by part."""

    header: Header
    sums: U64Array


@dataclass(frozen=True, slots=True)
class Lists:
    """Rows of the asked nodes, in node order: ``counts`` (u32) rows a node, then k, r, r′ (u64) of each row."""

    header: Header
    counts: U32Array
    k: U64Array
    r: U64Array
    r2: U64Array


@dataclass(frozen=True, slots=True)
class Look:
    """One key in one region, as seen now.

    ``indexed`` and ``fresh`` are row digests (16 bytes each, sorted; several for a duplicate key, many copies folded as
    in ``core.copies``, none when absent).
    ``dead`` is the reason why the row could not be canonicalised, or "". ``columns`` are the 8-byte column digests of
    the fresh row in the order of the profile's row columns, when asked for and when there is exactly one fresh row;
    ``shifted``, sent with them, those of its cells on the shifted grid, for the columns that have a tolerance alone.
    ``version`` is microseconds since 1970 of the newest version seen, or None; ``whole``: two rows of the key with this
    version, in any two regions, would be the same write. ``same``: the region says that all of
    it but the columns is as in its last answer; such a look is never sent as a message of its own. ``merged`` names
    the rules that made one key of several ("name: casefold"); no value.
    """

    key_digest: bytes
    indexed: tuple[bytes, ...] = ()
    fresh: tuple[bytes, ...] = ()
    dead: str = ""
    columns: tuple[bytes, ...] = ()
    version: int | None = None
    sealed: bytes = b""
    shifted: tuple[bytes, ...] = ()
    same: bool = False
    merged: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Details:
    """The looks at the asked keys; a key that the region neither holds nor was given a full digest of is not listed.

    ``table`` has looks in columns, of the next names of the answer; ``looks`` are those that do not fit into columns.
    ``memory``, in the last part, is 16 bytes under which the region remembers the answer, or none. ``forgotten``: the
    region does not remember what it was asked about again.
    """

    header: Header
    looks: tuple[Look, ...]
    table: LookTable | None = None
    memory: bytes = b""
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class Revealed:
    """Clear keys (JSON text of column -> value) by key digest, as far as the policy grants."""

    header: Header
    keys: Mapping[bytes, str]
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """The name of the file that the region wrote, and how many keys are in it."""

    header: Header
    name: str
    keys: int


class RefusalCode(StrEnum):
    """Why an agent does not answer."""

    UNKNOWN_DATASET = "unknown_dataset"
    UNKNOWN_SCOPE = "unknown_scope"
    UNKNOWN_BUCKET = "unknown_bucket"
    PROFILE_DIFFERS = "profile_differs"
    CANONICAL_DIFFERS = "canonical_differs"
    CONFIG = "config"
    SOURCE = "source"
    NO_INDEX = "no_index"
    BUSY = "busy"
    INTERNAL = "internal"
    FENCED = "fenced"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The region does not answer, and why; ends the exchange. ``retryable``: the same request may work later.

    ``retry_after_s``: seconds after which a busy agent wants to be asked again; 0 where it is not busy.
    """

    code: RefusalCode
    message: str
    retryable: bool = False
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Letters:
    """What the region still has of the dead letters that were asked for, part by part.

    ``not_kept`` is how many more were counted and not kept, ``cleared`` are ids that a replay ended, ``unknown`` ids
    that the region does not have; each is in one part only.
    """

    letters: tuple[Letter, ...] = ()
    not_kept: int = 0
    cleared: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """What the sweep held is released."""


Headed = Ready | Rooted | Children | Sketched | Lists | Details | Revealed | Kept
ReplyBody = Progress | Headed | Letters | Refusal | Ended


@dataclass(frozen=True, slots=True)
class Reply:
    """One part of the answer to a request; ``part`` counts from 0, ``last`` ends the exchange."""

    exchange: int
    sweep_id: str
    part: int
    last: bool
    body: ReplyBody


def sketched_bytes(body: RequestBody | ReplyBody) -> int:
    """How many bytes of a message are a sketch, whatever its class: the probe comes together with the root."""
    return TABLES * PROBE_CELLS * PROBE_CELL_BYTES if isinstance(body, Ready) else 0


def byte_class(body: RequestBody | ReplyBody | Hello) -> ByteClass:
    """The class in which a message is counted."""
    match body:
        case AskChildren() | Children() | Ready() | Rooted():
            return ByteClass.NODES
        case AskSketch() | Sketched():
            return ByteClass.SKETCHES
        case AskLists() | Lists():
            return ByteClass.LISTS
        case AskDetail() | AskAgain() | Details():
            return ByteClass.DETAILS
        case AskReveal() | Revealed():
            return ByteClass.REVEALED
        case _:
            return ByteClass.CONTROL
