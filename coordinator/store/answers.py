"""What the regions of an open sweep have answered, a round at a time, so that nobody has to be asked again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from coordinator.store.rows import OPEN, Answer
from coordinator.store.tables import answers, sweeps
from coordinator.store.transactions import Transactions
from paritree.core.errors import InvariantBroken


class Answers(Transactions):
    """Checkpoints of sweeps; the outcome of a sweep deletes them."""

    def checkpoint(
        self, sweep_id: str, round_answers: Sequence[Answer], state: Mapping[str, Any], *, again: bool = False
    ) -> None:
        """Keep the answers of one round and what is known of the sweep after it (JSON), or nothing of both.

        ``again``: it may have been done already. Raises InvariantBroken when the sweep has ended, or has the answer.
        """
        with self._writing() as connection:
            own = sa.update(sweeps).where(sweeps.c.id == sweep_id, sweeps.c.state.in_(OPEN))
            if connection.execute(own.values(checkpoint=dict(state))).rowcount != 1:
                raise InvariantBroken(f"store: sweep {sweep_id} is not open")
            for answer in round_answers:
                if again:
                    same = answers.c.sweep_id == sweep_id, answers.c.region == answer.region
                    connection.execute(sa.delete(answers).where(*same, answers.c.number == answer.number))
                connection.execute(sa.insert(answers), list(_rows(sweep_id, answer)))

    def forget_answers(self, sweep_id: str) -> None:
        """Nothing of an open sweep was answered: it is asked from the start."""
        with self._writing() as connection:
            connection.execute(sa.delete(answers).where(answers.c.sweep_id == sweep_id))
            connection.execute(sa.update(sweeps).where(sweeps.c.id == sweep_id).values(checkpoint=None))

    def answers(self, sweep_id: str) -> list[Answer]:
        """Every stored answer, by region and number."""
        named = answers.c.region, answers.c.number
        query = sa.select(answers).where(answers.c.sweep_id == sweep_id).order_by(*named, answers.c.part)
        found: dict[tuple[str, int], dict[str, Any]] = {}
        with self._reading() as connection:
            for row in connection.execute(query):
                values = found.setdefault(
                    (row.region, row.number),
                    {name: getattr(row, name) for name in ("region", "number", "request", "at_s", "lost", "failed")}
                    | {"parts": []},
                )
                if row.lost is None:
                    values["parts"].append(row.body)
        return [Answer(**{**values, "parts": tuple(values["parts"])}) for values in found.values()]


def _rows(sweep_id: str, answer: Answer) -> Iterator[dict[str, Any]]:
    shared = {
        "sweep_id": sweep_id,
        "region": answer.region,
        "number": answer.number,
        "request": answer.request,
        "at_s": answer.at_s,
        "lost": answer.lost,
        "failed": answer.failed,
    }
    if answer.lost is not None:
        yield {**shared, "part": 0, "body": None}
        return
    for part, body in enumerate(answer.parts):
        yield {**shared, "part": part, "body": body}
