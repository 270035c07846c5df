"""The coordinator's state store: agents seen, sweeps, traffic, findings; SQLite by default, PostgreSQL by URL."""

from coordinator.store.rows import AgentRow, NewSweep, SweepRow, SweepState, Traffic
from coordinator.store.store import Store

__all__ = ["AgentRow", "NewSweep", "Store", "SweepRow", "SweepState", "Traffic"]
