"""Which rows of a record batch are in a bucket: on canonical values, so that every engine agrees.

Columns of few distinct values are looked at once a value; times by their numbers, where nothing but flooring stands
between what a source holds and the canonical value; all else row by row. A row whose value cannot be canonicalised, or
that the connector rejected, stays: it is a dead letter of whatever is swept, never passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paritree.core import compute as pc
from paritree.core.canonical import encoder
from paritree.core.canonical.times import DAY_US, INT64_MAX, INT64_MIN
from paritree.core.carrier import plain_values
from paritree.core.digester import REJECTS
from paritree.core.errors import DeadLetter
from paritree.core.scope import DEPTHS, NULL, Bucket, Cut

UNREADABLE: Final = b""
"""In place of bucket bytes: no bucket can be told."""
_TICK_US: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}


def sifted(bucket: Bucket, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of the bucket, and those of which no bucket can be told; batches without any are left out."""
    for batch in batches:
        kept = batch.filter(pa.array(inside(bucket, batch)))
        if kept.num_rows:
            yield kept


def inside(bucket: Bucket, batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Which rows stay, shape (rows,)."""
    cut = bucket.cut
    units = _units(cut, batch)
    span = bucket.span()
    if units is not None and (span is not None or bucket.content == NULL):
        values, valid = units
        if span is None:
            return ~valid | _rejected(cut, batch)
        return (valid & (values >= span[0]) & (values < span[1])) | _rejected(cut, batch)
    numbers, found = numbered(cut, batch)
    wanted = np.array([content in (bucket.content, UNREADABLE) for content in found], bool)
    return wanted[numbers] if len(numbers) else np.zeros(0, bool)


def tally(cut: Cut, batch: pa.RecordBatch) -> Counter[bytes]:
    """How many rows of a batch are in each bucket, by bucket bytes; UNREADABLE where none can be told."""
    numbers, found = numbered(cut, batch)
    counts = np.bincount(numbers, minlength=len(found)).tolist()
    out: Counter[bytes] = Counter()
    for content, count in zip(found, counts, strict=True):
        if count:
            out[content] += count
    return out


def numbered(cut: Cut, batch: pa.RecordBatch) -> tuple[NDArray[np.int64], list[bytes]]:
    """(for each row, the number of its bucket in the list; bucket bytes, some of them perhaps several times)."""
    units = _units(cut, batch)
    rejected = _rejected(cut, batch)
    if units is not None:
        numbers, found = _by_time(cut, *units)
    elif len(cut.scope.columns) == 1:
        numbers, found = _by_value(cut, batch.column(cut.scope.columns[0]))
    else:
        numbers, found = _by_row(cut, batch)
    if rejected.any():
        numbers = np.where(rejected, len(found), numbers)
        found = [*found, UNREADABLE]
    return numbers, found


def _rejected(cut: Cut, batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Rows of which the connector rejected a value of a scope's column."""
    out = np.zeros(batch.num_rows, bool)
    if REJECTS in batch.schema.names:
        for row, named in enumerate(batch.column(REJECTS).to_pylist()):
            out[row] = any(reject["column"] in cut.scope.columns for reject in named or ())
    return out


def _by_time(cut: Cut, values: NDArray[np.int64], valid: NDArray[np.bool_]) -> tuple[NDArray[np.int64], list[bytes]]:
    a_day = 1 if cut.types[0].name == "date" else DAY_US
    infinite = (values == INT64_MAX) | (values == INT64_MIN)
    days = np.where(infinite, values, values // a_day)
    known, numbers = np.unique(days, return_inverse=True)
    found = [cut.bucket_at(day if day in (INT64_MAX, INT64_MIN) else day * a_day) for day in known.tolist()]
    return np.where(valid, numbers, len(found)), [*found, NULL]


def _by_value(cut: Cut, array: pa.Array) -> tuple[NDArray[np.int64], list[bytes]]:
    try:
        coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        distinct = coded.dictionary
        numbers = coded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False).astype(np.int64)
    except (pa.ArrowNotImplementedError, AttributeError):  # extension types and views are not encoded
        return np.arange(len(array)), [_of(cut, [value]) for value in plain_values(array, cut.types[0])]
    found = [_of(cut, [value]) for value in plain_values(distinct, cut.types[0])]
    return numbers, [*found, _of(cut, [None])]


def _by_row(cut: Cut, batch: pa.RecordBatch) -> tuple[NDArray[np.int64], list[bytes]]:
    columns = [plain_values(batch.column(name), kind) for name, kind in zip(cut.scope.columns, cut.types, strict=True)]
    return np.arange(batch.num_rows), [_of(cut, row) for row in zip(*columns, strict=True)]


def _of(cut: Cut, values: Sequence[Any]) -> bytes:
    try:
        return cut.bucket([encoder(kind)(value) for kind, value in zip(cut.types, values, strict=True)])
    except DeadLetter:
        return UNREADABLE


def _units(cut: Cut, batch: pa.RecordBatch) -> tuple[NDArray[np.int64], NDArray[np.bool_]] | None:
    """Microseconds (a date: days) of a column that is cut by time, and which are there.

    None where the canonical value might be another day's: rounded up, beyond the carrier's range, or not a number.
    """
    kind = cut.types[0]
    if cut.scope.kind not in DEPTHS or kind.rounding_mode != "floor":
        return None
    array = batch.column(cut.scope.columns[0])
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_date32(array.type) and kind.name == "date":
        return _numbers(array.cast(pa.int32()).cast(pa.int64())), valid
    if array.type == pa.int64():
        return _numbers(array), valid
    if (
        not pa.types.is_timestamp(array.type)
        or kind.name == "date"
        or (array.type.tz is None) != (kind.name == "datetime")
    ):
        return None
    ticks = _numbers(array.cast(pa.int64()))
    if array.type.unit == "ns":
        return ticks // 1_000, valid
    factor = _TICK_US[array.type.unit]
    limit = INT64_MAX // factor
    if len(ticks) and (int(ticks.max()) >= limit or int(ticks.min()) <= -limit):
        return None
    return ticks * factor, valid


def _numbers(array: pa.Array) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(array, 0), np.int64)
