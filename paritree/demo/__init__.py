"""The demonstration: one public table in three regions and three engines, with drift that is known beforehand."""
