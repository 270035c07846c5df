"""Map tasks over serial, threads or a Dask cluster; the one file that knows Dask.

All three give the same results, in the order in which they finish. A lost worker loses only the tasks it held, which
run again elsewhere. Few tasks more than workers are under way at once, which bounds memory and the load on the source.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from edge_agent.connections import UNBOUNDED, Connections, InFlight
from edge_agent.wanted import REST_S, Cancelled, demand_wanted, for_the_same
from paritree.core.errors import ConfigError, ParitreeError, SourceError

Task = TypeVar("Task")
Result = TypeVar("Result")

ATTEMPTS_MAX: Final = 3
"""Tries of one task when its error says that a retry can help; a shard is a second of work, so little is lost."""
THREAD: Final = "paritree-scan"
PAUSE_S: Final = 0.5
"""Pause before the second try, doubled before each further one."""


class Executor(ABC):
    """Runs tasks; close it after use. Closing is idempotent."""

    @abstractmethod
    def map(
        self, work: Callable[[Task], Result], tasks: Iterable[Task], connections: Connections = UNBOUNDED
    ) -> Iterator[Result]:
        """Results in the order of completion. Raises the first error of a task that a retry did not mend.

        A task is taken from ``tasks`` only when it is given to a worker, and has one of ``connections`` while it runs.
        """

    @property
    def workers(self) -> int:
        """Tasks that run at once."""
        return 1

    @property
    def alive(self) -> bool:
        """Whether it can still take tasks; one that cannot is replaced by a new one."""
        return True

    @abstractmethod
    def close(self) -> None:
        """Release workers."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Attempt:
    """A task's work with its retries; a class so that it can be sent to a worker process."""

    def __init__(self, work: Callable[[Any], Any], attempts: int = ATTEMPTS_MAX, pause_s: float = PAUSE_S) -> None:
        self._work = work
        self._attempts = attempts
        self._pause_s = pause_s

    def __call__(self, task: Any) -> Any:
        for attempt in range(1, self._attempts + 1):
            try:
                return self._work(task)
            except Cancelled:
                raise
            except ParitreeError as error:
                if not error.retryable or attempt == self._attempts:
                    raise
                time.sleep(self._pause_s * 2 ** (attempt - 1))
        raise AssertionError("unreachable")


class SerialExecutor(Executor):
    """One task after the other, in this thread."""

    def map(
        self, work: Callable[[Task], Result], tasks: Iterable[Task], connections: Connections = UNBOUNDED
    ) -> Iterator[Result]:
        attempt = Attempt(work)
        flight = InFlight(tasks, connections, 1, 0)
        try:
            while ready := list(flight.more()):
                result = attempt(ready[0])
                flight.ended()
                yield result
        finally:
            flight.all_ended()

    def close(self) -> None:
        """Nothing is held."""


