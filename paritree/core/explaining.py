"""Where the rows that a region shows are not those that it sent before: the keys, and the node above all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from paritree.core import limits
from paritree.core.copies import counted
from paritree.core.leaves import NodeSum
from paritree.core.listing import RowList
from paritree.core.messages import Look
from paritree.core.node import common

K_BITS = 64
MASK = (1 << K_BITS) - 1
Rows = Mapping[int, NodeSum]
"""k -> count, Σr and Σr′ of the rows under it."""


def rows_shown(looks: Sequence[Look]) -> Rows:
    """The indexed rows of looks; a k that is held nowhere is not there."""
    rows: dict[int, NodeSum] = {}
    for look in looks:
        k = int.from_bytes(look.key_digest[:8], "big")
        for digest, count in counted(look.indexed):
            _add(rows, k, int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"), count)
    return rows


def rows_listed(listed: RowList) -> Rows:
    """The rows of a list."""
    rows: dict[int, NodeSum] = {}
    for k, r, r2 in zip(listed.k.tolist(), listed.r.tolist(), listed.r2.tolist(), strict=True):
        _add(rows, k, r, r2)
    return rows


def _add(rows: dict[int, NodeSum], k: int, r: int, r2: int, count: int = 1) -> None:
    before = rows.get(k, NodeSum(0, 0, 0))
    rows[k] = NodeSum(before.count + count, before.r + r * count & MASK, before.r2 + r2 * count & MASK)


def unlike(one: Rows, other: Rows) -> set[int]:
    """The ks under which they differ."""
    return {k for k in one.keys() | other.keys() if one.get(k) != other.get(k)}


def place(nodes: Collection[int], bits: int = K_BITS) -> str:
    """The node above all of those of depth ``bits`` (ks are so deep), for people; of none, the whole table.

    Never so deep that it names a key.
    """
    shown = min(bits, limits.LEVEL_BITS_MAX)
    high = {node >> (bits - shown) for node in nodes}
    return common(high, shown).said if high else "all keys"
