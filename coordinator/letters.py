"""Dead letters of all regions in one place: listed, tried again and discarded by opaque ids, reasons and counts.

The letters are at the agents; the store has what each region told last, so that a list names them while a region is
away, with the time of its word. The coordinator has letters of its own: messages that could not be read (their size and
digest, never their content) and sweeps that came to no report.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import structlog

from coordinator import asking
from coordinator.store import Store
from coordinator.store.letters import OWN, LetterRow
from paritree.config.toml import near
from paritree.core import limits
from paritree.core.deadletters import LetterAction, LetterKind, letter_id
from paritree.core.errors import ConfigError, ParitreeError, PeerError
from paritree.core.messages import AskLetters, Letters, Progress, Refusal
from paritree.wire.control import LettersOrder
from paritree.wire.dlq import act_json, letter_json, list_json, region_json
from paritree.wire.link import RegionLink

LISTED: Final = 1_000
"""Letters of a list where the caller does not say; further ones are counted."""
_log = structlog.get_logger("paritree.coordinator")


async def never_again(sweep_id: str, _operator: str) -> None:
    """Nobody begins jobs again here."""
    raise PeerError(f"sweep {sweep_id} cannot be begun again here", next_step="run paritree sweep with its --job-id")


@dataclass(slots=True)
class _Outcome:
    """What came of one action."""

    cleared: set[str]
    unknown: set[str]
    errors: dict[str, str]


class DeadLetters:
    """``links`` gives the connected regions, ``datasets`` are those that the coordinator knows.

    ``begin_again`` begins the sweep of that id anew, for an operator: that is what trying a job again means.
    """

    def __init__(
        self,
        store: Store,
        links: Callable[[], Mapping[str, RegionLink]],
        datasets: Iterable[str],
        *,
        begin_again: Callable[[str, str], Awaitable[None]] = never_again,
        timeout_s: float = limits.EXCHANGE_TIMEOUT_S,
    ) -> None:
        self._store = store
        self._links = links
        self._datasets = tuple(datasets)
        self._begin_again = begin_again
        self._timeout_s = timeout_s

    # --- what operators ask -----------------------------------------------------------------------------------------

    async def answer(self, order: LettersOrder, operator: str) -> dict[str, Any]:
        """The document for an order. Raises ConfigError for what the operator got wrong."""
        if order.dataset and order.dataset not in self._datasets:
            raise ConfigError(
                f"the coordinator has no dataset '{order.dataset}'", next_step=near(order.dataset, self._datasets)
            )
        if order.action is LetterAction.DISCARD and not order.reason:
            raise ConfigError("dead letters are discarded for a reason", next_step="say --reason")
        errors = await self.refresh(order.dataset, order.region)
        if order.action is LetterAction.LIST:
            return await self._listed(order, errors)
        outcome = await self._acted(order, operator, errors)
        left = await asyncio.to_thread(self._chosen, order)
        entries, regions = [_entry(row) for row in left], self._regions(outcome.errors)
        return act_json(str(order.action), entries, sorted(outcome.cleared), sorted(outcome.unknown), regions)

    async def _listed(self, order: LettersOrder, errors: Mapping[str, str]) -> dict[str, Any]:
        region = order.region or None
        rows = await asyncio.to_thread(
            self._store.letters, dataset=order.dataset, region=region, ids=order.ids, discarded=order.discarded
        )
        return list_json([_entry(row) for row in rows], order.limit or LISTED, self._regions(errors))

    async def _acted(self, order: LettersOrder, operator: str, errors: dict[str, str]) -> _Outcome:
        chosen = await asyncio.to_thread(self._chosen, order)
        outcome = _Outcome(set(), set(order.ids) - {row.letter.id for row in chosen}, errors)
        groups: dict[tuple[str, str], list[LetterRow]] = {}
        for row in chosen:
            groups.setdefault((row.region, row.letter.dataset), []).append(row)
        for (region, dataset), rows in groups.items():
            ids = [row.letter.id for row in rows]
            await asyncio.to_thread(
                self._store.log_letter_act,
                operator=operator,
                action=str(order.action),
                region=region,
                dataset=dataset,
                reason=order.reason,
                ids=ids,
            )
            said = {"action": str(order.action), "region": region, "dataset": dataset, "operator": operator}
            _log.info("dead letters", letters=len(ids), reason=order.reason, **said)
            try:
                if region == OWN:
                    outcome.cleared.update(await self._act_on_own(order, operator, rows))
                else:
                    outcome.cleared.update(await self._act_at(region, dataset, order, operator, ids))
            except ParitreeError as error:
                outcome.errors[region or "coordinator"] = str(error)
        return outcome

    async def _act_at(
        self, region: str, dataset: str, order: LettersOrder, operator: str, ids: Sequence[str]
    ) -> tuple[str, ...]:
        link = self._links().get(region)
        if link is None:
            raise PeerError(f"region {region} is not connected", next_step="check that its agent runs", retryable=True)
        done = await self._ask(link, AskLetters(dataset, order.action, tuple(ids), order.reason, operator))
        await self._refresh(link, dataset)
        return done.cleared

    async def _act_on_own(self, order: LettersOrder, operator: str, rows: Sequence[LetterRow]) -> list[str]:
        if order.action is LetterAction.DISCARD:
            note = f"{operator}: {order.reason}"
            await asyncio.to_thread(self._store.discard_own_letters, [row.letter.id for row in rows], note)
            return []
        for row in rows:
            if row.letter.kind is LetterKind.JOB:  # a report of it ends the letter
                await self._begin_again(str(row.detail.get("sweep_id", "")), operator)
        messages = [row.letter.id for row in rows if row.letter.kind is LetterKind.MESSAGE]
        return await asyncio.to_thread(self._store.end_own_letters, messages)

    def _chosen(self, order: LettersOrder) -> list[LetterRow]:
        discarded = order.action is LetterAction.REPLAY or bool(order.ids)
        return self._store.letters(
            dataset=order.dataset, region=order.region or None, ids=order.ids, discarded=discarded
        )

    # --- what regions tell ------------------------------------------------------------------------------------------

    async def refresh(self, dataset: str = "", region: str = "") -> dict[str, str]:
        """Ask the connected regions for their letters ("": of every dataset, of every region); what failed, by region.

        Raises ConfigError for a region that is neither connected nor known.
        """
        links = self._links()
        if region and region not in links:
            known = {one.region for one in await asyncio.to_thread(self._store.agents)}
            if region not in known:
                raise ConfigError(f"the coordinator has never seen a region '{region}'", next_step=near(region, known))
        errors: dict[str, str] = {}

        async def one(link: RegionLink) -> None:
            offered = [offer.dataset for offer in link.hello.datasets if offer.dataset in self._datasets]
            for name in [dataset] if dataset else [*offered, ""]:
                try:
                    if name in offered or not name:
                        await self._refresh(link, name)
                except ParitreeError as error:
                    errors[link.region] = str(error)
                    return

        await asyncio.gather(*(one(link) for name, link in links.items() if region in ("", name)))
        return errors

    async def _refresh(self, link: RegionLink, dataset: str) -> None:
        told = await self._ask(link, AskLetters(dataset, LetterAction.LIST))
        if any(letter.dataset != dataset for letter in told.letters):
            raise PeerError(f"region {link.region} tells letters of another dataset than it was asked for")
        await asyncio.to_thread(self._store.replace_letters, link.region, dataset, told.letters, told.not_kept)

    async def _ask(self, link: RegionLink, ask: AskLetters) -> Letters:
        sweep_id = f"dlq-{uuid.uuid4().hex}"
        parts: list[Letters] = []
        told = 0
        most_s = asking.SCAN_S_MAX if ask.action is LetterAction.REPLAY else asking.ANSWER_S_MAX
        try:
            async with (
                asyncio.timeout(most_s),
                aclosing(link.ask(ask, sweep_id=sweep_id, timeout_s=self._timeout_s)) as answers,
            ):
                async for part in answers:
                    if isinstance(part, Refusal):
                        raise PeerError(part.message, retryable=part.retryable)
                    if isinstance(part, Letters):
                        parts.append(part)
                        told += 1 + sum(map(len, (part.letters, part.cleared, part.unknown)))
                    elif not isinstance(part, Progress):
                        raise PeerError(f"region {link.region} answered something else than was asked")
                    if told > 3 * limits.LETTERS_MAX:
                        raise PeerError(f"region {link.region} tells more than {limits.LETTERS_MAX} letters")
        except TimeoutError:
            raise PeerError(f"region {link.region} gave no whole answer within {most_s:g} s", retryable=True) from None
        finally:
            link.ledger.forget(sweep_id)
        return Letters(
            letters=tuple({letter.id: letter for one in parts for letter in one.letters}.values()),
            not_kept=sum(one.not_kept for one in parts),
            cleared=tuple(done for one in parts for done in one.cleared),
            unknown=tuple(strange for one in parts for strange in one.unknown),
        )

    def _regions(self, errors: Mapping[str, str]) -> list[dict[str, Any]]:
        """When each region's letters were asked for last, the oldest list of its datasets counting."""
        links = self._links()
        lists = self._store.letter_lists()
        names = sorted({one.region for one in lists if one.region != OWN} | set(links) | set(errors) - {"coordinator"})
        regions = []
        for name in names:
            own = [one for one in lists if one.region == name]
            as_of = min((one.as_of for one in own), default=None)
            not_kept = sum(one.not_kept for one in own)
            regions.append(
                region_json(name, connected=name in links, as_of=as_of, not_kept=not_kept, error=errors.get(name))
            )
        if "coordinator" in errors:
            regions.append(region_json(None, connected=True, as_of=None, not_kept=0, error=errors["coordinator"]))
        return regions

    # --- the coordinator's own --------------------------------------------------------------------------------------

    async def unreadable(self, data: bytes, reason: str, peer: str) -> None:
        """A message that cannot be read: its size, digest and sender are kept, and nothing of what it says."""
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        identity = f"{peer}\0{reason}".encode()
        await self._note(LetterKind.MESSAGE, "", identity, reason, bytes=len(data), digest=digest, peer=peer)

    async def job_failed(self, *, job_id: str, sweep_id: str, dataset: str, reason: str) -> None:
        """A sweep came to no report, and nobody will try it again by himself."""
        await self._note(LetterKind.JOB, dataset, job_id.encode(), reason, job_id=job_id, sweep_id=sweep_id)

    async def job_done(self, *, job_id: str, dataset: str) -> None:
        """A sweep came to a report: if it had failed before, that is over."""
        own = letter_id(OWN, dataset, LetterKind.JOB, job_id.encode())
        if await asyncio.to_thread(self._store.letters, region=OWN, ids=[own]):
            await asyncio.to_thread(self._store.end_own_letters, [own])

    async def _note(self, kind: LetterKind, dataset: str, identity: bytes, reason: str, **detail: Any) -> None:
        try:
            await asyncio.to_thread(self._store.note_own_letter, kind, dataset, identity, reason, **detail)
        except ParitreeError as error:  # what is told here has been logged and refused already
            _log.error("a dead letter was not kept", kind=str(kind), reason=error.message)


def _entry(row: LetterRow) -> dict[str, Any]:
    return letter_json(row.region, row.letter, row.detail)
