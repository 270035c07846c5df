"""The compiled form of ``pgoutput.read_keys``, whose steps these are. Importing this module loads numba.

Every place is checked against the end of its message, and that against the data, before it is read: numba does not
check by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.connectors.postgresql.tuples import Bytes, Places
from paritree.core.fast.compiler import inner, kernel

_END, _OTHER, _FULL, _STRANGER, _NULL_KEY, _NO_KEY, _MALFORMED = range(7)  # as in pgoutput.py
_IN_TRANSACTION, _COMMITTED, _KEYS, _XIDS, _CHANGES, _DATED, _FIRST_US, _LAST_US = range(8)
_OID, _COLUMNS, _FIRST_KEY = range(3)
_TAKEN = -1
"""A message was taken in."""
_B, _C, _I, _U, _D, _K, _O, _N = 66, 67, 73, 85, 68, 75, 79, 78
_NULL, _UNCHANGED, _TEXT, _BINARY = 110, 117, 116, 98
_OF_NULL, _OF_UNCHANGED, _OF_TEXT = -1, -2, -3
"""Sizes that stand for what is no value."""


@inner
def _number(data: Bytes, place: Any, count: int) -> Any:
    value = np.int64(0)
    for byte in range(count):
        value = (value << 8) | np.int64(data[place + byte])
    return value


@inner
def _key_column(relations: NDArray[np.int64], relation: int, column: int) -> Any:
    """Which part of the key a column is, -1 for none."""
    for part in range(relations.shape[1] - _FIRST_KEY):
        if relations[relation, _FIRST_KEY + part] == column:
            return part
    return -1


@inner
def _row(
    data: Bytes,
    place: Any,
    end: Any,
    relations: NDArray[np.int64],
    relation: int,
    cell_at: NDArray[np.int64],
    cell_size: NDArray[np.int64],
) -> Any:
    """Read a row, write where its key is; returns the place behind it, -1 when it is malformed."""
    columns = relations[relation, _COLUMNS]
    if place + 2 > end or _number(data, place, 2) != columns:
        return np.int64(-1)
    place += 2
    for column in range(columns):
        if place >= end:
            return np.int64(-1)
        kind = data[place]
        place += 1
        size = np.int64(_OF_NULL)
        at = place
        if kind in (_TEXT, _BINARY):
            if place + 4 > end:
                return np.int64(-1)
            size = _number(data, place, 4)
            at = place + 4
            if size > end - at:  # also what is negative with a sign
                return np.int64(-1)
            place = at + size
            if kind == _TEXT:
                size = np.int64(_OF_TEXT)
        elif kind == _UNCHANGED:
            size = np.int64(_OF_UNCHANGED)
        elif kind != _NULL:
            return np.int64(-1)
        part = _key_column(relations, relation, column)
        if part >= 0:
            cell_at[part] = at
            cell_size[part] = size
    return place


@inner
def _problem(size: Any, if_null: int) -> Any:
    if size >= 0:
        return _TAKEN
    if size == _OF_UNCHANGED:
        return _NO_KEY
    return if_null if size == _OF_NULL else _MALFORMED


@inner
def _keys(
    data: Bytes,
    has_old: bool,
    has_new: bool,
    no_old: int,
    state: NDArray[np.int64],
    key_at: Places,
    key_size: Places,
    cell_at: NDArray[np.int64],
    cell_size: NDArray[np.int64],
) -> Any:
    """Write the old key where it is another one, and the new one; see ``_Output._keys`` of pgoutput.py."""
    same = has_old and has_new
    for column in range(key_at.shape[0]):
        if has_old:
            why = _problem(cell_size[0, column], no_old)
            if why != _TAKEN:
                return why
        if has_new:
            if has_old and cell_size[1, column] == _OF_UNCHANGED:
                cell_at[1, column] = cell_at[0, column]
                cell_size[1, column] = cell_size[0, column]
            why = _problem(cell_size[1, column], _NULL_KEY)
            if why != _TAKEN:
                return why
        if same and cell_size[0, column] != cell_size[1, column]:
            same = False
        byte = 0
        while same and byte < cell_size[0, column]:
            same = data[cell_at[0, column] + byte] == data[cell_at[1, column] + byte]
            byte += 1
    for which in range(2):
        if (which == 0 and has_old and not same) or (which == 1 and has_new):
            key = state[_KEYS]
            for column in range(key_at.shape[0]):
                key_at[column, key] = cell_at[which, column]
                key_size[column, key] = cell_size[which, column]
            state[_KEYS] += 1
    state[_CHANGES] += 1
    return _TAKEN


@inner
def _change(
    data: Bytes,
    place: Any,
    end: Any,
    kind: Any,
    relations: NDArray[np.int64],
    state: NDArray[np.int64],
    key_at: Places,
    key_size: Places,
    cell_at: NDArray[np.int64],
    cell_size: NDArray[np.int64],
) -> Any:
    """Take one change in; see ``_Output._change`` of pgoutput.py. Rows 0 and 1 of the cells: the old, the new key."""
    if not state[_IN_TRANSACTION] or place + 4 > end:
        return _MALFORMED
    oid = _number(data, place, 4)
    place += 4
    relation = 0
    while relation < relations.shape[0] and relations[relation, _OID] != oid:
        relation += 1
    if relation == relations.shape[0]:
        return _STRANGER
    if state[_KEYS] + 2 > key_at.shape[1]:
        return _FULL
    if place >= end:
        return _MALFORMED
    part = data[place]
    place += 1
    no_old = _NULL_KEY if part == _O else _NO_KEY
    has_old = kind != _I and part in (_K, _O)
    has_new = kind != _D
    if has_old:
        place = _row(data, place, end, relations, relation, cell_at[0], cell_size[0])
        if place < 0:
            return _MALFORMED
        if has_new:
            if place >= end:
                return _MALFORMED
            part = data[place]
            place += 1
    if has_new:
        if part != _N:
            return _MALFORMED
        place = _row(data, place, end, relations, relation, cell_at[1], cell_size[1])
        if place < 0:
            return _MALFORMED
    elif not has_old:
        return _MALFORMED
    if place != end:
        return _MALFORMED
    return _keys(data, has_old, has_new, no_old, state, key_at, key_size, cell_at, cell_size)


@kernel(
    "UniTuple(int64, 2)(uint8[::1], int32[::1], int32[::1], int64, int64[:, ::1], int64[::1], int32[:, ::1],"
    " int32[:, ::1], uint32[::1])"
)
def read_keys(
    data: Bytes,
    at: Places,
    size: Places,
    first: int,
    relations: NDArray[np.int64],
    state: NDArray[np.int64],
    key_at: Places,
    key_size: Places,
    xids: NDArray[np.uint32],
) -> tuple[Any, int]:
    """See ``pgoutput.read_keys``."""
    parts = key_at.shape[0]
    cell_at = np.zeros((2, parts), np.int64)
    cell_size = np.zeros((2, parts), np.int64)
    message: Any = np.int64(first)
    if first < 0 or size.size != at.size or key_size.shape[0] != parts or key_size.shape[1] != key_at.shape[1]:
        return message, _MALFORMED
    if relations.shape[1] != _FIRST_KEY + parts:
        return message, _MALFORMED
    while message < at.size:
        place, end = np.int64(at[message]), np.int64(at[message]) + np.int64(size[message])
        if place < 0 or size[message] < 1 or end > data.size:
            return message, _MALFORMED
        kind = data[place]
        place += 1
        if kind == _B:
            if end - place != 20 or state[_IN_TRANSACTION]:
                return message, _MALFORMED
            if state[_XIDS] >= xids.size:
                return message, _FULL
            xids[state[_XIDS]] = _number(data, place + 16, 4)
            state[_XIDS] += 1
            state[_IN_TRANSACTION] = 1
        elif kind == _C:
            if end - place != 25 or not state[_IN_TRANSACTION] or data[place + 9] > 127:
                return message, _MALFORMED
            state[_COMMITTED] = _number(data, place + 9, 8)
            state[_IN_TRANSACTION] = 0
            if state[_CHANGES] > state[_DATED]:
                at_us = _number(data, place + 17, 8)
                if state[_DATED] == 0 or at_us < state[_FIRST_US]:
                    state[_FIRST_US] = at_us
                if state[_DATED] == 0 or at_us > state[_LAST_US]:
                    state[_LAST_US] = at_us
                state[_DATED] = state[_CHANGES]
        elif kind in (_I, _U, _D):
            why = _change(data, place, end, kind, relations, state, key_at, key_size, cell_at, cell_size)
            if why != _TAKEN:
                return message, why
        else:
            return message, _OTHER
        message += 1
    return message, _END
