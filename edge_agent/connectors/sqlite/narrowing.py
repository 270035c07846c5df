"""What SQLite is asked for where one bucket is wanted: conditions that its rows fulfil, and few others do."""

from __future__ import annotations

from edge_agent.connectors.spellings import iso_day
from edge_agent.connectors.sqlite.lookup import all_of, any_of, predicate
from edge_agent.connectors.sqlite.scan import Condition, column_sql
from edge_agent.connectors.sqlite.schema import Table
from paritree.core.canonical.times import DAY_US
from paritree.core.profile import Binding, BoundColumn
from paritree.core.scope import Condition as Asked

DAYS_BEFORE, DAYS_AFTER = 2, 1
"""A text's own day against that of its instant in UTC: a zone is at most 23:59 hours, 24:00:00 is a day of its own."""


def narrowed(binding: Binding, table: Table) -> Condition | None:
    """The condition of the binding's bucket; None where nothing can be asked."""
    if binding.bucket is None:
        return None
    known = [_of(asked, binding.column(asked.column), table) for asked in binding.bucket.conditions()]
    conditions = [condition for condition in known if condition is not None]
    return all_of(conditions) if conditions else None


def _of(asked: Asked, column: BoundColumn, table: Table) -> Condition | None:
    if asked.null or asked.low is not None:
        if column.source is None:
            return None
        left = column_sql(column.source)
        return (f"{left} IS NULL", ()) if asked.null else _days(asked, left)
    return predicate(column, table)(asked.equals)


def _days(asked: Asked, left: str) -> Condition | None:
    """Texts begin with their day, but for years of more digits and infinities, which begin with a sign or a letter."""
    if asked.low is None or asked.high is None:
        return None
    unit = 1 if asked.type.name == "date" else DAY_US
    low, high = iso_day(asked.low // unit - DAYS_BEFORE), iso_day(-(-asked.high // unit) + DAYS_AFTER)
    if low is None or high is None:
        return None
    return any_of([(f"{left} >= ? AND {left} < ?", bounds) for bounds in ((low, high), ("+", "."))])
