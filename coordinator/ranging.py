"""Ranges that are sampled: ask what the sample needs, and let the regions write their keys to files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from coordinator.asking import Exchanges, RegionLost
from coordinator.exchanges import check_headers, gather
from paritree.core import messages
from paritree.core.columnplan import ColumnPlan
from paritree.core.descent import Answer, Round, ks_of
from paritree.core.messages import AskKeep, Look, Progress, Ready
from paritree.core.ranges import Apart, Kept, RangeFinding
from paritree.core.sampling import Sampled, Sampling

_log = structlog.get_logger("paritree.coordinator")


async def sample(
    ready: Mapping[str, Ready],
    apart: Apart,
    salt: int,
    columns: ColumnPlan,
    ask: Callable[[Round], Awaitable[Mapping[str, Answer]]],
) -> Sampled:
    """The keys that differ below one node of the regions that are apart; ``ask`` does a round. Raises RegionLost."""
    sealing = [name for name in apart.regions if ready[name].sealed_keys]
    sampling = Sampling(ready, apart, sealing=sealing, salt=salt, columns=columns)
    asks = sampling.start()
    while asks:
        asks = sampling.receive(await ask(asks))
    if sampling.outcome is None:
        raise AssertionError("the sample ended without an outcome")
    for name, reason in sampling.outcome.broken.items():
        raise RegionLost(name, reason)
    return sampling.outcome


async def keep(
    exchanges: Exchanges,
    ready: Mapping[str, Ready],
    ranged: RangeFinding,
    on_progress: Callable[[str, str, Progress], None],
) -> dict[str, Kept]:
    """What each region of the range wrote. One that cannot write is said so, and stays compared."""
    ask = AskKeep(ranged.node.bits, ranged.node.prefix)

    async def one(name: str) -> Kept:
        try:
            parts = await exchanges.parts(name, ask, lambda p: on_progress(name, "keep", p))
            check_headers(name, parts, ready[name].header)
        except RegionLost as lost:
            _log.warning("keys of a range not written", region=name, reason=lost.message)
            return Kept(problem=lost.message)
        written = parts[-1]
        if not isinstance(written, messages.Kept):
            return Kept(problem="its answer is not the file that was asked for")
        return Kept(written.name, written.keys)

    return await gather({name: one(name) for name in ranged.apart.regions})


def affordable(
    ks: Sequence[int], looks: Mapping[str, Sequence[Look]], most: int | None
) -> tuple[Sequence[int], Mapping[str, Sequence[Look]], str]:
    """The suspects that a budget of ``most`` differences lets be looked at, and why where those are not all."""
    if most is None or len(ks) <= most:
        return ks, looks, ""
    some = ks[:most]
    first = {
        name: [look for look, k in zip(seen, ks_of(seen), strict=True) if k <= some[-1]] for name, seen in looks.items()
    }
    left = len(ks) - most
    return some, first, f"the budget of {most:,} differences is used up: {left:,} more keys differ in one look"
