"""The agent's answers: one sweep's index from Begin to End, and what may be asked of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from edge_agent.build import Built, Copy, build_index, built_before
from edge_agent.executors import Executor
from edge_agent.keeping import keep_parts, kept_folder
from edge_agent.kept import Kept, discard
from edge_agent.letters.desk import LetterDesk
from edge_agent.letters.sweep import SchemaDrift, SweepLetters
from edge_agent.merged import merged_note
from edge_agent.offering import AGE_S_MAX, offers, refused, rooted
from edge_agent.opened import Fences, OpenSweep, begun_with
from edge_agent.parts import list_parts, node_parts, reveal_parts, sketch_parts
from edge_agent.policy import Policy
from edge_agent.scoping import narrowed
from edge_agent.signs import in_thread, while_working
from edge_agent.spool import clear_spool, folder_name
from edge_agent.telling import Teller, detail_parts
from edge_agent.tokens import TokenBook
from edge_agent.wanted import Cancelled
from paritree.core.display import key_to_json
from paritree.core.errors import ConfigError, ParitreeError, PeerError, SourceError
from paritree.core.messages import (
    AskAgain,
    AskChildren,
    AskDetail,
    AskKeep,
    AskLetters,
    AskLists,
    AskReveal,
    AskRoot,
    AskSketch,
    Begin,
    End,
    Ended,
    Header,
    Hello,
    Progress,
    Ready,
    Refusal,
    RefusalCode,
    ReplyBody,
    Request,
    Revealed,
)
from paritree.core.profile import CANONICAL_VERSION
from paritree.core.scope import Scope

if TYPE_CHECKING:  # an ad hoc comparison has none, and shall not load what follows changes
    from edge_agent.warm import WarmIndex

SWEEPS_MAX: Final = 16
"""Sweeps an agent keeps open at once; each has its runs on the spool."""
SWEEP_IDLE_S: Final = 1_800.0
"""A sweep that nobody asked about for this long was given up by its coordinator."""
BUSY_S: Final = 10.0
"""After which a coordinator may ask an agent again that has as many sweeps open as it may."""
FENCED: Final = Refusal(RefusalCode.FENCED, "another coordinator drives this sweep")
_log = structlog.get_logger("paritree.agent")


class Service:
    """Implements ``paritree.wire.link.AgentService`` over the copies that this region holds.

    ``executor`` opens the executor of one scan; it is called in a worker thread. ``desk`` keeps the dead letters;
    without one they are counted only. ``scopes`` are those of the datasets, by dataset and name,
    ``warm`` the indexes that outlive sweeps; both are by dataset, and the caller closes them. ``keeps_keys``: the keys
    of a range are written to the spool when that is asked for.
    """

    def __init__(
        self,
        region: str,
        agent: str,
        instance: str,
        copies: Mapping[str, Copy],
        *,
        spool: Path,
        executor: Callable[[], Executor],
        policy: Policy,
        desk: LetterDesk | None = None,
        scopes: Mapping[str, Mapping[str, Scope]] | None = None,
        warm: Mapping[str, WarmIndex] | None = None,
        keeps_keys: bool = True,
    ) -> None:
        self._keeps_keys = keeps_keys
        self._scopes = scopes or {}
        self._warm = warm or {}
        self._desk = desk
        self._region, self._agent, self._instance = region, agent, instance
        self._copies = copies
        self._spool = spool
        self._executor = executor
        self._policy = policy
        self._sweeps: dict[str, OpenSweep] = {}
        self._fences = Fences()
        self._reopening = asyncio.Lock()
        self._ending: dict[str, asyncio.Event] = {}
        self._books = {
            name: TokenBook(spool / folder_name(name) / "tokens", copy.rest_key) for name, copy in copies.items()
        }

    def hello(self) -> Hello:
        """Who this agent is and what it serves."""
        return Hello(self._region, self._agent, self._instance, offers(self._copies, self._warm))

    async def handle(self, request: Request) -> AsyncIterator[ReplyBody]:
        """Answer one request; see ``AgentService.handle``."""
        body = request.body
        if not self._fences.admit(request.sweep_id, request.fence):
            yield FENCED
            return
        if isinstance(body, Begin):
            async for part in self._begin(request, body):
                yield part
            return
        if isinstance(body, End):
            await self._end(request.sweep_id, keep=body.keep)
            yield Ended()
            return
        if isinstance(body, AskLetters):
            async for part in self._letters(body, request.timeout_s):
                yield part
            return
        if isinstance(body, AskRoot):
            async for part in rooted(request, body, self._copies, self._warm):
                yield part
            return
        sweep = self._sweeps.get(request.sweep_id) or await self._reopened(request)
        if isinstance(sweep, Refusal):
            yield sweep
            return
        await self._used(sweep, request.fence)
        match body:
            case AskChildren():
                parts = node_parts(sweep.header, sweep.built.index, body)
            case AskLists():
                parts = list_parts(sweep.header, sweep.built.index, body)
            case AskSketch():
                parts = sketch_parts(sweep.header, sweep.built.index, body)
            case AskDetail() | AskAgain():
                parts = self._detail(sweep, body)
            case AskReveal():
                parts = self._reveal(sweep, body)
            case AskKeep():
                folder = kept_folder(self._spool, sweep.header.dataset) if self._keeps_keys else None
                parts = keep_parts(sweep.header, sweep.built.index, sweep.copy, folder, body)
        async for part in in_thread(parts, request.timeout_s):
            yield part

    async def close(self) -> None:
        """Stop the scans of all sweeps; what they have read is kept for the next process."""
        for sweep_id in list(self._sweeps):
            await self._end(sweep_id, keep=True)

    async def _begin(self, request: Request, begin: Begin) -> AsyncIterator[ReplyBody]:
        await self._expire()
        sweep_id = request.sweep_id
        while (ending := self._ending.get(sweep_id)) is not None:  # its last scan still writes there
            async for sign in while_working(asyncio.ensure_future(ending.wait()), request.timeout_s):
                yield sign
        sweep = self._sweeps.get(sweep_id)
        if sweep is None:
            opened = self._open(sweep_id, begin)
            if isinstance(opened, Refusal):
                yield opened
                return
            before = await asyncio.to_thread(Kept.read, opened.spool, opened.copy.rest_key)
            if before is not None and before.fence > request.fence:
                self._fences.admit(sweep_id, before.fence)
                yield FENCED
                return
            if sweep_id not in self._sweeps and len(self._sweeps) >= SWEEPS_MAX:
                yield Refusal(RefusalCode.BUSY, f"this agent has {SWEEPS_MAX} sweeps open", True, BUSY_S)
                return
            sweep = self._sweeps.setdefault(sweep_id, opened)  # the same request may have come twice
            if sweep is opened:
                sweep.fence = request.fence
                sweep.building = asyncio.create_task(asyncio.to_thread(self._build, sweep, begin))
        await self._used(sweep, request.fence)
        building = sweep.building
        if building is None:
            raise PeerError("the sweep has no scan")
        async for told in while_working(building, request.timeout_s, lambda: sweep.progress):
            sweep.used_at = time.monotonic()
            yield told
        try:
            built = building.result()
        except BaseException as error:
            if self._sweeps.get(sweep_id) is sweep:  # whoever's error it is: the next request begins anew
                del self._sweeps[sweep_id]
            if not isinstance(error, ParitreeError):
                raise
            code = RefusalCode.CONFIG if isinstance(error, ConfigError | SchemaDrift) else RefusalCode.SOURCE
            yield Refusal(code, str(error), error.retryable)
            return
        yield await asyncio.to_thread(self._ready, sweep, built)

    def _open(self, sweep_id: str, begin: Begin) -> OpenSweep | Refusal:
        if (refusal := refused(self._copies, begin)) is not None:
            return refusal
        copy = self._copies[begin.dataset]
        header = Header(begin.dataset, copy.profile.profile_id, CANONICAL_VERSION, copy.keys.key_id, sweep_id)
        part = narrowed(copy, header, self._scopes.get(begin.dataset, {}), begin)
        if isinstance(part, Refusal):
            return part
        return OpenSweep(*part, self._spool / folder_name(begin.dataset) / folder_name(sweep_id))

    async def _used(self, sweep: OpenSweep, fence: int) -> None:
        """Somebody asks about the sweep; a coordinator with a higher token is remembered over restarts."""
        sweep.used_at = time.monotonic()
        if fence > sweep.fence:
            sweep.fence = fence
            if sweep.kept is not None:
                await asyncio.to_thread(sweep.kept.note_fence, fence)

    async def _reopened(self, request: Request) -> OpenSweep | Refusal:
        """The sweep as an earlier process had built it; a Refusal where that is not to be had, or not for this one."""
        async with self._reopening:
            for dataset, copy in self._copies.items():
                if request.sweep_id in self._sweeps:
                    return self._sweeps[request.sweep_id]
                folder = self._spool / folder_name(dataset) / folder_name(request.sweep_id)
                kept = await asyncio.to_thread(Kept.read, folder, copy.rest_key)
                begin = None if kept is None or kept.built is None else begun_with(kept)
                if kept is None or begin is None:
                    continue
                if kept.fence > request.fence:
                    self._fences.admit(request.sweep_id, kept.fence)
                    return FENCED
                opened = self._open(request.sweep_id, begin)
                if isinstance(opened, Refusal):
                    return opened
                if kept.identity == opened.identity:
                    built = await asyncio.to_thread(built_before, opened.copy, kept)
                    if built is not None:
                        opened.building = asyncio.get_running_loop().create_future()
                        opened.building.set_result(built)
                        opened.header = replace(opened.header, position=built.position.text)
                        opened.kept, opened.fence, opened.revealed = kept, kept.fence, kept.revealed
                        self._sweeps[request.sweep_id] = opened
                        _log.info("sweep opened again", sweep=request.sweep_id, dataset=dataset)
                        return opened
        return Refusal(RefusalCode.NO_INDEX, "this agent holds no index of that sweep: it was restarted, or it ended")

    def _build(self, sweep: OpenSweep, begin: Begin) -> Built:
        note = sweep.note
        try:
            store = None if self._desk is None else self._desk.store
            letters = SweepLetters(store, sweep.copy.profile, sweep.copy.keys, sweep.header.sweep_id)
            warm = self._warm.get(sweep.header.dataset)
            if warm is not None and sweep.copy.binding.bucket is None:
                return warm.built(self._executor, sweep.spool, note, letters, begin.freshness)
            with self._executor() as executor:
                kept = sweep.keep(begin, letters.since_us)
                return build_index(sweep.copy, executor, sweep.spool, note, letters, kept=kept)
        except BaseException as error:
            again = error.rests if isinstance(error, Cancelled) else isinstance(error, SourceError) and error.retryable
            if not again:
                discard(sweep.spool)  # a sweep that failed leaves no runs behind; its dead letters stay
            raise

    def _ready(self, sweep: OpenSweep, built: Built) -> Ready:
        index = built.index
        root = index.sums.root
        policy = self._policy.about(sweep.copy.profile)
        header = sweep.header = replace(sweep.header, position=built.position.text)
        duplicates = index.duplicates()
        merged = merged_note(sweep.copy, index, duplicates)
        return Ready(
            header=header,
            engine=built.engine,
            rows=root.count,
            root_r=root.r,
            root_r2=root.r2,
            probe=index.probe,
            point=built.position.point,
            scan_s=round(built.scan_s, 3),
            age_s=min(built.age_s, AGE_S_MAX),
            duplicate_keys=duplicates,
            dead=built.dead,
            disclosure=policy.disclosure,
            sealed_keys=policy.sealed_keys,
            notes=(*built.notes, merged) if merged else built.notes,
            faults=built.faults,
        )

    def _detail(self, sweep: OpenSweep, ask: AskDetail | AskAgain) -> Iterator[ReplyBody]:
        if isinstance(ask, AskDetail) and ask.seal and not self._policy.about(sweep.copy.profile).sealed_keys:
            raise PeerError("this region's policy does not let keys travel sealed")
        teller = Teller(sweep.copy, sweep.built.index, self._executor, sweep.located, sweep.recall)
        told = teller.answer(ask)
        if told is not None:
            held = sweep.located.locators
            shown = (key_digest for key_digest in told.looks if held.get(key_digest))
            self._books[sweep.header.dataset].add({key_digest: min(held[key_digest]) for key_digest in shown})
        yield from detail_parts(sweep.header, told)

    async def _letters(self, ask: AskLetters, timeout_s: float) -> AsyncIterator[ReplyBody]:
        """The answer about dead letters, with a sign of life while they are tried again."""
        if self._desk is None:
            raise PeerError("this agent keeps no dead letters")
        told = Progress(0, 0, 0)

        def note(progress: Progress) -> None:
            nonlocal told
            told = progress

        working = asyncio.create_task(asyncio.to_thread(self._desk.answer, ask, note))
        async for sign in while_working(working, timeout_s, lambda: told):
            yield sign
        for part in working.result():
            yield part

    def _reveal(self, sweep: OpenSweep, ask: AskReveal) -> Iterator[ReplyBody]:
        held = sweep.located.locators
        if not held:  # the looks were made in an earlier process
            for entry in sweep.built.index.find([int.from_bytes(digest[:8], "big") for digest in ask.key_digests]):
                sweep.located.add(entry.key_digest, entry.locator)
        known = [digest for digest in ask.key_digests if held.get(digest)]
        refused = self._policy.about(sweep.copy.profile).refusal(ask.purpose, sweep.revealed, len(known))
        _log.info(
            "reveal",
            dataset=sweep.header.dataset,
            sweep=sweep.header.sweep_id,
            purpose=ask.purpose,
            asked=len(ask.key_digests),
            granted=0 if refused else len(known),
            refused=refused,
        )
        if refused:
            yield Revealed(sweep.header, {}, refused)
            return
        sweep.revealed += len(known)
        if sweep.kept is not None:
            sweep.kept.note_revealed(sweep.revealed)
        profile = sweep.copy.profile
        clear = {d: json.dumps(key_to_json(min(held[d]), profile), ensure_ascii=False) for d in known}
        yield from reveal_parts(sweep.header, clear)

    def reveal_tokens(self, dataset: str, tokens: list[str]) -> dict[str, bytes]:
        """token -> locator, from the token book. Raises ConfigError for an unknown dataset."""
        if dataset not in self._books:
            raise ConfigError(f"this agent has no dataset '{dataset}'")
        return self._books[dataset].find(tokens)

    async def _expire(self) -> None:
        now = time.monotonic()
        for sweep_id, sweep in list(self._sweeps.items()):
            idle = sweep.building is not None and sweep.building.done() and now - sweep.used_at > SWEEP_IDLE_S
            if idle:
                _log.warning("nobody has asked about the sweep for long", sweep=sweep_id)
                await self._end(sweep_id, keep=True)
        await asyncio.to_thread(clear_spool, self._spool, busy={sweep.spool for sweep in self._sweeps.values()})

    async def _end(self, sweep_id: str, *, keep: bool) -> None:
        """Stop its scan and forget it; ``keep`` what was read, for as long as that is of use."""
        began = time.monotonic()
        while (ending := self._ending.get(sweep_id)) is not None:
            await ending.wait()
        self._ending[sweep_id] = ended = asyncio.Event()
        try:
            sweep = self._sweeps.pop(sweep_id, None)
            if sweep is not None and sweep.building is not None:
                sweep.rests = keep
                sweep.cancel.set()
                await asyncio.wait({sweep.building})
            if not keep:
                for dataset in self._copies:
                    await asyncio.to_thread(discard, self._spool / folder_name(dataset) / folder_name(sweep_id))
        finally:
            del self._ending[sweep_id]
            ended.set()
        _log.debug("sweep ended", sweep=sweep_id, kept=keep, waited_s=round(time.monotonic() - began, 3))
