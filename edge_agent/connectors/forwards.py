"""Local TCP ports that lead through an SSH bastion, shared by everything in one process that goes the same way.

A forward is opened by the first who needs it, with a thread of its own, and closes when nobody has had a connection
through it for :data:`IDLE_S`, or with the process. Its port stays the same as long as one of its users lives, even
when the bastion is lost: the connections through it are reset then, and the next one dials the bastion again. (A port
given up too early could be taken by a stranger, who would be sent what was meant for the database.)

The port listens on 127.0.0.1, where every user of this machine can connect to it: the database still asks who they are.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import copy
import threading
import time
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from edge_agent.connectors.bastion import CONNECT_S_MAX, OPTIONS, Bastion, dial
from edge_agent.connectors.contract import Connector, Source
from paritree.core.errors import ParitreeError, SourceError

if TYPE_CHECKING:
    import asyncssh

HOST: Final = "127.0.0.1"
IDLE_S: Final = 5.0
"""Kept so long without a connection: the next shard's connection comes sooner, and saves the SSH handshake."""
PIECE_BYTES: Final = 1 << 16
_ADMINISTRATIVELY_PROHIBITED: Final = 1
_CONNECT_FAILED: Final = 2
"""Reasons of RFC 4254, section 5.1, for a channel that was not opened."""


@dataclass(frozen=True, slots=True)
class Way:
    """Through which bastion to where; ``host`` is resolved there."""

    bastion: Bastion
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"through the SSH bastion {self.bastion} to {host}:{self.port}"


class Forward:
    """One local port and what goes through it. Its own thread runs everything that touches the network."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.opened: Future[int] = Future()
        """The port, once the bastion let us in; or the ParitreeError that says why not."""
        self.failures = 0
        """How many connections could not be led on so far."""
        self.opened.set_running_or_notify_cancel()  # one who stops waiting does not cancel it for the others
        self._failure: ParitreeError | None = None
        self.users: weakref.WeakSet[Connector] = weakref.WeakSet()
        """Connectors that may connect again; not until close() only: their plans may, and keep the connector alive."""
        self.touched = time.monotonic()
        self._carried: set[asyncio.Task[None]] = set()
        self._bastion: asyncssh.SSHClientConnection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"paritree-ssh-{way.bastion.host}", daemon=True)
        self._thread.start()

    def explained(self, error: ParitreeError, failures: int) -> ParitreeError:
        """Why a client of this port failed that began when there were so many ``failures``: the way, or its end."""
        if self._failure is not None and self.failures > failures:
            return self._failure
        told = copy.copy(error)
        told.message = f"{error.message} ({self.way})"
        return told

    def close(self) -> None:
        """Reset what goes through it and end its thread. Idempotent."""
        with _lock:
            first, self._closing = not self._closing, True
        if first and self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # its loop ended by itself just now
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        failure: BaseException = SourceError(f"closed: the way {self.way}", next_step="try again", retryable=True)
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass  # by close()
        except ParitreeError as error:
            failure = error  # it could not be opened
        except BaseException as error:
            failure = error
            raise
        finally:
            _forget(self)
            if not self.opened.done():
                self.opened.set_exception(failure)

    async def _main(self) -> None:
        self._loop, self._dialling = asyncio.get_running_loop(), asyncio.Lock()
        self._task = asyncio.current_task()
        if self._closing:  # by somebody who did not see the task yet
            return
        try:
            await self._dialled()
            async with await asyncio.start_server(self._accept, HOST, 0) as server:
                self.touched = time.monotonic()
                self.opened.set_result(server.sockets[0].getsockname()[1])
                while not _forgotten_idle(self, bool(self._carried)):
                    await asyncio.sleep(IDLE_S / 10)
        finally:
            for task in self._carried:
                task.cancel()
            await asyncio.gather(*self._carried, return_exceptions=True)
            if self._bastion is not None:
                self._bastion.abort()
                await self._bastion.wait_closed()

    async def _dialled(self) -> asyncssh.SSHClientConnection:
        """The connection to the bastion, a new one where it was lost."""
        async with self._dialling:
            if self._bastion is None or self._bastion.is_closed():
                self._bastion = await dial(self.way.bastion)
            return self._bastion

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._carried.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._carried.discard(task)
        self.touched = time.monotonic()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to the end of both directions; whatever goes wrong resets it."""
        import asyncssh

        far: asyncssh.SSHWriter[bytes] | None = None
        try:
            far_reader, far = await self._channel()
            await _both(_pump(reader, far), _pump(far_reader, writer))
            writer.close()  # in order: what is still to be sent is sent
            await writer.wait_closed()
        except ParitreeError as error:
            self._failure = error
            self.failures += 1
        except (OSError, asyncssh.Error):
            pass  # the client sees the reset, and says what it was doing
        finally:
            writer.transport.abort()
            if far is not None:
                far.channel.abort()

    async def _channel(self) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        import asyncssh

        try:
            async with asyncio.timeout(2 * CONNECT_S_MAX):
                bastion = await self._dialled()
                return await bastion.open_connection(self.way.host, self.way.port, encoding=None)
        except asyncssh.ChannelOpenError as error:
            raise _refused(self.way, error) from error
        except (OSError, asyncssh.Error) as error:  # TimeoutError is an OSError
            why = str(error) or type(error).__name__
            raise SourceError(f"no way {self.way}: {why}", next_step="try again", retryable=True) from error


