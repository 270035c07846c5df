"""What the coordinator asks of a region, as plain values: the bodies of :class:`~paritree.core.messages.Request`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from paritree.core.deadletters import LetterAction
from paritree.core.looktable import Picked

U64Array = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old an index may be that a region answers from.

    ``max_age_s`` None: as the agent's file says. ``rescan``: an older one that cannot be refreshed is scanned anew,
    else it is used as it is, and its region is unknown.
    """

    max_age_s: float | None = None
    rescan: bool = True


ANY_AGE = Freshness()


@dataclass(frozen=True, slots=True)
class Begin:
    """Scan the dataset (or use its index) and answer :class:`Ready`; with a ``scope``, only the rows of ``bucket``."""

    dataset: str
    profile_id: bytes
    canonical_version: int
    scope: str = ""
    bucket: bytes = b""
    freshness: Freshness = ANY_AGE


@dataclass(frozen=True, slots=True)
class AskChildren:
    """Σr of every descendant at depth ``to_bits`` of each node ``prefixes`` (u64) at depth ``bits``.

    ``counts``: and how many rows it has.
    """

    bits: int
    to_bits: int
    prefixes: U64Array
    counts: bool = False


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
class AskKeep:
    """Write the keys that are held below a node to a file in the region; only its name is told."""

    bits: int
    prefix: int


@dataclass(frozen=True, slots=True)
class AskRoot:
    """The root of the dataset's kept index, at most ``max_age_s`` seconds old, without a scan; it is of no sweep."""

    dataset: str
    profile_id: bytes
    canonical_version: int
    max_age_s: float


@dataclass(frozen=True, slots=True)
class End:
    """The sweep is over: release what it held. ``keep``: it rests; stop its work, but keep what was scanned."""

    keep: bool = False


AskOfSweep = AskChildren | AskLists | AskSketch | AskDetail | AskAgain | AskReveal | AskKeep
RequestBody = Begin | AskOfSweep | AskLetters | AskRoot | End
