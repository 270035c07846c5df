"""Clear keys of what a sweep found, from the regions whose policies grant them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import structlog

from coordinator.asking import Exchanges, RegionLost
from paritree.core import limits
from paritree.core.manifest import Conclusion
from paritree.core.messages import AskReveal, Progress, Revealed

_log = structlog.get_logger("paritree.coordinator")
DEPTH_MAX: Final = 32
"""Of a clear key: deeper ones could be read, but not written into a report."""
Clear = dict[bytes, dict[str, Any]]
"""Key digest -> column -> value."""


async def revealed(
    exchanges: Exchanges, regions: Sequence[str], conclusion: Conclusion, limit: int, purpose: str
) -> Clear:
    """The keys of the listed findings and of all keys that could not be judged; each is asked of one holder only."""
    holders: dict[bytes, list[str]] = {}
    for suspect in (*conclusion.unknown_keys, *conclusion.unsettled_keys):
        holders[suspect.key_digest] = [r for group in suspect.groups for r in group]
    examples = conclusion.ranged.examples if conclusion.ranged else ()
    for finding in (*conclusion.findings[:limit], *examples):
        holders[finding.key_digest] = [r for group in finding.groups for r in group]
    clear: Clear = {}
    for name in regions:
        wanted = tuple(d for d, held_by in holders.items() if name in held_by and d not in clear)
        if wanted:
            clear.update(await _revealed_by(exchanges, name, wanted, purpose))
    return clear


async def _revealed_by(exchanges: Exchanges, name: str, wanted: tuple[bytes, ...], purpose: str) -> Clear:
    clear: Clear = {}
    asked = frozenset(wanted)
    for first in range(0, len(wanted), limits.KEYS_A_DETAIL_MAX):
        ask = AskReveal(wanted[first : first + limits.KEYS_A_DETAIL_MAX], purpose)
        try:
            parts = await exchanges.parts(name, ask, _unheard)
        except RegionLost as lost:
            _log.warning("keys not revealed", sweep=exchanges.sweep_id, region=name, reason=lost.message)
            return clear
        for part in parts:
            if isinstance(part, Revealed):
                _log.info("reveal", sweep=exchanges.sweep_id, region=name, keys=len(part.keys), refused=part.refused)
                for digest, text in part.keys.items():
                    if digest in asked and (key := _key_of(text)) is not None:
                        clear[digest] = key
    return clear


def _key_of(text: str) -> dict[str, Any] | None:
    """A clear key; None for what is none, or what no store or report could hold."""
    try:
        key = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return key if isinstance(key, dict) and _depth_at_most(key, DEPTH_MAX) else None


def _no_number(name: str) -> None:
    raise ValueError(name)


def _depth_at_most(value: Any, most: int) -> bool:
    values = [value]
    for _ in range(most):
        values = [inner for one in values if isinstance(one, dict | list) for inner in _inside(one)]
    return not values


def _inside(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _unheard(_progress: Progress) -> None:
    """Nobody waits for a bar here."""
