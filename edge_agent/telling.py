"""The answers about keys: what is looked at for a request, what of it is told, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edge_agent.build import Copy
from edge_agent.executors import Executor
from edge_agent.index.index import Index
from edge_agent.looking import Located, Wanted, look
from edge_agent.recall import Answer, Recall
from paritree.core.errors import PeerError
from paritree.core.looktable import Picked, marked
from paritree.core.messages import AskAgain, AskDetail, Details, Header, Look
from paritree.core.profile import Profile
from paritree.core.shown import K_BYTES, Telling, names_of, sendable, tables


@dataclass(frozen=True, slots=True)
class Teller:
    """Answers about one sweep's keys. ``located`` and ``recall`` last as long as the sweep."""

    copy: Copy
    index: Index
    executor: Callable[[], Executor]
    located: Located = field(default_factory=Located)
    recall: Recall = field(default_factory=Recall)

    def answer(self, ask: AskDetail | AskAgain) -> Telling | None:
        """What is to be told; None where the agent does not remember what it is asked about again.

        Raises SourceError, and PeerError for a request that cannot be answered.
        """
        _check_picked(self.copy.profile, ask.picked)
        if isinstance(ask, AskDetail):
            return self._told(ask)
        before = self.recall.answer(ask.memory)
        return None if before is None else self._told_again(ask, before)

    def _look(self, wanted: Wanted) -> dict[bytes, Look]:
        with self.executor() as executor:
            looks = look(self.copy, self.index, self.located, executor, wanted)
        return {seen.key_digest: sendable(seen) for seen in looks}

    def _told(self, ask: AskDetail) -> Telling:
        looks = self._look(Wanted(ask.ks.tolist(), ask.key_digests, ask.sealed, ask.seal))
        names = names_of(ask)
        memory = self.recall.remember(names, looks.values())
        sampled = set(names[: ask.sampled] if ask.sampled else names) if ask.columns else set()
        told = {d: seen if d in sampled or d[:K_BYTES] in sampled else _bare(seen) for d, seen in looks.items()}
        return Telling(
            names,
            told,
            columned=frozenset(sampled),
            picked=ask.picked,
            halves=ask.halves,
            versions=ask.versions,
            memory=memory,
        )

    def _told_again(self, ask: AskAgain, before: Answer) -> Telling:
        kept, columned = (_chosen(before.entries, bitmap) for bitmap in (ask.kept, ask.columned))
        if not set(columned) <= set(kept):
            raise PeerError("column digests were asked for of keys that were not to be looked at")
        if not ask.read:
            told = {name: before.looks[name].look(name) for name in kept if name in before.looks}
            return Telling(kept, told, frozenset(kept), frozenset(columned), ask.picked, memory=ask.memory)
        looks = self._look(Wanted(names=kept))
        memory = self.recall.remember((), looks.values(), before)
        same = {digest for digest, seen in looks.items() if digest in before.looks and before.looks[digest].holds(seen)}
        held = {digest[:K_BYTES] for digest in looks if digest not in before.looks}
        same.update(name for name in kept if len(name) == K_BYTES and name not in held)
        told = {d: seen if d in columned else _bare(seen) for d, seen in looks.items()}
        return Telling(kept, told, frozenset(same), frozenset(columned), ask.picked, memory=memory)


def detail_parts(header: Header, telling: Telling | None) -> Iterator[Details]:
    """An answer in messages; the last one has the token under which it is remembered."""
    if telling is None:
        yield Details(header, (), forgotten=True)
        return
    sliced = list(tables(telling))
    for number, (table, looks) in enumerate(sliced, 1):
        yield Details(header, tuple(looks), table, telling.memory if number == len(sliced) else b"")


def _bare(seen: Look) -> Look:
    """Without the column digests, which were not asked for."""
    return replace(seen, columns=(), shifted=())


def _chosen(entries: Sequence[bytes], bitmap: bytes) -> list[bytes]:
    flags = marked(bitmap, len(entries))
    if flags is None:
        raise PeerError("a request marks other keys than those of the answer that it names")
    return [entries[i] for i in np.flatnonzero(flags).tolist()]


def _check_picked(profile: Profile, picked: Picked | None) -> None:
    digests = len(profile.row_columns) + len(profile.tolerant_columns)
    if picked and (marked(picked.alone, digests) is None or marked(picked.together, digests) is None):
        raise PeerError("a request picks other columns than those of the profile")
