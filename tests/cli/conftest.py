"""A coordinator's server in a thread with a loop of its own, for the command line to talk to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operated import Operated, report_of, served
from shop import Shop


@pytest.fixture
def operated(pki_dir: Path, tmp_path: Path) -> Iterator[Operated]:
    """A running coordinator whose every sweep is equal, until the test sets another script."""

    async def equal(dataset: str, **_: Any) -> dict[str, Any]:
        return report_of(dataset)

    operated = Operated(pki_dir, equal)
    ready, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(served(operated, tmp_path, ready, stop),))
    thread.start()
    assert ready.wait(20)
    yield operated
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    assert not thread.is_alive()
    loop.close()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A folder with good and bad tables, and the command line in it."""
    monkeypatch.chdir(tmp_path)
    return Shop(tmp_path)
