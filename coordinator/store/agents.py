"""The agents that were seen."""

from __future__ import annotations

import sqlalchemy as sa

from coordinator.store.rows import AgentRow
from coordinator.store.tables import agents
from coordinator.store.transactions import Transactions


class Agents(Transactions):
    """Which agents are, or were, connected."""

    def agent_connected(self, region: str, agent: str, instance: str) -> None:
        """An agent has connected; it replaces any other one of its region."""
        now = self._clock()
        values = {"instance": instance, "connected": True, "connected_since": now, "last_seen": now}
        with self._writing() as connection:
            gone = sa.update(agents).where(agents.c.region == region, agents.c.agent != agent)
            connection.execute(gone.values(connected=False))
            this = sa.and_(agents.c.region == region, agents.c.agent == agent)
            if not connection.execute(sa.update(agents).where(this).values(values)).rowcount:
                connection.execute(sa.insert(agents).values(region=region, agent=agent, **values))

    def agent_gone(self, region: str, agent: str, instance: str) -> None:
        """A connection has ended; ignored when a newer instance of the agent is connected already."""
        this = sa.and_(agents.c.region == region, agents.c.agent == agent, agents.c.instance == instance)
        with self._writing() as connection:
            connection.execute(sa.update(agents).where(this).values(connected=False, last_seen=self._clock()))

    def agents(self) -> list[AgentRow]:
        """Every agent ever seen, by region and name."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(agents).order_by(agents.c.region, agents.c.agent))
            return [AgentRow(**row._asdict()) for row in rows]
