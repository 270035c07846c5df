"""Named in-process tables of Arrow data: for tests, simulation, and comparing data that a program already holds."""

from edge_agent.connectors.memory.connector import MemoryConnector
from edge_agent.connectors.memory.store import MemoryStore

__all__ = ["MemoryConnector", "MemoryStore"]
