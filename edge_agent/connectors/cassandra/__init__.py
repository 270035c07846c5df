"""Cassandra: token ranges routed to replicas, raw result pages turned into Arrow."""

from __future__ import annotations

from edge_agent.connectors.cassandra.connector import CassandraConnector

__all__ = ["CassandraConnector"]
