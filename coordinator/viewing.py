"""Looks at keys of one region: requests of bounded size, and the looks taken out of the answers.

What the region remembers of an earlier answer is asked about by naming that answer; where it has forgotten it, or was
never asked, the keys are named in full.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from coordinator.asking import Exchanges, RegionLost
from coordinator.exchanges import check_headers, detail_chunks
from paritree.core.messages import AskAgain, AskDetail, Details, Header, Look, Progress, ReplyBody, RequestBody
from paritree.core.recollection import Asking, LookAsk, Recollection, told_of
from paritree.core.shown import Misfit, Row, looks_of, names_of

Ask = Callable[[RequestBody], Awaitable[Sequence[ReplyBody]]]
"""Sends one request to the region and returns the parts of its answer, checked to be of this sweep."""


@dataclass(frozen=True, slots=True)
class View:
    """One region's keys as the coordinator was told of them. ``row`` says how many column digests a row has."""

    row: Row
    recollection: Recollection = field(default_factory=Recollection)

    async def looks(
        self,
        exchanges: Exchanges,
        header: Header,
        region: str,
        wanted: AskDetail | LookAsk,
        told: Callable[[Progress], None],
    ) -> list[Look]:
        """The first look or a later one, from the region's link. Raises RegionLost."""

        async def ask(request: RequestBody) -> Sequence[ReplyBody]:
            parts = await exchanges.parts(region, request, told)
            check_headers(region, parts, header)
            return parts

        try:
            return await (self.first(ask, wanted) if isinstance(wanted, AskDetail) else self.again(ask, wanted))
        except Misfit as misfit:
            raise RegionLost(region, str(misfit)) from None

    async def first(self, ask: Ask, request: AskDetail) -> list[Look]:
        """The first look: what the region holds under some ks. Raises Misfit, and what ``ask`` raises."""
        looks: list[Look] = []
        for chunk in detail_chunks(request):
            looks += await self._in_full(ask, chunk)
        return looks

    async def again(self, ask: Ask, wanted: LookAsk) -> list[Look]:
        """A look at keys; every one of them is answered. Raises Misfit, and what ``ask`` raises."""
        looks: list[Look] = []
        for asking in self.recollection.asking(wanted):
            looks += await self._told(ask, asking, wanted)
        return looks

    async def _told(self, ask: Ask, asking: Asking, wanted: LookAsk) -> list[Look]:
        if isinstance(asking.request, AskDetail):
            looks: list[Look] = []
            for chunk in detail_chunks(asking.request):
                looks += _answered(chunk, await self._in_full(ask, chunk))
            return looks
        parts = _details(await ask(asking.request))
        if any(part.forgotten for part in parts):
            self.recollection.forget(asking.request.memory)
            return await self.again(ask, wanted.of(asking.key_digests))
        return self._told_again(asking, asking.request, parts)

    def _told_again(self, asking: Asking, request: AskAgain, parts: Sequence[Details]) -> list[Look]:
        found = looks_of(asking.names, parts, self.row, request.picked)
        told, silent = told_of(asking, found)
        if silent:
            raise Misfit("it did not look at every key that was asked for")
        self.recollection.note_again(request, parts[-1].memory, (look for looks in found.values() for look in looks))
        return told

    async def _in_full(self, ask: Ask, request: AskDetail) -> list[Look]:
        names = names_of(request)
        parts = _details(await ask(request))
        found = looks_of(names, parts, self.row, request.picked, halves=request.halves)
        looks = [look for each in found.values() for look in each]
        if any(look.same for look in looks):
            raise Misfit("it speaks of an answer that it was not asked about")
        self.recollection.note(parts[-1].memory, names, looks)
        return looks


def _answered(request: AskDetail, looks: Sequence[Look]) -> Sequence[Look]:
    if set(request.key_digests) - {look.key_digest for look in looks}:
        raise Misfit("it did not look at every key that was asked for")
    return looks


def _details(parts: Sequence[ReplyBody]) -> list[Details]:
    details = [part for part in parts if isinstance(part, Details)]
    if len(details) != len(parts) or not details:
        raise Misfit("its answer is not the details that were asked for")
    return details
