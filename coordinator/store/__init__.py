"""The coordinator's state store: agents seen, sweeps, traffic, findings; SQLite by default, PostgreSQL by URL.

The store itself is imported when it is first named: it loads SQLAlchemy and Alembic (0.3 s), and a comparison without a
coordinator of its own needs the plain values only.
"""

from typing import TYPE_CHECKING, Any

from coordinator.store.errors import Fenced
from coordinator.store.rows import AgentRow, Answer, NewSweep, SweepRow, SweepState, Traffic

if TYPE_CHECKING:
    from coordinator.store.store import Store

__all__ = ["AgentRow", "Answer", "Fenced", "NewSweep", "Store", "SweepRow", "SweepState", "Traffic"]


def __getattr__(name: str) -> Any:
    if name == "Store":
        from coordinator.store.store import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
