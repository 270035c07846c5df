"""Answers about keys: a region puts its looks into columns, the coordinator takes them out again. Pure.

Both sides name what an answer is about alike: by key digests (16 bytes), and by k (8 bytes, big-endian) where the
region has nothing under it. Those names are the answer's *entries*, by which it can be asked about again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from paritree.core import limits
from paritree.core.copies import rows_in
from paritree.core.locating import located
from paritree.core.looktable import HALF_BYTES, NO_VERSION, ROW_BYTES, LookTable, Picked, cut, marked, packed
from paritree.core.messages import AskDetail, Details, Look

K_BYTES: Final = 8
SUM_BYTES: Final = 16
"""Length to which the sum of several column digests is filled up, so that it is never taken for one of them."""
_NAME_BYTES: Final = 48
"""What a plain row takes beside its column digests, at most."""
_LOOK_BYTES: Final = 72


class Misfit(Exception):
    """An answer that is not about what was asked; the text says how."""


def k_name(k: int) -> bytes:
    return k.to_bytes(K_BYTES, "big")


def names_of(ask: AskDetail) -> tuple[bytes, ...]:
    """What an answer to that request is about, in its order."""
    ks = tuple(map(k_name, ask.ks.tolist()))
    under = set(ks)
    return ks + tuple(digest for digest in ask.key_digests if digest[:K_BYTES] not in under)


def entries_of(names: Iterable[bytes], looks: Iterable[Look]) -> tuple[bytes, ...]:
    """The entries of an answer about those names, ascending."""
    digests = {look.key_digest for look in looks}
    held = {digest[:K_BYTES] for digest in digests}
    return tuple(sorted(digests.union(name for name in names if name not in held)))


# --- in the region --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Telling:
    """An answer to be cut into parts: the names in the order in which they were asked for, and the looks at them.

    ``same`` are names whose look is the remembered one, ``columned`` those of which column digests are sent.
    """

    names: Sequence[bytes]
    looks: Mapping[bytes, Look]
    same: frozenset[bytes] = frozenset()
    columned: frozenset[bytes] = frozenset()
    picked: Picked | None = None
    halves: bool = False
    versions: bool = False
    memory: bytes = b""
    under: dict[bytes, list[Look]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        under: dict[bytes, list[Look]] = {}
        for look in self.looks.values():
            under.setdefault(look.key_digest[:K_BYTES], []).append(look)
        object.__setattr__(self, "under", under)

    def of(self, name: bytes) -> list[Look]:
        """The looks under a name."""
        if len(name) == K_BYTES:
            return self.under.get(name, [])
        return [self.looks[name]] if name in self.looks else []

    def is_plain(self, name: bytes) -> bool:
        """Whether there is one row under a k, read as it is indexed, about which nothing else is to be said."""
        found = self.of(name) if len(name) == K_BYTES else []
        if len(found) != 1 or name in self.same:
            return False
        [look] = found
        one = len(look.indexed) == 1 and len(look.indexed[0]) == ROW_BYTES
        return one and look.fresh == look.indexed and not (look.dead or look.sealed or look.merged)


def tables(telling: Telling) -> Iterator[tuple[LookTable, list[Look]]]:
    """The parts of an answer, each small enough for one message: a table, and the looks that do not fit into it."""
    slices: list[tuple[list[bytes], list[Look]]] = [([], [])]
    size, most = 0, min(limits.BULK_BYTES_MAX, limits.PART_BYTES_MAX)
    for name in telling.names:
        plain = telling.is_plain(name)
        apart = [] if plain or name in telling.same else telling.of(name)
        name_bytes = sum(map(look_bytes, apart)) + 1
        if name in telling.columned or plain:
            name_bytes += _NAME_BYTES + sum(8 * (len(look.columns) + len(look.shifted)) for look in telling.of(name))
        full = size + name_bytes > most or len(slices[-1][0]) >= limits.KEYS_A_DETAIL_MAX
        if slices[-1][0] and full:
            slices.append(([], []))
            size = 0
        slices[-1][0].append(name)
        slices[-1][1].extend(apart)
        size += name_bytes
    for names, apart in slices:
        yield _table(telling, names), apart


def _table(telling: Telling, names: Sequence[bytes]) -> LookTable:
    plain = [telling.of(name)[0] for name in names if telling.is_plain(name)]
    versions = [NO_VERSION if look.version is None else look.version for look in plain]
    sent: list[bytes] = []
    fields = 0
    columned = []
    for name in names:
        told = _columns(telling, name)
        columned.append(told is not None)
        if told is not None:
            sent += told
            fields = len(told)
    return LookTable(
        names=len(names),
        plain=_bitmap(telling.is_plain(name) for name in names),
        tails=b"".join(look.key_digest[K_BYTES:] for look in plain),
        digests=b"".join(look.fresh[0][HALF_BYTES if telling.halves else 0 :] for look in plain),
        halves=telling.halves,
        versions=np.array(versions, "<i8").tobytes() if telling.versions else b"",
        whole=_bitmap(telling.is_plain(name) and telling.of(name)[0].whole for name in names)
        if telling.versions
        else b"",
        same=_bitmap(name in telling.same for name in names),
        columned=_bitmap(columned),
        columns=b"".join(sent),
        fields=fields,
        width=telling.picked.width if telling.picked else 8,
    )


def _columns(telling: Telling, name: bytes) -> list[bytes] | None:
    """The column digests that are sent in the table; None where none are: not asked for, or not one row."""
    if name not in telling.columned or not (telling.is_plain(name) or name in telling.same):
        return None
    found = telling.of(name)
    if len(found) != 1 or not found[0].columns:
        return None
    digests = [*found[0].columns, *found[0].shifted]
    return cut(digests, telling.picked) if telling.picked else digests


def _bitmap(flags: Iterable[bool]) -> bytes:
    bitmap = packed(flags)
    return bitmap if any(bitmap) else b""


def look_bytes(look: Look) -> int:
    """About what a look takes in a message of its own."""
    digests = 24 * (len(look.indexed) + len(look.fresh)) + 8 * (len(look.columns) + len(look.shifted))
    return _LOOK_BYTES + digests + len(look.sealed) + 4 * len(look.dead)


def sendable(look: Look) -> Look:
    """The look, or what of it goes into one message.

    A sealed key only saves the other regions a scan, so it may be left out. A key with more rows than a message has
    room for is a dead letter: its rows are not compared, and it is reported as unknown.
    """
    if look_bytes(look) > limits.PART_BYTES_MAX:
        look = replace(look, sealed=b"")
    if look_bytes(look) > limits.PART_BYTES_MAX:
        rows = max(rows_in(look.indexed), rows_in(look.fresh))
        return Look(look.key_digest, dead=f"the key has {rows} rows, more than one message has room for")
    return look


# --- at the coordinator ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """How many digests a row has: of its columns, and on the shifted grid."""

    columns: int = 0
    shifted: int = 0

    def spread(self, sent: Sequence[bytes], picked: Picked | None) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Columns and shifted from the digests as they were sent; b"" where none was. Raises Misfit.

        Digests that were added up stand in each of their columns, filled up to SUM_BYTES or LOCATED_BYTES.
        """
        count = self.columns + self.shifted
        alone = np.ones(count, bool) if picked is None else marked(picked.alone, count)
        together = np.zeros(count, bool) if picked is None else marked(picked.together, count)
        sums = 0 if together is None or not together.any() else 2 if picked and picked.located else 1
        if alone is None or together is None or len(sent) != int(alone.sum()) + sums:
            raise Misfit("its column digests are not those that were asked for")
        digests = [b""] * count
        for position, digest in zip(np.flatnonzero(alone).tolist(), sent, strict=False):
            digests[position] = digest
        for position in np.flatnonzero(together).tolist():
            digests[position] = located(sent[-2:]) if sums == 2 else sent[-1].ljust(SUM_BYTES, b"\0")
        return tuple(digests[: self.columns]), tuple(digests[self.columns :])


