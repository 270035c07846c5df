"""The real servers, each started once for the whole run (or each worker of it) and only when a test asks for it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings

# Time says nothing on a machine that also runs databases; what must be fast is tested as a count or with a wide bound.
# Here, as "@given" takes the profile of the moment in which its module is imported.
settings.register_profile("paritree", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("paritree")

# The servers are plain modules of their own, so that benches and people can start them too.
sys.path.insert(0, str(Path(__file__).parent))

# A run in the background of a script starts with SIGINT ignored, and its children would inherit that; some tests
# interrupt processes, which then would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from servers.cassandra import CassandraServer
    from servers.nats import NatsServer
    from servers.postgresql import PostgresqlServer

LONGEST: Final = ("test_fuzz.py", "test_mutants.py", "test_seeds.py", "test_faults.py", "test_soak.py")
"""Files of a minute or more, which workers do not share: begun last, one would run while the other worker is idle.

Those that measure time come behind those that compute: at first ``deploy/test`` checks types beside them.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; all else stays in its order."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A running PostgreSQL server; tests make databases of their own in it."""
    from servers.postgresql import PostgresqlServer

    with PostgresqlServer() as server:
        yield server


@pytest.fixture(scope="session")
def cassandra() -> Iterator[CassandraServer]:
    """A running Cassandra node; tests make keyspaces of their own in it."""
    from servers.cassandra import CassandraServer

    with CassandraServer() as server:
        yield server


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    """A running NATS server with JetStream; tests make streams of their own in it."""
    from servers.nats import NatsServer

    with NatsServer() as server:
        yield server


@pytest.fixture(scope="session")
def pki_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority and certificates for a coordinator, an operator and agents (see conftest_tls)."""
    from conftest_tls import make_pki

    return make_pki(tmp_path_factory.mktemp("pki"))
