"""The circuit breakers, so that a restart does not forget which regions were failing."""

from __future__ import annotations

from dataclasses import asdict

import sqlalchemy as sa

from coordinator.store.tables import breakers
from coordinator.store.transactions import Transactions
from paritree.core.breaker import Breaker, Circuit

REASON_CHARS_MAX = 2_000


class BreakerTable(Transactions):
    """Circuit breakers by region and dataset; one that is closed and has no failures has no row."""

    def breakers(self) -> dict[tuple[str, str], Breaker]:
        """All that are not as new."""
        with self._reading() as connection:
            return {
                (row.region, row.dataset): Breaker(
                    Circuit(row.circuit), row.failures, row.opened, row.retry_at, row.reason
                )
                for row in connection.execute(sa.select(breakers))
            }

    def set_breaker(self, region: str, dataset: str, breaker: Breaker) -> None:
        """Keep its state."""
        with self._writing() as connection:
            own = sa.and_(breakers.c.region == region, breakers.c.dataset == dataset)
            connection.execute(sa.delete(breakers).where(own))
            if breaker != Breaker():
                values = {**asdict(breaker), "reason": breaker.reason[:REASON_CHARS_MAX]}
                connection.execute(sa.insert(breakers).values(region=region, dataset=dataset, **values))
