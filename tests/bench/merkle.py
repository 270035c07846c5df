"""A plain binary Merkle descent over the same regions, messages and ledger: what paritree is compared with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from paritree.core.leaves import leaf_bits
from paritree.core.limits import LEAF_BITS_MAX, LEAF_ROWS, NODES_A_REQUEST_MAX
from paritree.core.messages import AskChildren, AskLists, Begin, Children, Lists, Ready, RequestBody
from paritree.wire.loopback import LoopbackLink

U64 = np.ndarray[tuple[int], np.dtype[np.uint64]]


async def answers(link: LoopbackLink, body: RequestBody, sweep_id: str) -> list[object]:
    return [part async for part in link.ask(body, sweep_id=sweep_id, timeout_s=60.0)]


async def descend(links: Mapping[str, LoopbackLink], begin: Begin, sweep_id: str) -> tuple[set[int], int]:
    """The differing k and the rounds: both children of every mismatching node, level by level, then lists of leaves.

    Requests name nodes by 8 bytes each, answers have 8 bytes a child, lists 24 bytes a row.
    """
    roots: list[Ready] = []
    for link in links.values():
        roots += [part for part in await answers(link, begin, sweep_id) if isinstance(part, Ready)]
    if len({(root.rows, root.root_r, root.root_r2) for root in roots}) == 1:
        return set(), 1
    leaves = leaf_bits(max(root.rows for root in roots), LEAF_ROWS, LEAF_BITS_MAX)
    nodes, rounds = np.zeros(1, np.uint64), 1
    for bits in range(leaves):
        sums = [await _children(link, bits, nodes, sweep_id) for link in links.values()]
        differs = np.any([mine != sums[0] for mine in sums], axis=0)
        children = np.stack([nodes * np.uint64(2), nodes * np.uint64(2) + np.uint64(1)], axis=1).reshape(-1)
        nodes, rounds = children[differs], rounds + 1
        if not len(nodes):
            return set(), rounds
    listed = [await _lists(link, leaves, nodes, sweep_id) for link in links.values()]
    return set().union(*listed) - set.intersection(*listed), rounds + 1


async def _children(link: LoopbackLink, bits: int, nodes: U64, sweep_id: str) -> U64:
    sums: list[U64] = []
    for first in range(0, len(nodes), NODES_A_REQUEST_MAX):
        ask = AskChildren(bits, bits + 1, nodes[first : first + NODES_A_REQUEST_MAX])
        sums += [part.sums for part in await answers(link, ask, sweep_id) if isinstance(part, Children)]
    return np.concatenate(sums)


async def _lists(link: LoopbackLink, bits: int, nodes: U64, sweep_id: str) -> set[tuple[int, int]]:
    """(k, r) of every row below the nodes."""
    rows: set[tuple[int, int]] = set()
    for first in range(0, len(nodes), NODES_A_REQUEST_MAX):
        for part in await answers(link, AskLists(bits, nodes[first : first + NODES_A_REQUEST_MAX]), sweep_id):
            assert isinstance(part, Lists)
            rows.update(zip(part.k.tolist(), part.r.tolist(), strict=True))
    return rows
