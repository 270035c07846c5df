"""Stores on both engines, each test with an empty one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordinator.store import Store

if TYPE_CHECKING:
    from servers.postgresql import PostgresqlServer

_numbers = itertools.count()


class Clock:
    """A clock that moves a second with every look, so that order is never a matter of luck."""

    def __init__(self) -> None:
        self.now = datetime(2024, 3, 31, 0, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.create_database(f"store_{next(_numbers)}")


@pytest.fixture
def opened(store_url: str) -> Iterator[Callable[..., Store]]:
    """Opens the store of this test; all are closed at its end."""
    stores: list[Store] = []

    def open_store(**options: object) -> Store:
        stores.append(Store.open(store_url, clock=Clock(), **{"lease_wait_s": 10.0, **options}))  # type: ignore[arg-type]
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()