def looks_of(
    names: Sequence[bytes], parts: Sequence[Details], row: Row, picked: Picked | None, *, halves: bool = False
) -> dict[bytes, list[Look]]:
    """The looks under each name; a name that the region says nothing about has none. Raises Misfit.

    Of a row whose r was left out (``halves``) the digests are r′ alone, 8 bytes. A look that is ``same`` says nothing
    but its columns; its key digest is the name, which may be a k.
    """
    found: dict[bytes, list[Look]] = {name: [] for name in names}
    at = 0
    for part in parts:
        if part.table is not None:
            if part.table.halves and not halves:
                raise Misfit("it leaves out half of the row digests")
            window = names[at : at + part.table.names]
            if len(window) != part.table.names:
                raise Misfit("it is about more keys than were asked for")
            at += len(window)
            for name, look in _taken(window, part.table, row, picked):
                found[name].append(look)
        for look in part.looks:
            name = look.key_digest if look.key_digest in found else look.key_digest[:K_BYTES]
            if name not in found:
                raise Misfit("it showed keys that it was not asked for")
            found[name].append(_whole(look, row, picked))
    if at != len(names):
        raise Misfit("it is not about every key that was asked for")
    return found


def _taken(names: Sequence[bytes], table: LookTable, row: Row, picked: Picked | None) -> Iterator[tuple[bytes, Look]]:
    flags = [marked(bitmap, table.names) for bitmap in (table.plain, table.same, table.columned, table.whole)]
    plain, same, columned, whole = ([] if each is None else each.tolist() for each in flags)
    digest_bytes = HALF_BYTES if table.halves else ROW_BYTES
    row_bytes = table.fields * table.width
    rows = told = 0
    versions = np.frombuffer(table.versions, "<i8").tolist()
    for i, name in enumerate(names):
        if not plain[i] and not same[i]:
            continue
        columns: tuple[bytes, ...] = ()
        shifted: tuple[bytes, ...] = ()
        if columned[i]:
            sent = table.columns[told * row_bytes : (told + 1) * row_bytes]
            told += 1
            digests = [sent[low : low + table.width] for low in range(0, row_bytes, table.width)]
            columns, shifted = row.spread(digests, picked)
        if same[i]:
            yield name, Look(name, columns=columns, shifted=shifted, same=True)
            continue
        digest = table.digests[rows * digest_bytes : (rows + 1) * digest_bytes]
        version = versions[rows] if versions and versions[rows] != NO_VERSION else None
        key_digest = name[:K_BYTES] + table.tails[rows * K_BYTES : (rows + 1) * K_BYTES]
        rows += 1
        yield (
            name,
            Look(
                key_digest,
                (digest,),
                (digest,),
                columns=columns,
                version=version,
                shifted=shifted,
                whole=whole[i] and version is not None,
            ),
        )


def _whole(look: Look, row: Row, picked: Picked | None) -> Look:
    """A look of its own, with its column digests as if they had been picked."""
    if not look.columns:
        return look
    if len(look.columns) != row.columns or len(look.shifted) != row.shifted:
        raise Misfit("its column digests are not those of the profile's columns")
    digests = [*look.columns, *look.shifted]
    sent = cut(digests, picked) if picked else digests
    if sent is None:
        raise Misfit("its column digests are not those that were asked for")
    columns, shifted = row.spread(sent, picked)
    return replace(look, columns=columns, shifted=shifted)
