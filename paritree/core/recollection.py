"""What the coordinator knows of a region's memory: how to ask about keys again by naming an earlier answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from paritree.core.looktable import Picked, packed
from paritree.core.messages import AskAgain, AskDetail, Look
from paritree.core.shown import K_BYTES, entries_of


@dataclass(frozen=True, slots=True)
class LookAsk:
    """Look at those keys now. ``columns`` are those of them whose column digests are wanted, as ``picked`` says.

    ``sealed`` keys are for a region that lacks them. Without ``read`` the column digests of the rows as last seen will
    do.
    """

    key_digests: tuple[bytes, ...]
    sealed: Mapping[bytes, bytes] = field(default_factory=dict)
    columns: frozenset[bytes] = frozenset()
    picked: Picked | None = None
    read: bool = True

    def of(self, key_digests: Sequence[bytes]) -> LookAsk:
        """The same of some of the keys."""
        return replace(self, key_digests=tuple(key_digests))


@dataclass(frozen=True, slots=True)
class Asking:
    """One request of a look, the names that its answer is about, and the keys that are meant by them."""

    request: AskAgain | AskDetail
    names: tuple[bytes, ...]
    key_digests: tuple[bytes, ...]


class Recollection:
    """The answers that one region remembers, by token, and in which of them each key is."""

    def __init__(self) -> None:
        self._entries: dict[bytes, tuple[bytes, ...]] = {}
        self._told_in: dict[bytes, bytes] = {}

    def note(self, memory: bytes, names: Iterable[bytes], looks: Iterable[Look]) -> None:
        """The region remembers an answer about those names under that token."""
        if memory:
            self._keep(memory, entries_of(names, (look for look in looks if not look.same)))

    def note_again(self, asked: AskAgain, memory: bytes, looks: Iterable[Look]) -> None:
        """The region remembers an answer about what it was asked again, and all else of the answer before."""
        if memory and memory != asked.memory:
            self.note(memory, self._entries[asked.memory], looks)

    def _keep(self, memory: bytes, entries: tuple[bytes, ...]) -> None:
        self._entries[memory] = entries
        self._told_in.update(dict.fromkeys(entries, memory))

    def forget(self, memory: bytes) -> None:
        """The region does not remember that answer any more."""
        self._entries.pop(memory, None)
        self._told_in = {name: told for name, told in self._told_in.items() if told != memory}

    def asking(self, ask: LookAsk) -> list[Asking]:
        """The requests for a look: one for each answer that the keys are in, and one in full for the other keys."""
        by_memory: dict[bytes, dict[bytes, list[bytes]]] = {}
        in_full: list[bytes] = []
        for key_digest in ask.key_digests:
            name = self._name(key_digest, sealed=key_digest in ask.sealed)
            if name is None:
                in_full.append(key_digest)
            else:
                by_memory.setdefault(self._told_in[name], {}).setdefault(name, []).append(key_digest)
        askings = [self._again(memory, meant, ask) for memory, meant in by_memory.items()]
        for columns in (True, False):
            some = tuple(digest for digest in in_full if (digest in ask.columns) is columns)
            if some:
                askings.append(_in_full(some, ask, columns=columns))
        return askings

    def _name(self, key_digest: bytes, *, sealed: bool) -> bytes | None:
        """The entry that stands for a key: itself, or its k where the region had nothing under it."""
        if key_digest in self._told_in:
            return key_digest
        k = key_digest[:K_BYTES]
        return k if k in self._told_in and not sealed else None

    def _again(self, memory: bytes, meant: Mapping[bytes, Sequence[bytes]], ask: LookAsk) -> Asking:
        entries = self._entries[memory]
        kept = [name in meant for name in entries]
        columned = [name in meant and not ask.columns.isdisjoint(meant[name]) for name in entries]
        request = AskAgain(
            memory,
            packed(kept),
            packed(columned) if any(columned) else b"",
            ask.picked if any(columned) else None,
            ask.read,
        )
        names = tuple(name for name, is_kept in zip(entries, kept, strict=True) if is_kept)
        return Asking(request, names, tuple(digest for name in names for digest in meant[name]))


def _in_full(key_digests: tuple[bytes, ...], ask: LookAsk, *, columns: bool) -> Asking:
    sealed = {digest: ask.sealed[digest] for digest in key_digests if digest in ask.sealed}
    picked = ask.picked if columns else None
    request = AskDetail(np.zeros(0, np.uint64), key_digests, sealed, columns=columns, picked=picked)
    return Asking(request, key_digests, key_digests)


def told_of(asking: Asking, found: Mapping[bytes, Sequence[Look]]) -> tuple[list[Look], list[bytes]]:
    """The looks at the keys that were meant, and the keys that the answer says nothing about.

    A k that is still the same is a key that is still not there.
    """
    told: list[Look] = []
    silent: list[bytes] = []
    for key_digest in asking.key_digests:
        name = key_digest if key_digest in found else key_digest[:K_BYTES]
        looks = found.get(name, ())
        own = [look for look in looks if look.key_digest == key_digest]
        if own:
            told += own
        elif len(name) == K_BYTES and looks:
            told.append(Look(key_digest))
        else:
            silent.append(key_digest)
    return told, silent
