"""Connectors, one folder an engine, found through the entry points ``paritree.connectors``."""
