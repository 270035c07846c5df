"""The ring cut into shards: every token but -2^63 is in exactly one range, whatever the ring."""

from __future__ import annotations

import itertools
import json
import pickle

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.connectors.cassandra import shards
from edge_agent.connectors.cassandra.shards import TOKEN_MAX, TOKEN_MIN, TokenRange

TOKENS = st.integers(TOKEN_MIN, TOKEN_MAX) | st.sampled_from([TOKEN_MIN, TOKEN_MIN + 1, -1, 0, 1, TOKEN_MAX])
RINGS = st.lists(TOKENS, max_size=40)
SIZES = st.integers(0, 10**9) | st.sampled_from([0, 1, 9_999, 10_000])


def owners(ring: list[int], hosts: int) -> dict[int, tuple[str, ...]]:
    """Each node's tokens in turn, as a ring assigns them."""
    return {token: (f"host{i % hosts}",) for i, token in enumerate(sorted(ring))}


def owner_of(ring: list[int], by_token: dict[int, tuple[str, ...]], token: int) -> tuple[str, ...]:
    """The ring's own rule: the first token at or behind, else the lowest one."""
    return by_token[min((t for t in ring if t >= token), default=min(ring))] if ring else ()


def tiles(ranges: list[TokenRange]) -> None:
    """Half-open, ascending, without gap or overlap, from the lowest token to the highest."""
    ordered = sorted(ranges, key=lambda each: each.start)
    assert ordered[0].start == TOKEN_MIN
    assert ordered[-1].end == TOKEN_MAX
    assert all(each.start < each.end for each in ordered)
    assert all(a.end == b.start for a, b in itertools.pairwise(ordered))


@given(RINGS, st.integers(1, 5), SIZES, st.integers(1, 10**6))
def test_shards_tile_the_ring(ring: list[int], hosts: int, rows: int, shard_rows: int) -> None:
    shard_rows = max(shard_rows, rows // 2_000)  # a property of few shards is one of many
    by_token = owners(ring, hosts)
    ranges = shards.tile(ring, lambda token: owner_of(ring, by_token, token))
    tiles(ranges)
    planned = shards.cut(ranges, rows, shard_rows)
    assert [shard.number for shard in planned] == list(range(len(planned)))
    tiles([each for shard in planned for each in shards.ranges_of(shard)])


@given(RINGS.filter(bool), st.integers(1, 5), TOKENS.filter(lambda token: token != TOKEN_MIN))
def test_ranges_name_the_hosts_that_hold_them(ring: list[int], hosts: int, token: int) -> None:
    by_token = owners(ring, hosts)
    ranges = shards.tile(ring, lambda each: owner_of(ring, by_token, each))
    (holding,) = [each for each in ranges if each.start < token <= each.end]
    assert holding.hosts == owner_of(ring, by_token, token)


def test_the_range_that_wraps_is_cut_in_two_with_one_owner() -> None:
    ranges = shards.tile([-10, 10], {-10: ("a",), 10: ("b",), TOKEN_MAX: ("a",)}.__getitem__)
    assert ranges == [
        TokenRange(TOKEN_MIN, -10, ("a",)),
        TokenRange(-10, 10, ("b",)),
        TokenRange(10, TOKEN_MAX, ("a",)),
    ]


def test_a_node_at_the_lowest_token_adds_no_range() -> None:
    # (-2^63, -2^63] would be read as the whole ring by CQL: every row twice.
    ranges = shards.tile([TOKEN_MIN, 0], lambda token: ("a",))
    assert [(each.start, each.end) for each in ranges] == [(TOKEN_MIN, 0), (0, TOKEN_MAX)]


def test_a_small_table_is_one_shard_and_one_query() -> None:
    ring = list(range(-(1 << 62), 1 << 62, 1 << 55))
    ranges = shards.tile(ring, lambda token: (f"host{token % 3}",))
    (shard,) = shards.cut(ranges, 100, 250_000)
    assert shard.range == {"ranges": [[TOKEN_MIN, TOKEN_MAX, []]]}


def test_a_large_table_gets_shards_near_the_size_asked_for() -> None:
    ranges = shards.tile([i << 58 for i in range(-32, 32)], lambda token: (f"host{(token >> 58) % 3}",))
    planned = shards.cut(ranges, 10_000_000, 250_000)
    assert 32 <= len(planned) <= 50
    assert max(shard.rows_estimate for shard in planned) <= 250_000 * 1.3
    assert abs(sum(shard.rows_estimate for shard in planned) - 10_000_000) < len(planned)


def test_replicas_take_turns_at_being_first() -> None:
    ranges = [TokenRange(TOKEN_MIN, TOKEN_MAX, ("a", "b", "c"))]
    first = [shard.range["ranges"][0][2][0] for shard in shards.cut(ranges, 1_000_000, 250_000)]
    assert first == ["a", "b", "c", "a"]


def test_a_shard_survives_the_way_to_another_process() -> None:
    for shard in shards.cut(shards.tile([5], lambda token: ("a",)), 1_000_000, 100_000):
        assert pickle.loads(pickle.dumps(shard)) == shard
        assert json.loads(json.dumps(shard.range)) == shard.range
