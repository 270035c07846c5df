"""Sweeps as jobs: from the request to the outcome, with who paused or cancelled them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from coordinator.store.rows import AGAIN, OPEN, NewSweep, SweepRow, SweepState, Traffic, finding_values, sweep_of
from coordinator.store.tables import answers, findings, sweeps, traffic
from coordinator.store.transactions import Transactions
from paritree.core.errors import ConfigError, InvariantBroken

INSERT_ROWS: Final = 1_000
"""Rows of one insert statement: bounds what the driver keeps in memory."""
ERROR_CHARS_MAX: Final = 2_000
"""Reasons are cut at this length in the store."""


class Sweeps(Transactions):
    """The states of sweeps; every change is a compare-and-set on the state before it."""

    def begin(self, new: NewSweep) -> tuple[SweepRow, bool]:
        """The sweep of that job id, and whether the caller is the one to run it.

        A job id that is known gives the sweep it has; one that failed or was interrupted is begun anew under its old
        id. Raises ConfigError when the job id belongs to another request.
        """
        values = _queued(new, self._clock())
        with self._writing() as connection:
            run_it = self._insert(connection, {"id": new.id, "job_id": new.job_id, **values})
            row = self._one(connection, sweeps.c.job_id == new.job_id)
            if differing := _differing(row, new):
                raise ConfigError(
                    f"job '{new.job_id}' is a sweep of {row.dataset} over {', '.join(row.regions)}, "
                    f"and was asked for with another {' and another '.join(differing)}",
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
        for table in (findings, traffic, answers):
            connection.execute(sa.delete(table).where(table.c.sweep_id == sweep_id))
        return True

    def start(self, sweep_id: str) -> SweepRow:
        """A queued sweep begins to run. Raises InvariantBroken when it is not queued, or is paused."""
        queued = sa.update(sweeps).where(
            sweeps.c.id == sweep_id, sweeps.c.state == SweepState.QUEUED, sweeps.c.paused_by.is_(None)
        )
        with self._writing() as connection:
            if connection.execute(queued.values(state=SweepState.RUNNING)).rowcount != 1:
                raise InvariantBroken(f"store: sweep {sweep_id} is not queued")
            return self._one(connection, sweeps.c.id == sweep_id)

    def left_open(self) -> list[SweepRow]:
        """The sweeps that somebody has to run, oldest first: what a coordinator that ended had queued or running."""
        open_ones = sa.select(sweeps).where(sweeps.c.state.in_(OPEN), sweeps.c.paused_by.is_(None))
        with self._reading() as connection:
            rows = connection.execute(open_ones.order_by(sweeps.c.started_at, sweeps.c.id))
            return [sweep_of(row._asdict()) for row in rows]

    def unended(self) -> list[SweepRow]:
        """The sweeps that are queued, running or paused, oldest first."""
        open_ones = sa.select(sweeps).where(sweeps.c.state.in_(OPEN))
        with self._reading() as connection:
            rows = connection.execute(open_ones.order_by(sweeps.c.started_at, sweeps.c.id))
            return [sweep_of(row._asdict()) for row in rows]

    def requeue(self, sweep_id: str) -> None:
        """A running sweep that nobody runs any more waits for its turn again. No harm where it waits already."""
        running = sa.update(sweeps).where(sweeps.c.id == sweep_id, sweeps.c.state == SweepState.RUNNING)
        with self._writing() as connection:
            connection.execute(running.values(state=SweepState.QUEUED, resumed=sweeps.c.resumed + 1))

    def pause(self, sweep_id: str, operator: str) -> bool:
        """Let an open sweep rest until it is resumed; what was answered stays. False when it had ended."""
        values = {"state": SweepState.QUEUED, "paused_by": operator}
        return self._set(sweep_id, values, sweeps.c.cancelled_by.is_(None))

    def resume(self, sweep_id: str) -> bool:
        """A paused sweep waits for its turn again. False when it was not paused."""
        values = {"paused_by": None, "resumed": sweeps.c.resumed + 1}
        return self._set(sweep_id, values, sweeps.c.paused_by.is_not(None))

    def cancel(self, sweep_id: str, operator: str) -> bool:
        """An open sweep shall end with what it has found; who runs it ends it. False when it had ended."""
        again = sa.case((sweeps.c.paused_by.is_not(None), sweeps.c.resumed + 1), else_=sweeps.c.resumed)
        return self._set(sweep_id, {"cancelled_by": operator, "paused_by": None, "resumed": again})

    def _set(self, sweep_id: str, values: Mapping[str, Any], *where: sa.ColumnElement[bool]) -> bool:
        open_one = sa.update(sweeps).where(sweeps.c.id == sweep_id, sweeps.c.state.in_(OPEN), *where)
        with self._writing() as connection:
            return connection.execute(open_one.values(values)).rowcount == 1

    def finish(
        self,
        sweep_id: str,
        report: Mapping[str, Any],
        found: Sequence[Mapping[str, Any]] = (),
        moved: Sequence[Traffic] = (),
        *,
        cancelled: bool = False,
    ) -> None:
        """Keep the outcome of an open sweep: its report, all its findings and its traffic, or nothing of it.

        ``found`` has the form of the report's ``findings``. ``cancelled``: it was ended by whoever cancelled it; one
        that was complete before that is simply finished. Raises InvariantBroken when the sweep is not open.
        """
        outcome = {
            "state": SweepState.FINISHED,
            "verdict": report["verdict"],
            "report": dict(report),
            "finished_at": self._clock(),
            "paused_by": None,
        }
        if not cancelled:
            outcome["cancelled_by"] = None
        rows = [finding_values(sweep_id, number, finding) for number, finding in enumerate(found)]
        bytes_rows = [{"sweep_id": sweep_id, **asdict(item)} for item in moved]
        with self._writing() as connection:
            self._close(connection, sweep_id, outcome)
            for table, values in ((findings, rows), (traffic, bytes_rows)):
                for first in range(0, len(values), INSERT_ROWS):
                    connection.execute(sa.insert(table), values[first : first + INSERT_ROWS])

    def fail(self, sweep_id: str, reason: str, state: SweepState = SweepState.FAILED) -> None:
        """An open sweep came to no report. Raises InvariantBroken when it is not open."""
        outcome = {"state": state, "error": reason[:ERROR_CHARS_MAX], "finished_at": self._clock(), "paused_by": None}
        with self._writing() as connection:
            self._close(connection, sweep_id, outcome)

    def _close(self, connection: sa.Connection, sweep_id: str, outcome: Mapping[str, Any]) -> None:
        """The outcome, and nothing of the answers that led to it."""
        open_one = sa.update(sweeps).where(sweeps.c.id == sweep_id, sweeps.c.state.in_(OPEN))
        if connection.execute(open_one.values({**outcome, "checkpoint": None})).rowcount != 1:
            raise InvariantBroken(f"store: sweep {sweep_id} is not open")
        connection.execute(sa.delete(answers).where(answers.c.sweep_id == sweep_id))

    def _one(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> SweepRow:
        row = connection.execute(sa.select(sweeps).where(which)).first()
        if row is None:
            raise InvariantBroken("store: a sweep that was just written is not there")
        return sweep_of(row._asdict())

    def sweep(self, sweep_id: str) -> SweepRow | None:
        """The sweep of that id, or of that job id where no sweep has the id."""
        named = sa.or_(sweeps.c.id == sweep_id, sweeps.c.job_id == sweep_id)
        by_id_first = sa.case((sweeps.c.id == sweep_id, 0), else_=1)
        with self._reading() as connection:
            row = connection.execute(sa.select(sweeps).where(named).order_by(by_id_first)).first()
            return sweep_of(row._asdict()) if row is not None else None

    def newest(self, dataset: str, *, finished: bool = False) -> SweepRow | None:
        """The sweep of a dataset that was started last; only among finished ones if asked for."""
        which = sa.select(sweeps).where(sweeps.c.dataset == dataset)
        if finished:
            which = which.where(sweeps.c.state == SweepState.FINISHED)
        with self._reading() as connection:
            ordered = which.order_by(sweeps.c.started_at.desc(), sweeps.c.id.desc()).limit(1)
            row = connection.execute(ordered).first()
            return sweep_of(row._asdict()) if row is not None else None


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
        "checkpoint": None,
        "paused_by": None,
        "cancelled_by": None,
    }


def _differing(row: SweepRow, new: NewSweep) -> list[str]:
    """In what a stored request is not the new one. An option that is not there is one that is null."""
    named = {**dict.fromkeys(row.options), **dict.fromkeys(new.options)}
    return [
        *(["dataset"] if row.dataset != new.dataset else []),
        *(["set of regions"] if row.regions != new.regions else []),
        *(name for name in named if row.options.get(name) != new.options.get(name)),
    ]
