"""Located COPY rows as a batch that is digested where it lies; whatever has no such form goes through the decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edge_agent.connectors.postgresql.decode import decode, decode_batches, repeated
from edge_agent.connectors.postgresql.primitives import Fields, Primitives, TooLarge
from edge_agent.connectors.postgresql.projection import Projection
from edge_agent.connectors.postgresql.tuples import Tuples
from paritree.core import placed as forms
from paritree.core.placed import Placed, PlacedColumn

FORMS: Final = {
    "bool": forms.BOOL,
    "int2": forms.INT16,
    "int4": forms.INT32,
    "int8": forms.INT64,
    "float4": forms.FLOAT32,
    "float8": forms.FLOAT64,
    "numeric": forms.NUMERIC,
    "text": forms.TEXT,
    "bytea": forms.BYTES,
    "date": forms.DAYS_2000,
    "time": forms.US_OF_DAY,
    "timestamp": forms.US_2000,
    "uuid": forms.UUID,
}
"""Decoder of a wire form (types.toml) -> the form in which it can be digested as it is."""


def placed(projection: Projection, tuples: Tuples, use: Primitives) -> Placed:
    """The rows with their decoder. Raises nothing now; the decoder raises SourceError for bytes that are malformed."""
    rows = tuples.rows
    outputs = {output.name: number for number, output in enumerate(projection.outputs)}
    constants = {column.name: column for column in projection.constants}

    def array(name: str) -> tuple[pa.Array, list[int]]:
        if name in constants:
            return repeated(constants[name], rows), []
        number = outputs[name]
        fields = Fields(tuples.data, tuples.at[number], tuples.size[number])
        try:
            column = decode(projection.outputs[number].type, fields, use)
        except TooLarge:  # then every row comes through ``batches``, some at a time
            return pa.nulls(rows), list(range(rows))
        return column.array, list(column.rejects)

    def batches(wanted: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        return decode_batches(projection, tuples.taken(wanted), use)

    columns = {
        name: PlacedColumn(FORMS[wire], tuples.at[number], tuples.size[number])
        for name, number in outputs.items()
        if (wire := projection.outputs[number].type.wire) in FORMS
    }
    return Placed(tuples.data, rows, tuples.nbytes, columns, array, batches)
