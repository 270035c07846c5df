"""What an agent has and says so without a sweep: the datasets of its Hello, and the roots of indexes that it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Final

from edge_agent.build import Built, Copy
from edge_agent.signs import while_working
from paritree.core.messages import (
    AskRoot,
    Begin,
    DatasetOffer,
    Header,
    Refusal,
    RefusalCode,
    ReplyBody,
    Request,
    Rooted,
)
from paritree.core.profile import CANONICAL_VERSION

if TYPE_CHECKING:
    from edge_agent.warm import WarmIndex

AGE_S_MAX: Final = 1e9
"""An index whose age nobody knows, as the clock was set back, is older than any limit; infinity is not on the wire."""


def offers(copies: Mapping[str, Copy], warm: Mapping[str, WarmIndex]) -> tuple[DatasetOffer, ...]:
    """The datasets that this agent serves."""
    return tuple(
        DatasetOffer(
            name,
            copy.profile.profile_id,
            CANONICAL_VERSION,
            copy.keys.key_id,
            tells=name in warm and warm[name].tells,
            rooted=name in warm,
        )
        for name, copy in copies.items()
    )


def refused(copies: Mapping[str, Copy], ask: Begin | AskRoot) -> Refusal | None:
    """Why this agent has not what is asked for; None where it has."""
    copy = copies.get(ask.dataset)
    if copy is None:
        return Refusal(RefusalCode.UNKNOWN_DATASET, f"this agent has no dataset '{ask.dataset}'")
    if ask.profile_id != copy.profile.profile_id:
        return Refusal(
            RefusalCode.PROFILE_DIFFERS,
            "this agent's profile of the dataset is another one; give both sides the same datasets file",
        )
    if ask.canonical_version != CANONICAL_VERSION:
        return Refusal(RefusalCode.CANONICAL_DIFFERS, f"this agent has canonical version {CANONICAL_VERSION}")
    return None


async def rooted(
    request: Request, ask: AskRoot, copies: Mapping[str, Copy], warm: Mapping[str, WarmIndex]
) -> AsyncIterator[ReplyBody]:
    """The root of a kept index, brought up to date; nothing is scanned for it. Raises ParitreeError."""
    if (refusal := refused(copies, ask)) is not None:
        yield refusal
        return
    if ask.dataset not in warm:
        yield Refusal(RefusalCode.NO_INDEX, "this agent keeps no index of the dataset")
        return
    index = warm[ask.dataset]
    working = asyncio.create_task(asyncio.to_thread(index.rooted, ask.max_age_s))
    async for sign in while_working(working, request.timeout_s):
        yield sign
    built, copy = working.result(), index.copy
    root = built.index.sums.root
    of = ask.dataset, copy.profile.profile_id, CANONICAL_VERSION, copy.keys.key_id
    yield Rooted(
        Header(*of, request.sweep_id, built.position.text),
        root.count,
        root.r,
        root.r2,
        min(built.age_s, AGE_S_MAX),
        built.position.point,
        _doubt(built),
    )


def _doubt(built: Built) -> str:
    """Why what was built is not the whole table."""
    if built.dead.total:
        return f"{built.dead.total} rows are dead letters"
    return "its index is in doubt" if built.faults else ""
