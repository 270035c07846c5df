"""A Begin that fails leaves nothing behind that would fail the next one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from edge_agent.build import Copy
from edge_agent.connectors.contract import Shard, Source
from edge_agent.connectors.memory.store import MemoryStore
from edge_agent.executors import SerialExecutor
from edge_agent.policy import Policy
from edge_agent.service import Service
from paritree.core.digest import DatasetKeys
from paritree.core.errors import SourceError
from paritree.core.messages import Begin, Ready, Refusal, ReplyBody, Request
from paritree.core.profile import CANONICAL_VERSION, Binding, BoundColumn, Profile
from paritree.core.types import parse_type

PROFILE = Profile("orders", ("id",), {"id": parse_type("int")})
BEGIN = Request(0, "s", Begin("orders", PROFILE.profile_id, CANONICAL_VERSION), 10.0, 1)


async def begun(service: Service) -> ReplyBody:
    return [part async for part in service.handle(BEGIN)][-1]


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [ZeroDivisionError("a mistake"), SourceError("it is away", retryable=True)])
async def test_the_next_one_begins_anew(error: Exception, tmp_path: Path) -> None:
    """Also after an error that is not one of ours, which is passed on and not answered."""
    with MemoryStore("begins") as store:
        store.put("orders", pa.table({"id": pa.array(range(5), pa.int64())}), key=("id",))
        binding = Binding("orders", "orders", ("id",), (BoundColumn("id", parse_type("int"), source="id"),))
        copy = Copy(Source(store.url), PROFILE, binding, DatasetKeys.of(bytes(32), "orders"), 10, "plain")
        copies = {"orders": copy}
        service = Service("eu", "a1", "i1", copies, spool=tmp_path, executor=SerialExecutor, policy=Policy())

        def failing(_shard: Shard) -> None:
            raise error

        store.before_shard = failing
        if isinstance(error, SourceError):
            answer = await begun(service)
            assert isinstance(answer, Refusal)
            assert answer.retryable
        else:
            with pytest.raises(ZeroDivisionError):
                await begun(service)
        store.before_shard = None
        assert isinstance(await begun(service), Ready)
        await service.close()
