"""The contract suite's fixtures: every connector of the entry points, each with its class of switches.

``switches/<engine>.py`` has one subclass of :class:`switches.base.Switches`; an engine without one fails the
collection, a missing server its tests: nothing is skipped. A hole is written in its engine's switches and is an
expected failure, strictly: a hole that has closed fails the suite until it is taken out.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from switches.base import Switches
from switches.found import switches_of, type_rows

from edge_agent.connectors.registry import GROUP

if TYPE_CHECKING:
    from connectors.pg_case import PgCase
    from servers.postgresql import PostgresqlServer

_DATABASES = itertools.count()
ENGINES = sorted(point.name for point in entry_points(group=GROUP))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "type_row" in metafunc.fixturenames:
        pairs = [(engine, row) for engine in ENGINES for row in type_rows(engine)]
        metafunc.parametrize(("engine", "type_row"), pairs, ids=[f"{engine}-{row}" for engine, row in pairs])
    elif "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ENGINES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = getattr(item, "callspec", None)
        engine = parameters.params.get("engine") if parameters is not None else None
        if engine not in ENGINES:
            continue
        name = getattr(item, "originalname", item.name)
        rest = "-".join(part for part in parameters.id.split("-") if part != engine)
        holes = switches_of(engine).holes
        if hole := holes.get(name) or holes.get(f"{name}[{rest}]"):
            item.add_marker(pytest.mark.xfail(reason=str(hole), strict=True))


@pytest.fixture
def store(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Switches]:
    """A fresh, empty store of the engine."""
    kind = switches_of(engine)
    server = request.getfixturevalue(kind.server) if kind.server else None
    made = kind(tmp_path, server)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pg(postgresql: PostgresqlServer) -> Iterator[PgCase]:
    """An empty PostgreSQL database with a connector on it."""
    from connectors.pg_case import PgCase

    name = f"case_{next(_DATABASES)}"
    postgresql.create_database(name)
    case = PgCase(postgresql, name)
    try:
        yield case
    finally:
        case.close()
