"""A hostile region that is asked for clear keys hurts nobody's report but by its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from durable import ORDER, Durable, store_url

from paritree.core.messages import AskReveal, Ready, ReplyBody, RequestBody, Revealed

pytestmark = pytest.mark.asyncio
ROWS = [(n, f"name {n}", "1.5") for n in range(40)]
TEXTS = {
    "no JSON": "{",
    "no object": "[1]",
    "a number": "5",
    "no number of JSON": '{"id": NaN}',
    "a long number": '{"id": ' + "1" * 5_000 + "}",
    "deep": '{"id": ' + "[" * 100_000 + "]" * 100_000 + "}",
}


class Hostile:
    """A link to an agent that reveals what it likes."""

    def __init__(self, link: Any, text: str) -> None:
        self._link, self._text = link, text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def ask(self, body: RequestBody, *, sweep_id: str, timeout_s: float) -> AsyncGenerator[ReplyBody, None]:
        if isinstance(body, AskReveal):
            yield Revealed(self.header, dict.fromkeys(body.key_digests, self._text))
            return
        async for part in self._link.ask(body, sweep_id=sweep_id, timeout_s=timeout_s):
            if isinstance(part, Ready):
                self.header = part.header
                part = replace(part, disclosure="keys")
            yield part


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_what_a_region_reveals_fails_no_sweep(
    memory_regions: Callable[[], Any], tmp_path: Path, text: str
) -> None:
    regions = memory_regions()
    regions.add("ap", ROWS)
    regions.add("eu", ROWS)
    regions.add("us", ROWS[:-2])
    links = {**regions.links, "ap": Hostile(regions.links["ap"], text)}
    one = Durable(store_url(tmp_path), regions.profile, links)
    async with one.coordinator() as (control, store):
        report = await one.swept(control, replace(ORDER, purpose="audit"))
        assert report["verdict"] == "different"
        assert report["findings_total"] == 2
        assert one.row(store).report is not None
