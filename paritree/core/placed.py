"""Rows in the source's own bytes: where each value stands, and in which form, for a digester that reads them there.

Copying every value into an Arrow array first costs as much again as digesting it. Arrow stays what defines a value:
whatever a digester does not decide from the bytes, it asks for as a record batch, one row or all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

INT8, INT16, INT32, INT64 = "int8", "int16", "int32", "int64"
"""Signed, big-endian, as all numbers here."""
FLOAT32, FLOAT64 = "float32", "float64"
BOOL = "bool"
"""One byte, false where it is 0."""
TEXT, BYTES = "text", "bytes"
UUID = "uuid"
VARINT = "varint"
"""Two's complement in as many bytes as there are."""
SCALED = "scaled"
"""A decimal: int32 scale, then a varint."""
NUMERIC = "numeric"
"""PostgreSQL's: int16 number of digits, weight, sign, scale, then the digits to the base 10,000."""
DAYS_2000, US_2000 = "days_2000", "us_2000"
"""int32 days and int64 microseconds since 2000-01-01, the ends of their range are the infinities."""
US_OF_DAY = "us_of_day"
DAYS_CENTERED = "days_centered"
"""uint32 days, 2^31 is 1970-01-01."""
MS_1970 = "ms_1970"


@dataclass(frozen=True, slots=True)
class PlacedColumn:
    """One column: int32 arrays of one item a row, ``at`` where its value begins and ``size`` its bytes (-1: null)."""

    form: str
    at: NDArray[np.int32]
    size: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Placed:
    """A batch of located rows; ``data`` (uint8) is the source's memory, valid until the next batch is asked for.

    ``array`` gives any column as its carrier, with the rows whose value no carrier can hold (null there); ``batches``
    gives rows by their numbers, with their rejects, in one record batch or more. ``odd`` are rows that must be read in
    that way. ``nbytes`` is what the rows take in ``data``.
    """

    data: NDArray[np.uint8]
    num_rows: int
    nbytes: int
    columns: Mapping[str, PlacedColumn]
    array: Callable[[str], tuple[pa.Array, list[int]]]
    batches: Callable[[NDArray[np.int64]], Iterator[pa.RecordBatch]]
    odd: tuple[int, ...] = ()
