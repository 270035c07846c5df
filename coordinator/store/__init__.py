"""The coordinator's state store: agents seen, sweeps, traffic, findings; SQLite by default, PostgreSQL by URL."""

from coordinator.store.fence import Fenced
from coordinator.store.rows import AgentRow, Answer, NewSweep, SweepRow, SweepState, Traffic
from coordinator.store.store import Store

__all__ = ["AgentRow", "Answer", "Fenced", "NewSweep", "Store", "SweepRow", "SweepState", "Traffic"]
