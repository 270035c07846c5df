"""Arrow arrays of any readable type as carriers: encodings and extension types undone, values unchanged."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edge_agent.connectors.columns import Reject, assemble, items
from paritree.core.profile import Binding

_UNIT_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
_DAY_MS = 86_400_000
_INT64_MAX = (1 << 63) - 1


def bound(batch: pa.RecordBatch, binding: Binding) -> pa.RecordBatch:
    """A batch of source columns as the binding's batch."""
    arrays: list[pa.Array] = []
    rejects: list[Reject] = []
    for item in items(binding.columns):
        array, found = carrier(batch.column(item.source), item.column)
        arrays.append(array)
        rejects += found
    return assemble(binding.columns, arrays, batch.num_rows, rejects)


def carrier(array: pa.Array, column: str) -> tuple[pa.Array, list[Reject]]:
    """The array as a carrier, and the rows of ``column`` whose value has none (null in the carrier)."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return carrier(array.storage, column)
    if pa.types.is_dictionary(kind):
        return carrier(array.dictionary_decode(), column)
    if pa.types.is_date64(kind):
        return _dates(array, column)
    if pa.types.is_duration(kind):
        return _durations(array, column)
    return _plain(array), []


def _plain(array: pa.Array) -> pa.Array:
    """Without dictionaries, views and extension types at any depth; the same array where it has none."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _plain(array.storage)
    if pa.types.is_dictionary(kind):
        return _plain(array.dictionary_decode())
    if pa.types.is_string_view(kind):
        return array.cast(pa.large_utf8())
    if pa.types.is_binary_view(kind):
        return array.cast(pa.large_binary())
    if pa.types.is_fixed_size_list(kind):
        return _plain(_as_list(array))
    if pa.types.is_map(kind):
        return _rebuilt(
            array, [pa.StructArray.from_arrays([_plain(array.keys), _plain(array.items)], ["key", "value"])]
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _rebuilt(array, [_plain(array.values)])
    if pa.types.is_struct(kind):
        fields = [_plain(array.field(index)) for index in range(kind.num_fields)]
        names = [kind.field(index).name for index in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, names, mask=pc.is_null(array))
    return array


def _as_list(array: pa.FixedSizeListArray) -> pa.ListArray:
    """A null of a fixed-size list still has its slots: flattening leaves them out, so the offsets skip them too."""
    valid = np.asarray(pc.is_valid(array).to_numpy(zero_copy_only=False), dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(valid * array.type.list_size)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), array.flatten(), mask=pc.is_null(array))


def _rebuilt(array: pa.Array, children: list[pa.Array]) -> pa.Array:
    """A list or map array over other children: validity, offsets and slice stay."""
    kind = array.type
    if pa.types.is_map(kind):
        made = pa.map_(children[0].type.field(0).type, children[0].type.field(1).type)
    else:
        made = (pa.large_list if pa.types.is_large_list(kind) else pa.list_)(children[0].type)
    if made == kind:
        return array
    return pa.Array.from_buffers(made, len(array), array.buffers()[:2], -1, array.offset, children)


def _dates(array: pa.Array, column: str) -> tuple[pa.Array, list[Reject]]:
    ticks, null = _ticks(array)
    wrong = ticks % _DAY_MS != 0
    made = pa.array(ticks // _DAY_MS, pa.int64(), mask=null | wrong)
    return made, [(int(row), column, "a date64 that is not midnight") for row in np.flatnonzero(wrong & ~null)]


def _ticks(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The int64 values (0 where null) and the mask of nulls."""
    ticks = np.asarray(array.cast(pa.int64()).fill_null(0))
    return ticks, np.asarray(pc.is_null(array).to_numpy(zero_copy_only=False))


def _durations(array: pa.Array, column: str) -> tuple[pa.Array, list[Reject]]:
    """As 16 bytes (months, days, microseconds): an elapsed time has neither months nor days."""
    ticks, null = _ticks(array)
    unit = array.type.unit
    if unit == "ns":
        micros, wrong, reason = ticks // 1_000, ticks % 1_000 != 0, "a duration finer than a microsecond"
    else:
        factor = _UNIT_US[unit]
        wrong, reason = np.abs(ticks) > _INT64_MAX // factor, "a duration beyond 64-bit microseconds"
        micros = np.where(wrong, 0, ticks) * factor
    packed = np.zeros((len(array), 2), dtype=">i8")
    packed[:, 1] = micros
    values = pa.Array.from_buffers(pa.binary(16), len(array), [None, pa.py_buffer(packed.tobytes())])
    made = pc.if_else(pa.array(null | wrong), pa.scalar(None, pa.binary(16)), values)
    return made, [(int(row), column, reason) for row in np.flatnonzero(wrong & ~null)]
