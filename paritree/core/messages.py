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

from paritree.core.deadletters import Letter, LetterAction
from paritree.core.header import Header as Header
from paritree.core.looktable import LookTable, Picked
from paritree.core.sketch import PROBE_CELL_BYTES, PROBE_CELLS, TABLES, Probe

U64Array = NDArray[np.uint64]
U32Array = NDArray[np.uint32]
PROTOCOL_VERSION = 3


class ByteClass(StrEnum):
    """The classes in which every byte on the stream is counted (DESIGN.md section 15)."""

    CONTROL = "control"
    NODES = "nodes"
    SKETCHES = "sketches"
    LISTS = "lists"
    DETAILS = "details"
    REVEALED = "revealed"


@dataclass(frozen=True, slots=True)
class DatasetOffer:
    """A dataset that an agent serves."""

    dataset: str
    profile_id: bytes
    canonical_version: int
    key_id: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message on a stream. ``instance`` is new with every start of the agent process."""

    region: str
    agent: str
    instance: str
    datasets: tuple[DatasetOffer, ...]
    protocol: int = PROTOCOL_VERSION


# --- requests -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """Scan the dataset (or use its index) and answer :class:`Ready`; with a ``scope``, only the rows of ``bucket``."""

    dataset: str
    profile_id: bytes
    canonical_version: int
    scope: str = ""
    bucket: bytes = b""


@dataclass(frozen=True, slots=True)
class AskChildren:
    """Σr of every descendant at depth ``to_bits`` of each node ``prefixes`` (u64) at depth ``bits``."""

    bits: int
    to_bits: int
    prefixes: U64Array


@dataclass(frozen=True, slots=True)
class AskLists:
    """(k, r, r′) of every row below each node ``prefixes`` (u64, ascending) at depth ``bits``."""

    bits: int
    prefixes: U64Array


@dataclass(frozen=True, slots=True)
class AskSketch:
    """The sketch, ``cells`` a table and ``salt`` (u64), of all rows below the nodes ``prefixes`` (u64, ascending)."""

    cells: int
    salt: int
    bits: int
    prefixes: U64Array


@dataclass(frozen=True, slots=True)
class AskDetail:
    """Look at keys now: ``ks`` (u64) name keys by the first 8 bytes of the key digest.

    ``key_digests`` are full digests (16 bytes each) that other regions hold under those ``ks``, so that a region
    which lacks the key can look for it. ``sealed`` maps a key digest to the key as sealed by a region that holds it
    (AEAD under a key that only agents have). ``columns``: send column digests too, those that ``picked`` marks, of
    the first ``sampled`` ks where that is not 0. ``versions``: send versions too. ``halves``: of a row that is read as
    it is indexed, r′ is enough.
    """

    ks: U64Array
    key_digests: tuple[bytes, ...] = ()
    sealed: Mapping[bytes, bytes] = field(default_factory=dict)
    columns: bool = False
    seal: bool = False
    picked: Picked | None = None
    sampled: int = 0
    versions: bool = False
    halves: bool = False


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Look again at keys of an answer that the region remembers under ``memory`` (16 bytes).

    An answer's *entries* are its key digests and the ks under which the region held nothing, as bytes (big-endian),
    ascending. ``kept`` marks the entries to look at, ``columned`` those of them whose column digests to send, as
    ``picked`` says. Without ``read`` nothing is read: the column digests are those of the remembered rows.
    """

    memory: bytes
    kept: bytes
    columned: bytes = b""
    picked: Picked | None = None
    read: bool = True


@dataclass(frozen=True, slots=True)
class AskReveal:
    """Clear keys, please, where the region's policy grants them."""

    key_digests: tuple[bytes, ...]
    purpose: str


@dataclass(frozen=True, slots=True)
class AskLetters:
    """Dead letters of a dataset ("": unreadable messages): list them, try them again, or discard them.

    ``ids`` (): all of the dataset. ``reason`` and ``operator`` say why and by whom, for the logs on both sides.
    """

    dataset: str
    action: LetterAction
    ids: tuple[str, ...] = ()
    reason: str = ""
    operator: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """The sweep is over: release what it held. ``keep``: it rests; stop its work, but keep what was scanned."""

    keep: bool = False


RequestBody = Begin | AskChildren | AskLists | AskSketch | AskDetail | AskAgain | AskReveal | AskLetters | End


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
    ``disclosure`` is what the region's policy lets leave: "nothing", "tokens" or "keys".
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


@dataclass(frozen=True, slots=True)
class Children:
    """Σr (u64), the descendants of each asked node in order: shape (nodes × 2^(to_bits - bits),), part by part."""

    header: Header
    sums: U64Array


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

    ``indexed`` and ``fresh`` are row digests (16 bytes each, sorted; several for a duplicate key, none when absent).
    ``dead`` is the reason why the row could not be canonicalised, or "". ``columns`` are the 8-byte column digests of
    the fresh row in the order of the profile's row columns, when asked for and when there is exactly one fresh row;
    ``shifted``, sent with them, those of its cells on the shifted grid, for the columns that have a tolerance alone.
    ``version`` is microseconds since 1970 of the newest version seen, or None. ``same``: the region says that all of
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


ReplyBody = Progress | Ready | Children | Sketched | Lists | Details | Revealed | Letters | Refusal | Ended


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
        case AskChildren() | Children() | Ready():
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
