"""The store: short transactions over the tables, sync; the coordinator calls it through ``asyncio.to_thread``.

Every method raises SourceError when the database fails. Times are UTC and come from the clock that was passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, Self

import sqlalchemy as sa

from coordinator.store.engine import make_engine, translated
from coordinator.store.lease import WAIT_S, Lease
from coordinator.store.migrate import migrate
from coordinator.store.rows import (
    AGAIN,
    OPEN,
    AgentRow,
    NewSweep,
    SweepRow,
    SweepState,
    Traffic,
    finding_of,
    finding_values,
    sweep_of,
)
from coordinator.store.tables import agents, findings, sweeps, traffic
from paritree.core.errors import ConfigError, InvariantBroken

INSERT_ROWS: Final = 1_000
"""Rows of one insert statement: bounds what the driver keeps in memory."""
ERROR_CHARS_MAX: Final = 2_000
"""Reasons are cut at this length in the store."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Store:
    """An open store. Threads may share it."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], datetime] = utc_now) -> None:
        self._engine = engine
        self._clock = clock
        self._lease: Lease | None = None

    @classmethod
    def open(
        cls,
        url: str,
        *,
        password: str | None = None,
        clock: Callable[[], datetime] = utc_now,
        lease_wait_s: float = WAIT_S,
    ) -> Self:
        """Open a store as its only coordinator: migrate it, and mark what an earlier process left running.

        Raises ConfigError (unusable URL, newer schema, another coordinator has it) or SourceError.
        """
        store = cls(make_engine(url, password), clock)
        try:
            with translated(store._engine):
                store._lease = Lease.take(store._engine, lease_wait_s)
                migrate(store._engine)
            store._after_restart()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close every connection. Idempotent."""
        if self._lease is not None:
            self._lease.release()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with translated(self._engine), self._engine.begin() as connection:
            yield connection

    def _after_restart(self) -> None:
        left = {"state": SweepState.INTERRUPTED, "error": "the coordinator stopped", "finished_at": self._clock()}
        with self._transaction() as connection:
            connection.execute(sa.update(sweeps).where(sweeps.c.state.in_(OPEN)).values(left))
            connection.execute(sa.update(agents).where(agents.c.connected).values(connected=False))

    # --- agents -----------------------------------------------------------------------------------------------------

    def agent_connected(self, region: str, agent: str, instance: str) -> None:
        """An agent has connected; it replaces any other one of its region."""
        now = self._clock()
        values = {"instance": instance, "connected": True, "connected_since": now, "last_seen": now}
        with self._transaction() as connection:
            gone = sa.update(agents).where(agents.c.region == region, agents.c.agent != agent)
            connection.execute(gone.values(connected=False))
            this = sa.and_(agents.c.region == region, agents.c.agent == agent)
            if not connection.execute(sa.update(agents).where(this).values(values)).rowcount:
                connection.execute(sa.insert(agents).values(region=region, agent=agent, **values))

    def agent_gone(self, region: str, agent: str, instance: str) -> None:
        """A connection has ended; ignored when a newer instance of the agent is connected already."""
        this = sa.and_(agents.c.region == region, agents.c.agent == agent, agents.c.instance == instance)
        with self._transaction() as connection:
            connection.execute(sa.update(agents).where(this).values(connected=False, last_seen=self._clock()))

    def agents(self) -> list[AgentRow]:
        """Every agent ever seen, by region and name."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(agents).order_by(agents.c.region, agents.c.agent))
            return [AgentRow(**row._asdict()) for row in rows]

    # --- sweeps -----------------------------------------------------------------------------------------------------

    def begin(self, new: NewSweep) -> tuple[SweepRow, bool]:
        """The sweep of that job id, and whether the caller is the one to run it.

        A job id that is known gives the sweep it has; one that failed or was interrupted is begun anew under its old
        id. Raises ConfigError when the job id belongs to a sweep of something else.
        """
        values = _queued(new, self._clock())
        with self._transaction() as connection:
            run_it = self._insert(connection, {"id": new.id, "job_id": new.job_id, **values})
            row = self._one(connection, sweeps.c.job_id == new.job_id)
            if (row.dataset, row.regions) != (new.dataset, new.regions):
                raise ConfigError(
                    f"job '{new.job_id}' is a sweep of {row.dataset} over {', '.join(row.regions)}",
                    next_step="use another job id",
                )
            if not run_it and self._again(connection, row.id, values):
                run_it, row = True, self._one(connection, sweeps.c.id == row.id)
            return row, run_it

    def _insert(self, connection: sa.Connection, values: Mapping[str, Any]) -> bool:
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(sweeps).values(values))
        except sa.exc.IntegrityError:  # the job id is taken, by whoever committed first
            return False
        return True

    def _again(self, connection: sa.Connection, sweep_id: str, values: Mapping[str, Any]) -> bool:
        """Begin anew if it had failed or was interrupted; compare-and-set, so that only one of two callers does."""
        anew = sa.update(sweeps).where(sweeps.c.id == sweep_id, sweeps.c.state.in_(AGAIN))
        if connection.execute(anew.values({**values, "attempts": sweeps.c.attempts + 1})).rowcount != 1:
            return False
        for table in (findings, traffic):
            connection.execute(sa.delete(table).where(table.c.sweep_id == sweep_id))
        return True

    def start(self, sweep_id: str) -> None:
        """A queued sweep begins to run. Raises InvariantBroken when it is not queued."""
        queued = sa.update(sweeps).where(sweeps.c.id == sweep_id, sweeps.c.state == SweepState.QUEUED)
        with self._transaction() as connection:
            if connection.execute(queued.values(state=SweepState.RUNNING)).rowcount != 1:
                raise InvariantBroken(f"store: sweep {sweep_id} is not queued")

    def finish(
        self,
        sweep_id: str,
        report: Mapping[str, Any],
        found: Sequence[Mapping[str, Any]] = (),
        moved: Sequence[Traffic] = (),
    ) -> None:
        """Keep the outcome of an open sweep: its report, all its findings and its traffic, or nothing of it.

        ``found`` has the form of the report's ``findings``. Raises InvariantBroken when the sweep is not open.
        """
        outcome = {
            "state": SweepState.FINISHED,
            "verdict": report["verdict"],
            "report": dict(report),
            "finished_at": self._clock(),
        }
        rows = [finding_values(sweep_id, number, finding) for number, finding in enumerate(found)]
        bytes_rows = [{"sweep_id": sweep_id, **asdict(item)} for item in moved]
        with self._transaction() as connection:
            self._close(connection, sweep_id, outcome)
            for table, values in ((findings, rows), (traffic, bytes_rows)):
                for first in range(0, len(values), INSERT_ROWS):
                    connection.execute(sa.insert(table), values[first : first + INSERT_ROWS])

    def fail(self, sweep_id: str, reason: str, state: SweepState = SweepState.FAILED) -> None:
        """An open sweep came to no report. Raises InvariantBroken when it is not open."""
        outcome = {"state": state, "error": reason[:ERROR_CHARS_MAX], "finished_at": self._clock()}
        with self._transaction() as connection:
            self._close(connection, sweep_id, outcome)

    def _close(self, connection: sa.Connection, sweep_id: str, outcome: Mapping[str, Any]) -> None:
        open_one = sa.update(sweeps).where(sweeps.c.id == sweep_id, sweeps.c.state.in_(OPEN))
        if connection.execute(open_one.values(outcome)).rowcount != 1:
            raise InvariantBroken(f"store: sweep {sweep_id} is not open")

    def _one(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> SweepRow:
        row = connection.execute(sa.select(sweeps).where(which)).first()
        if row is None:
            raise InvariantBroken("store: a sweep that was just written is not there")
        return sweep_of(row._asdict())

    def sweep(self, sweep_id: str) -> SweepRow | None:
        """The sweep of that id."""
        with self._transaction() as connection:
            row = connection.execute(sa.select(sweeps).where(sweeps.c.id == sweep_id)).first()
            return sweep_of(row._asdict()) if row is not None else None

    def newest(self, dataset: str, *, finished: bool = False) -> SweepRow | None:
        """The sweep of a dataset that was started last; only among finished ones if asked for."""
        which = sa.select(sweeps).where(sweeps.c.dataset == dataset)
        if finished:
            which = which.where(sweeps.c.state == SweepState.FINISHED)
        with self._transaction() as connection:
            ordered = which.order_by(sweeps.c.started_at.desc(), sweeps.c.id.desc()).limit(1)
            row = connection.execute(ordered).first()
            return sweep_of(row._asdict()) if row is not None else None

    def findings(self, sweep_id: str, *, limit: int, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """One page of a sweep's findings in the form of the report, and how many there are in all."""
        own = findings.c.sweep_id == sweep_id
        with self._transaction() as connection:
            total = connection.scalar(sa.select(sa.func.count()).select_from(findings).where(own)) or 0
            page = sa.select(findings).where(own).order_by(findings.c.number).limit(limit).offset(offset)
            return [finding_of(row._asdict()) for row in connection.execute(page)], total

    def traffic(self, sweep_id: str) -> list[Traffic]:
        """A sweep's bytes by region, round and class."""
        named = [traffic.c[name] for name in Traffic.__slots__]
        with self._transaction() as connection:
            rows = connection.execute(sa.select(*named).where(traffic.c.sweep_id == sweep_id).order_by(*named[:3]))
            return [Traffic(**row._asdict()) for row in rows]


def _queued(new: NewSweep, now: datetime) -> dict[str, Any]:
    """A sweep's columns as it begins, for the first time or again."""
    return {
        "dataset": new.dataset,
        "profile_id": new.profile_id or None,
        "regions": list(new.regions),
        "options": dict(new.options),
        "operator": new.operator,
        "state": SweepState.QUEUED,
        "started_at": now,
        "finished_at": None,
        "error": None,
    }
