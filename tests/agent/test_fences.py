"""Which coordinator an agent listens to: the one with the highest token that the sweep has had, over restarts too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from edge_agent import build as build_module
from edge_agent.build import Copy
from edge_agent.connectors.contract import Source
from edge_agent.connectors.memory.store import MemoryStore
from edge_agent.executors import SerialExecutor
from edge_agent.opened import FENCES_MAX, Fences
from edge_agent.policy import Policy
from edge_agent.scan import ScanTask, ShardResult
from edge_agent.service import Service
from edge_agent.warm import Following, WarmIndex
from paritree.core.digest import DatasetKeys
from paritree.core.messages import AskReveal, Begin, End, Ended, Ready, Refusal, RefusalCode, Request, Revealed
from paritree.core.profile import CANONICAL_VERSION, Binding, BoundColumn, Profile
from paritree.core.types import parse_type

PROFILE = Profile("orders", ("id",), {"id": parse_type("int")})
BEGIN = Begin("orders", PROFILE.profile_id, CANONICAL_VERSION)
ASK = AskReveal((b"d" * 16,), "audit")


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with MemoryStore("fences") as made:
        made.put("orders", pa.table({"id": pa.array(range(50), pa.int64())}), key=("id",))
        yield made


def copy_of(store: MemoryStore) -> Copy:
    binding = Binding("orders", "orders", ("id",), (BoundColumn("id", parse_type("int"), source="id"),))
    return Copy(Source(store.url), PROFILE, binding, DatasetKeys.of(bytes(32), "orders"), 10, "plain")


def agent(store: MemoryStore, spool: Path, warm: WarmIndex | None = None) -> Service:
    """A process of the agent over the same spool, which may keep an index."""
    copy = copy_of(store)
    indexes = {} if warm is None else {"orders": warm}
    return Service(
        "eu", "a1", "i1", {"orders": copy}, spool=spool, executor=SerialExecutor, policy=Policy("keys"), warm=indexes
    )


async def asked(service: Service, body: Any, fence: int, sweep_id: str = "s") -> Any:
    """The last part of the answer."""
    return [part async for part in service.handle(Request(0, sweep_id, body, 10.0, fence))][-1]


def is_fenced(answer: Any) -> bool:
    return isinstance(answer, Refusal) and (answer.code, answer.retryable) == (RefusalCode.FENCED, False)


@pytest.mark.asyncio
async def test_a_lower_token_is_refused_whatever_it_asks(store: MemoryStore, tmp_path: Path) -> None:
    service = agent(store, tmp_path)
    assert isinstance(await asked(service, BEGIN, 5), Ready)
    assert isinstance(await asked(service, ASK, 5), Revealed)
    assert isinstance(await asked(service, ASK, 6), Revealed)  # the next coordinator goes on with it
    for body in (BEGIN, ASK, End(), End(keep=True)):
        assert is_fenced(await asked(service, body, 5)), body
    assert isinstance(await asked(service, BEGIN, 4, "another"), Ready)  # another sweep is another matter
    assert isinstance(await asked(service, End(), 6), Ended)
    assert is_fenced(await asked(service, BEGIN, 5))  # nor does it begin anew what the newer one has ended


@pytest.mark.asyncio
async def test_a_restarted_agent_knows_the_token_still(store: MemoryStore, tmp_path: Path) -> None:
    first = agent(store, tmp_path)
    await asked(first, BEGIN, 5)
    await asked(first, ASK, 7)
    await first.close()
    for body in (BEGIN, ASK):
        assert is_fenced(await asked(agent(store, tmp_path), body, 6)), body
    second = agent(store, tmp_path)
    assert isinstance(await asked(second, ASK, 7), Revealed)
    assert is_fenced(await asked(second, ASK, 6))


@pytest.mark.asyncio
async def test_what_was_revealed_counts_over_restarts(store: MemoryStore, tmp_path: Path) -> None:
    """The cap of a policy is of the sweep, not of the process."""
    service = agent(store, tmp_path)
    service._policy = Policy("keys", keys_max=3)
    await asked(service, BEGIN, 1)
    run = service._sweeps["s"].built.index.runs[0]
    digests = [run.key_digests(row, row + 1).tobytes() for row in range(4)]
    revealed = await asked(service, AskReveal(tuple(digests[:2]), "audit"), 1)
    assert len(revealed.keys) == 2
    await service.close()
    service = agent(store, tmp_path)
    service._policy = Policy("keys", keys_max=3)
    refused = await asked(service, AskReveal(tuple(digests[2:]), "audit"), 1)
    assert (len(refused.keys), bool(refused.refused)) == (0, True)


@pytest.mark.asyncio
async def test_an_end_removes_what_an_earlier_process_kept(store: MemoryStore, tmp_path: Path) -> None:
    first = agent(store, tmp_path)
    await asked(first, BEGIN, 1)
    await first.close()
    assert list(tmp_path.glob("orders/s/*.run"))
    second = agent(store, tmp_path)
    assert isinstance(await asked(second, End(), 1), Ended)
    assert not list(tmp_path.glob("orders/s/*"))
    answer = await asked(second, ASK, 1)
    assert isinstance(answer, Refusal)
    assert answer.code is RefusalCode.NO_INDEX


class Slow:
    """Shards that are scanned one at a time, each when it is let; ``read`` are those that were begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[int] = []
        self.let = threading.Semaphore(0)
        scan = build_module.scan_shard

        def waits(task: ScanTask) -> ShardResult:
            self.read.append(task.shard.number)
            assert self.let.acquire(timeout=20)
            return scan(task)

        monkeypatch.setattr(build_module, "scan_shard", waits)

    async def begun(self, shards: int) -> None:
        """So many are."""
        while len(self.read) < shards:
            await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_an_index_is_scanned_on_while_its_coordinator_is_away(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator dies in the first scan; the next one waits for the same scan, and no shard is read twice."""
    slow = Slow(monkeypatch)
    with WarmIndex(copy_of(store), tmp_path / "index", Following("", max_age_s=3_600.0)) as warm:
        service = agent(store, tmp_path, warm)
        first = asyncio.create_task(asked(service, BEGIN, 1))
        await slow.begun(1)
        slow.let.release(2)
        await slow.begun(3)
        first.cancel()
        await asyncio.wait({first})
        second = asyncio.create_task(asked(service, BEGIN, 2))
        slow.let.release(3)
        assert isinstance(await second, Ready)
        assert slow.read == [0, 1, 2, 3, 4]
        await service.close()


@pytest.mark.asyncio
async def test_an_agent_that_stops_in_the_first_scan_of_an_index_goes_on_with_it(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    with WarmIndex(copy_of(store), tmp_path / "index", Following("", max_age_s=3_600.0)) as warm:
        service = agent(store, tmp_path, warm)
        begun = asyncio.create_task(asked(service, BEGIN, 1))
        slow.let.release(3)
        await slow.begun(4)
        closing = asyncio.create_task(service.close())
        await asyncio.sleep(0.05)
        slow.let.release(1)
        await closing
        assert (await begun).retryable
    slow.let.release(9)
    with WarmIndex(copy_of(store), tmp_path / "index", Following("", max_age_s=3_600.0)) as warm:
        service = agent(store, tmp_path, warm)
        assert isinstance(await asked(service, BEGIN, 1), Ready)
        await service.close()
    assert slow.read == [0, 1, 2, 3, 3, 4], "what was under way is read again, what was finished is not"


def test_tokens_of_old_sweeps_are_forgotten_first() -> None:
    fences = Fences()
    assert fences.admit("old", 9)
    assert fences.admit("used", 9)
    for number in range(FENCES_MAX):
        fences.admit(f"s{number}", 1)
        fences.admit("used", 9)
    assert not fences.admit("used", 8)
    assert fences.admit("old", 8)
