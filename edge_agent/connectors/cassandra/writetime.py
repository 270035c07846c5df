"""When rows were written: Cassandra keeps a write time for each cell, in microseconds since 1970.

A row's version is its newest cell's. It says all of the row only where every cell was written at one time, in one
statement then: a deleted cell leaves no time, the cells of a collection have one each, and what is older than the
newest cell may still be on its way. A row of key columns alone has no cell, so it has no version.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa

from edge_agent.connectors.cassandra.decode import Columns
from edge_agent.connectors.cassandra.identifiers import quote
from edge_agent.connectors.cassandra.schema import Column
from edge_agent.connectors.cassandra.select import Select
from edge_agent.connectors.contract import VERSION, VERSION_TYPE

_MULTICELL: Final = frozenset({"list", "set", "map", "udt"})


def dated(select: Select) -> Select | None:
    """The SELECT with the write times of the binding's cells as its last terms; None where no cell has one.

    A view has the times of its base table, but not of all cells; counters have none.
    """
    cells = _cells(select)
    named = [column for column in cells if not _of_many(column)]
    if select.table.base or not named or any(column.kind.name == "counter" for column in cells):
        return None
    terms = tuple(f"WRITETIME({quote(column.name)})" for column in named)
    return replace(select, terms=select.terms + terms, names=select.names + ((VERSION,),) * len(terms))


def versions(select: Select, plain: Select, found: Columns) -> pa.StructArray:
    """The versions of rows that were read with :func:`dated`'s SELECT of the ``plain`` one."""
    times = [array.cast(pa.int64()) for array in found.arrays[len(plain.terms) :]]
    if not len(times[0]):
        return pa.array([], VERSION_TYPE)
    known = np.array([array.is_valid().to_numpy(zero_copy_only=False) for array in times])
    at = np.array([array.fill_null(0).to_numpy() for array in times])
    newest = np.where(known, at, np.iinfo(np.int64).min).max(axis=0)
    whole = known.all(axis=0) & (at == newest).all(axis=0) & _covers(select, len(times))
    missing = pa.array(~known.any(axis=0))
    return pa.StructArray.from_arrays([pa.array(newest), pa.array(whole)], fields=list(VERSION_TYPE), mask=missing)


def _covers(select: Select, times: int) -> bool:
    """Whether everything that is read but the key has its time among those."""
    computed = any(column.expression is not None for column in select.binding.columns)
    return not computed and len(_cells(select)) == times


def _cells(select: Select) -> list[Column]:
    """The columns outside of the primary key that the binding reads."""
    read = {source for column in select.binding.columns for source in (column.source, *column.parts)}
    return [c for c in select.table.columns if c.name in read and c.role in ("regular", "static")]


def _of_many(column: Column) -> bool:
    return column.kind.name in _MULTICELL and not column.written.startswith("frozen<")