class ThreadExecutor(Executor):
    """A pool of threads: compiled kernels and database waits leave Python's lock."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix=THREAD)

    def map(
        self, work: Callable[[Task], Result], tasks: Iterable[Task], connections: Connections = UNBOUNDED
    ) -> Iterator[Result]:
        attempt = for_the_same(Attempt(work))
        flight = InFlight(tasks, connections, self._workers, 1)
        running: set[concurrent.futures.Future[Result]] = set()
        try:
            while True:
                for task in flight.more():
                    running.add(self._pool.submit(attempt, task))
                if not running:
                    return
                done: set[concurrent.futures.Future[Result]] = set()
                while not done:  # none may have begun yet: the pool's threads may be at other work
                    demand_wanted()
                    done, running = concurrent.futures.wait(running, REST_S, concurrent.futures.FIRST_COMPLETED)
                for _ in done:
                    flight.ended()
                for future in done:
                    yield future.result()
        finally:
            running = {future for future in running if not future.cancel()}
            if not threading.current_thread().name.startswith(THREAD):  # else one of them would wait for itself
                concurrent.futures.wait(running)
            flight.all_ended()

    @property
    def workers(self) -> int:
        return self._workers

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class DaskOptions:
    """A local cluster of ``workers`` processes, or the scheduler at ``address`` (tls://…) with its certificates."""

    workers: int = 2
    address: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""


class DaskExecutor(Executor):
    """Dask futures on a cluster of this region: one task is one shard; scheduler and workers speak TLS only."""

    def __init__(self, options: DaskOptions) -> None:
        from distributed import Client, LocalCluster  # a second of imports that other executors do not pay

        logging.getLogger("distributed").setLevel(logging.ERROR)  # its import sets "info": every comm is told of

        self._cluster: LocalCluster | None = None
        security = _security(options)
        try:
            if options.address:
                self._client = Client(options.address, security=security, timeout=20, set_as_default=False)
            else:
                self._cluster = LocalCluster(
                    n_workers=options.workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address="127.0.0.1:0",  # None would try port 8787, and say so where it is taken
                    scheduler_kwargs={"dashboard": False},
                    security=security,
                    host="127.0.0.1",
                    silence_logs=logging.ERROR,
                )
                self._client = Client(self._cluster, security=security, set_as_default=False)
        except (OSError, TimeoutError, RuntimeError) as error:  # the last: a worker process that does not start
            if self._cluster is not None:
                self._cluster.close()
            if not options.address:
                raise SourceError(
                    f"the local Dask cluster did not start: {error}",
                    next_step="take the executor threads, or look into the log for the reason",
                ) from None
            raise SourceError(
                f"the Dask scheduler {options.address} cannot be reached: {error}",
                next_step="check [executor] scheduler_address and its certificate files in the agent file",
                retryable=True,
            ) from None

    def map(
        self, work: Callable[[Task], Result], tasks: Iterable[Task], connections: Connections = UNBOUNDED
    ) -> Iterator[Result]:
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        attempt = Attempt(work)
        batch = uuid.uuid4().hex[:12]
        numbers = itertools.count()
        workers = self.workers
        flight = InFlight(tasks, connections, workers, workers)

        def submit(task: Task) -> Any:
            return self._client.submit(attempt, task, key=f"shard-{batch}-{next(numbers)}", pure=False, retries=0)

        pending = as_completed([], loop=self._client.loop)
        try:
            pending.update([submit(task) for task in flight.more()])
            for future in pending:
                result = future.result()
                future.release()
                flight.ended()
                for task in flight.more():
                    pending.add(submit(task))
                yield result
        except KilledWorker as error:
            raise SourceError(
                f"a Dask worker died {error.allowed_failures + 1} times on one shard",
                next_step="give the workers more memory, or lower shard_rows in the agent file",
            ) from None
        finally:
            self._client.cancel(list(pending.futures), force=True)
            flight.all_ended()

    @property
    def workers(self) -> int:
        known = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return max(1, sum(int(worker["nthreads"]) for worker in known))

    @property
    def alive(self) -> bool:
        return bool(self._client.status == "running")

    def close(self) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _security(options: DaskOptions) -> Any:
    from distributed.security import Security

    if not options.address:
        return Security.temporary()
    files = {"ca": options.ca, "cert": options.cert, "key": options.key}
    if not options.address.startswith("tls://") or not all(files.values()):
        raise ConfigError(
            "a Dask scheduler is reached over TLS only: tasks carry the dataset key",
            next_step="name it tls://host:port and give ca, cert and key in [executor]",
        )
    return Security(
        tls_ca_file=options.ca,
        tls_client_cert=options.cert,
        tls_client_key=options.key,
        require_encryption=True,
    )


class SharedExecutor:
    """One executor for many scans, opened when the first one needs it and closed at the end."""

    def __init__(self, opener: Callable[[], Executor]) -> None:
        self._opener = opener
        self._lock = threading.Lock()
        self._executor: Executor | None = None

    def lend(self) -> Executor:
        """The executor, which its borrower cannot close. May be called in several threads at once."""
        with self._lock:
            if self._executor is not None and not self._executor.alive:
                self._executor.close()
                self._executor = None
            if self._executor is None:
                self._executor = self._opener()
            return _Lent(self._executor)

    def close(self) -> None:
        """Close the executor if it was opened. Idempotent."""
        with self._lock:
            if self._executor is not None:
                self._executor.close()
                self._executor = None

    def __enter__(self) -> SharedExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Lent(Executor):
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def map(
        self, work: Callable[[Task], Result], tasks: Iterable[Task], connections: Connections = UNBOUNDED
    ) -> Iterator[Result]:
        return self._executor.map(work, tasks, connections)

    @property
    def workers(self) -> int:
        return self._executor.workers

    def close(self) -> None:
        """The lender closes it."""


def open_executor(kind: str, workers: int, dask: DaskOptions | None = None) -> Executor:
    """The executor of that kind. Raises ConfigError for an unknown kind, SourceError for an unreachable scheduler."""
    match kind:
        case "serial":
            return SerialExecutor()
        case "threads":
            return ThreadExecutor(workers)
        case "dask":
            return DaskExecutor(dask or DaskOptions(workers=workers))
        case _:
            raise ConfigError(f"unknown executor '{kind}'", next_step="one of serial, threads, dask")
