"""The lease of a PostgreSQL store over a line that is lost, or to a server that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from servers.postgresql import PostgresqlServer

from coordinator.keeping import Keeper
from coordinator.store import Fenced, Store
from paritree.core.errors import SourceError

pytestmark = pytest.mark.servers
_numbers = itertools.count()


class Line:
    """A TCP proxy: while not ``open`` nothing gets through; ``cut`` ends what is connected, at both ends or at one."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.open = threading.Event()
        self.open.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._all: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._all += [near, far]
                self._pairs.append((near, far))
                for one, other in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._carry, args=(one, other)))
                    self._threads[-1].start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self.open.wait()
                other.sendall(data)

    def cut(self, *, server: bool) -> None:
        pairs, self._pairs = self._pairs, []
        for one in [sock for near, far in pairs for sock in ((near, far) if server else (near,))]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.open.set()
        for one in [self._server, *self._all]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5.0)
        for one in [self._server, *self._all]:
            one.close()


@pytest.fixture
def line(postgresql: PostgresqlServer) -> Iterator[Line]:
    made = Line(postgresql.port)
    yield made
    made.close()


@pytest.fixture
def store(postgresql: PostgresqlServer, line: Line) -> Iterator[Store]:
    url = postgresql.create_database(f"lease_{next(_numbers)}")
    with Store.open(url.replace(f":{postgresql.port}/", f":{line.port}/"), lease_wait_s=10.0) as opened:
        yield opened


@pytest.mark.parametrize("server", [True, False])
def test_a_session_that_was_lost_is_not_another_coordinator(store: Store, line: Line, server: bool) -> None:
    """A firewall forgot the connection: the client hears of it, the server goes on holding the lock for its session."""
    line.cut(server=server)
    time.sleep(0.5)
    store.renew()  # nobody else has ever had the store


@pytest.mark.parametrize("turn", range(6))
def test_two_renewals_do_not_take_each_other_for_another_coordinator(store: Store, line: Line, turn: int) -> None:
    """The keeper gives a renewal up after a third of the lease; its thread waits on, beside the next one's."""
    said: dict[int, BaseException | None] = {}

    def renew(number: int) -> None:
        try:
            store.renew()
            said[number] = None
        except BaseException as error:  # noqa: BLE001
            said[number] = error

    line.open.clear()
    threads = [threading.Thread(target=renew, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.3)
    with contextlib.suppress(OSError):
        for _near, far in line._pairs:
            far.shutdown(socket.SHUT_RDWR)  # the server has noticed long ago
    time.sleep(0.5)
    line.open.set()
    line.cut(server=True)
    for thread in threads:
        thread.join(20.0)
    print("SAID", said)
    assert not isinstance(said[1], Fenced), said  # what the keeper hears


def test_a_coordinator_that_has_lost_its_lease_ends(postgresql: PostgresqlServer, line: Line) -> None:
    """Its threads wait for a server that hangs, and would keep the process from ending."""
    url = postgresql.create_database("hung").replace(f":{postgresql.port}/", f":{line.port}/")
    store, said = Store.open(url, lease_wait_s=10.0), []
    jobs: Any = None

    def process() -> None:
        try:
            asyncio.run(Keeper(store, jobs, 1.5).run())  # as run_coordinator does
        except SourceError as error:
            said.append(error)

    line.open.clear()
    running = threading.Thread(target=process)
    running.start()
    running.join(12.0)
    hangs = running.is_alive()
    line.open.set()
    running.join(10.0)
    store.close()
    assert said
    assert not hangs, "eight leases later it still waits for the server"
