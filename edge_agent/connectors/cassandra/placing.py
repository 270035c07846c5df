"""Pages as batches that are digested where they lie; whatever has no such form goes through the decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edge_agent.connectors import columns
from edge_agent.connectors.cassandra.cqltype import CqlType
from edge_agent.connectors.cassandra.decode import Rows
from edge_agent.connectors.cassandra.fast import locate
from edge_agent.connectors.cassandra.keys import is_askable
from edge_agent.connectors.cassandra.select import Select
from paritree.core import placed as forms
from paritree.core.placed import Placed, PlacedColumn

FORMS: Final = {
    "tinyint": forms.INT8,
    "smallint": forms.INT16,
    "int": forms.INT32,
    "bigint": forms.INT64,
    "counter": forms.INT64,
    "float": forms.FLOAT32,
    "double": forms.FLOAT64,
    "boolean": forms.BOOL,
    "ascii": forms.TEXT,
    "text": forms.TEXT,
    "varchar": forms.TEXT,
    "blob": forms.BYTES,
    "uuid": forms.UUID,
    "timeuuid": forms.UUID,
    "varint": forms.VARINT,
    "decimal": forms.SCALED,
    "date": forms.DAYS_CENTERED,
    "timestamp": forms.MS_1970,
}
"""CQL type -> the form in which it can be digested as it is."""


def can_place(select: Select) -> bool:
    """Whether rows need no look at several cells at once: folds, partitions of static columns, keys of many forms."""
    folded = any(column.parts for column in select.binding.columns)
    return not folded and select.witness is None and all(is_askable(kind, role) for _, kind, role in select.exact)


def placed(select: Select, rows: Rows, kinds: Sequence[CqlType]) -> Placed:
    """The rows of a page with their decoder. Raises SourceError where the page's lengths do not add up."""
    located = locate(rows, len(kinds))
    terms = {item.column: term for item, term in zip(columns.items(select.binding.columns), select.items, strict=True)}
    constants = {column.name: column for column in select.binding.columns if column.constant is not None}

    def array(name: str) -> tuple[pa.Array, list[int]]:
        if name in constants:
            return columns.constant(constants[name], located.rows), []
        found, bad = located.column(terms[name], kinds[terms[name]])
        return found, [row for row, _ in bad]

    def batches(wanted: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        found = located.taken(wanted).columns(kinds)
        yield select.assembled(found, len(wanted), select.rejected(found))

    placing = {
        name: PlacedColumn(FORMS[kinds[term].name], located.starts[term], located.lengths[term])
        for name, term in terms.items()
        if kinds[term].name in FORMS
    }
    return Placed(located.data, located.rows, len(rows.data) - rows.offset, placing, array, batches)
