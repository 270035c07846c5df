"""The pacer on a clock of its own: no second of these tests is a real one."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.pace import BACKOFF_RATIO_MAX, BURST_S, CHUNK_ROWS, PAUSE_S_MAX, LoadWatch, Pacer, Throttle, Waited
from paritree.core.errors import SourceError


class Clock:
    """Time that passes only by sleeping and by being told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


def pacer(clock: Clock, tasks: int = 1, **throttle: float) -> Pacer:
    return Pacer(Throttle(**throttle), tasks, clock=clock, sleep=clock.sleep)  # type: ignore[arg-type]


@given(
    rate=st.floats(1, 1e7),
    tasks=st.integers(1, 32),
    batches=st.lists(st.tuples(st.integers(1, 20_000), st.floats(0, 0.01)), min_size=20, max_size=60),
)
def test_the_rate_is_held(rate: float, tasks: int, batches: list[tuple[int, float]]) -> None:
    """All tasks together never read faster, and each reads at its share within 5 % where the source is fast enough."""
    clock = Clock()
    paced = pacer(clock, tasks, max_rate_rows_s=rate)
    began, rows = clock.now, 0
    for count, source_s in batches:
        clock.now += source_s
        paced.after(count, count * 100, source_s)
        rows += count
    elapsed = clock.now - began
    paid_s = rows * tasks / rate
    assert elapsed >= paid_s - BURST_S - 1e-6
    assert elapsed <= max(paid_s, sum(s for _, s in batches) + batches[-1][0] * tasks / rate) * 1.05 + BURST_S
    assert paced.waited.rate_s == pytest.approx(sum(clock.slept))


def test_a_steady_scan_has_its_rate_within_five_percent() -> None:
    clock = Clock()
    paced = pacer(clock, 4, max_rate_rows_s=100_000)
    began = clock.now
    for _ in range(200):
        clock.now += 0.02
        paced.after(16_384, 1 << 21, 0.02)
    assert 200 * 16_384 / (clock.now - began) == pytest.approx(25_000, rel=0.05)


def test_a_stall_is_not_made_up_for_but_for_a_moment() -> None:
    clock = Clock()
    paced = pacer(clock, max_rate_rows_s=1_000)
    paced.after(1_000, 0, 0.0)
    clock.now += 60.0
    began, rows = clock.now, 0
    while clock.now - began < 10:
        paced.after(100, 0, 0.0)
        rows += 100
    assert rows <= 1_000 * (10 + BURST_S) + 100


def test_nothing_sleeps_without_a_limit_or_below_the_target() -> None:
    clock = Clock()
    unlimited, targeted = pacer(clock), pacer(clock, chunk_target_s=0.5)
    for _ in range(1_000):
        unlimited.after(16_384, 1 << 21, 10.0)
        targeted.after(16_384, 1 << 21, 0.49 * 16_384 / CHUNK_ROWS)
    assert not clock.slept
    assert unlimited.waited == targeted.waited == Waited()
    assert unlimited.waited.note() == ""
    assert not Throttle().paces


