"""What sweeps found and moved, for those who read it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from coordinator.store.rows import Traffic, finding_of
from coordinator.store.tables import findings, traffic
from coordinator.store.transactions import Transactions


class Outcomes(Transactions):
    """Findings and traffic of ended sweeps."""

    def findings(self, sweep_id: str, *, limit: int, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """One page of a sweep's findings in the form of the report, and how many there are in all."""
        own = findings.c.sweep_id == sweep_id
        with self._reading() as connection:
            total = connection.scalar(sa.select(sa.func.count()).select_from(findings).where(own)) or 0
            page = sa.select(findings).where(own).order_by(findings.c.number).limit(limit).offset(offset)
            return [finding_of(row._asdict()) for row in connection.execute(page)], total

    def traffic(self, sweep_id: str) -> list[Traffic]:
        """A sweep's bytes by region, round and class."""
        named = [traffic.c[name] for name in Traffic.__slots__]
        with self._reading() as connection:
            rows = connection.execute(sa.select(*named).where(traffic.c.sweep_id == sweep_id).order_by(*named[:3]))
            return [Traffic(**row._asdict()) for row in rows]