async def _pump(
    source: asyncio.StreamReader | asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter | asyncssh.SSHWriter[bytes]
) -> None:
    while piece := await source.read(PIECE_BYTES):
        sink.write(piece)
        await sink.drain()
    sink.write_eof()


async def _both(first: Coroutine[Any, Any, None], second: Coroutine[Any, Any, None]) -> None:
    """Await both; when one raises, the other is cancelled."""
    tasks = [asyncio.create_task(first), asyncio.create_task(second)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _refused(way: Way, error: asyncssh.ChannelOpenError) -> SourceError:
    message = f"no way {way}: {error.reason or 'the bastion does not say why'}"
    if error.code == _ADMINISTRATIVELY_PROHIBITED:
        step = "allow the forward at the bastion (AllowTcpForwarding, PermitOpen, the key's permitopen)"
        return SourceError(message, next_step=step)
    step = "check host and port, and that the server runs and can be reached from the bastion"
    return SourceError(message, next_step=step, retryable=error.code == _CONNECT_FAILED or not error.code)


_forwards: dict[Way, Forward] = {}
_lock = threading.Lock()


def start_forward(way: Way) -> Forward:
    """The process's forward for this way; its future ``opened`` tells how it went."""
    with _lock:
        forward = _forwards.get(way)
        if forward is None:
            forward = _forwards[way] = Forward(way)
        forward.touched = time.monotonic()
        return forward


def close_forwards() -> None:
    """Close every forward of this process."""
    with _lock:
        forwards = list(_forwards.values())
    for forward in forwards:
        forward.close()


atexit.register(close_forwards)


def _forget(forward: Forward) -> None:
    with _lock:
        if _forwards.get(forward.way) is forward:
            del _forwards[forward.way]


def _forgotten_idle(forward: Forward, busy: bool) -> bool:
    """Whether nobody needs it any more; from then on nobody gets it."""
    with _lock:
        if busy or forward.users or time.monotonic() - forward.touched < IDLE_S:
            return False
        del _forwards[forward.way]
        return True


def connect_through(kind: type[Connector], source: Source) -> Connector:
    """Connect to a source whose option ``ssh`` names a bastion. Raises ConfigError or SourceError."""
    bastion = Bastion.of(source.options, source.secrets)
    options = {name: value for name, value in source.options.items() if name not in OPTIONS}
    secrets = {name: value for name, value in source.secrets.items() if name != "ssh_key_passphrase"}
    used: list[tuple[Forward, int]] = []

    def local_port(host: str, port: int) -> int:
        forward = start_forward(Way(bastion, host, port))
        opened = forward.opened.result()
        used.append((forward, forward.failures))
        return opened

    direct = kind.through(replace(source, options=options, secrets=secrets), local_port)
    try:
        connector = kind.connect(direct)
    except ParitreeError as error:
        for forward, failures in used:
            raise forward.explained(error, failures) from error
        raise
    for forward, _ in used:
        forward.users.add(connector)
    return connector