def share(paced: Pacer, clock: Clock, chunk_s: float, chunks: int) -> float:
    """The part of the time that the source works, at the end of so many chunks that take it ``chunk_s`` each."""
    source_s = chunk_s / 10
    for _ in range(chunks * 10):
        before = clock.now
        clock.now += source_s
        paced.after(CHUNK_ROWS // 10, 0, source_s)
    return source_s / (clock.now - before)


def test_a_slower_source_is_left_alone_in_proportion_and_a_recovered_one_is_not() -> None:
    clock = Clock()
    paced = pacer(clock, chunk_target_s=0.5)
    assert share(paced, clock, 0.1, 10) == pytest.approx(1)
    assert share(paced, clock, 1.0, 20) == pytest.approx(0.5, rel=0.05)
    assert share(paced, clock, 2.0, 20) == pytest.approx(0.25, rel=0.05)
    assert share(paced, clock, 60.0, 20) == pytest.approx(1 / (1 + min(BACKOFF_RATIO_MAX, PAUSE_S_MAX / 6)), rel=0.05)
    assert share(paced, clock, 0.1, 30) == pytest.approx(1)
    slept = len(clock.slept)
    assert share(paced, clock, 0.1, 10) == pytest.approx(1)
    assert len(clock.slept) == slept
    assert max(clock.slept) <= PAUSE_S_MAX
    assert paced.waited.backoff_s == pytest.approx(sum(clock.slept))


def test_one_slow_batch_does_not_make_a_slow_source() -> None:
    """The average decays: a batch ten times as slow as the others is passed over."""
    clock = Clock()
    paced = pacer(clock, chunk_target_s=0.5)
    share(paced, clock, 0.1, 10)
    paced.after(CHUNK_ROWS // 10, 0, 0.1)
    assert not clock.slept


def test_a_late_first_answer_is_not_a_slow_source() -> None:
    clock = Clock()
    paced = pacer(clock, chunk_target_s=0.5)
    paced.after(64, 0, 0.5)
    assert not clock.slept


def test_wide_rows_are_measured_by_their_bytes() -> None:
    """100 rows of 1 MiB each in two seconds are 6 chunks of a third of a second, not a chunk of half an hour."""
    clock = Clock()
    paced = pacer(clock, chunk_target_s=0.5)
    for _ in range(10):
        paced.after(100, 100 << 20, 2.0)
    assert not clock.slept


def test_an_unknown_time_is_no_reason_to_back_off() -> None:
    clock = Clock()
    pacer(clock, chunk_target_s=0.001).after(10**6, 1 << 30, None)
    assert not clock.slept


def test_batches_go_through_unchanged_and_their_source_time_is_the_difference() -> None:
    clock = Clock()
    paced = pacer(clock, chunk_target_s=0.5)
    taken = 0.0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal taken
        for n in range(20):
            taken += 0.1 if n < 10 else 0.01
            yield pa.record_batch({"n": pa.array(range(10_000), pa.int64())})

    found = list(paced.paced(batches(), lambda: taken))
    assert [batch.num_rows for batch in found] == [10_000] * 20
    assert clock.slept[0] == pytest.approx(0.1)  # 1 s a chunk, twice the target
    assert paced.waited.backoff_s == pytest.approx(sum(clock.slept))


def test_shards_are_small_enough_for_the_rate() -> None:
    assert Throttle().shard_rows(250_000, 4) == 250_000
    assert Throttle(max_rate_rows_s=1e9).shard_rows(250_000, 4) == 250_000
    assert Throttle(max_rate_rows_s=1_000).shard_rows(250_000, 2) == 5_000
    assert Throttle(max_rate_rows_s=0.01).shard_rows(250_000, 2) == pytest.approx(1)


def test_no_shard_begins_while_the_source_is_loaded() -> None:
    clock = Clock()
    answers = ["replicas lag by 12 s"] * 3 + [""]
    ticks: list[float] = []
    watch = LoadWatch(Throttle(replica_lag_max_s=10), lambda: answers.pop(0), clock=clock, sleep=clock.sleep)
    watch.wait(lambda: ticks.append(clock.now))
    assert watch.waited_s == sum(clock.slept) == 3
    assert len(ticks) == 3


def test_a_load_that_does_not_end_is_an_error() -> None:
    clock = Clock()
    throttle = Throttle(backends_active_max=5, load_wait_max_s=30)
    watch = LoadWatch(throttle, lambda: "9 backends are active", clock=clock, sleep=clock.sleep)
    with pytest.raises(SourceError, match="loaded for 30 s: 9 backends are active") as caught:
        watch.wait(lambda: None)
    assert "load_wait_max_s" in caught.value.next_step
    assert sum(clock.slept) == 30


def test_a_source_whose_load_is_nobodys_business_is_not_asked() -> None:
    def asked() -> str:
        raise AssertionError

    LoadWatch(Throttle(max_rate_rows_s=1), asked).wait(asked)  # type: ignore[arg-type]


def test_what_was_waited_for_is_told_by_cause() -> None:
    rng = random.Random(4)
    parts = [Waited(rng.random(), rng.random(), 0.0) for _ in range(10)]
    total = sum(parts, Waited())
    assert total.total_s == pytest.approx(sum(p.rate_s + p.backoff_s for p in parts))
    assert (
        Waited(3.0, 0.2, 0.0).note() == "throttled for 3.2 s (rate limit 3.0 s, slow source 0.2 s; added up over tasks)"
    )
