"""Record batches to digests by compiled kernels; the bytes and digests are those of the plain digester.

Three steps, each for what the one before did not decide, so that nothing is guessed and one odd value costs one row:

1. every row by kernels; a column without a kernel is encoded by the plain encoder and joined into the rows, and of one
   with a tolerance the kernels get the cells' numbers;
2. rows in which a kernel met a value that it does not decide (a number in another notation, text whose normal form
   must be computed, …): the same again, with the columns concerned encoded by the plain encoder;
3. rows with a value that does not fit its type, with a reject or with a null in the key: the plain digester.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paritree.core import compute as pc
from paritree.core.canonical import Encoder, RowEncoder, encoder
from paritree.core.canonical.pack import array_header
from paritree.core.carrier import plain_values
from paritree.core.digest import DIGEST_BYTES, DatasetKeys
from paritree.core.digester import REJECTS, DeadRow, DigestBatch, PlainDigester, RandomBytes
from paritree.core.errors import DeadLetter, InvariantBroken
from paritree.core.fast import layout as at
from paritree.core.fast.blake2b import key_state
from paritree.core.fast.cells import cells_of
from paritree.core.fast.plan import Column, canonical_column, check_offsets, described, described_placed
from paritree.core.fast.warming import ROWS
from paritree.core.placed import Placed
from paritree.core.profile import Profile
from paritree.core.types import LogicalType

_CELL = LogicalType("int")
"""What a cell's number is written as."""
_SCRATCH_BYTES_MIN, _SCRATCH_BYTES_MAX = 128 << 10, 2 << 20
"""Room for the rows of a tile: 256 rows of 384 bytes stay in the caches, long rows should still fill the lanes."""
_LANES_FILLED = 16
"""Average rows for which there is room at least, two groups of lanes; one that needs more gets it."""


@dataclass(frozen=True, slots=True)
class _Strings:
    """One of the byte strings that rows are turned into: its columns with their types, and what is done with it."""

    columns: tuple[tuple[str, LogicalType, Encoder], ...]
    options: int
    key_state: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class _Looked:
    """What the kernels made of a batch of n rows; ``state`` (n,) and ``flags`` (columns,) as in ``layout``."""

    key_digests: NDArray[np.uint64]
    row_digests: NDArray[np.uint64]
    locators: pa.LargeBinaryArray
    state: NDArray[np.uint8]
    flags: NDArray[np.uint8]


class CompiledDigester:
    """A :class:`~paritree.core.digester.Digester` in numba kernels that release the GIL. Threads may share it.

    The first one of a process loads its kernels from the cache, or compiles them (see
    :mod:`paritree.core.fast.warming`). Raises ConfigError where that cannot be: take the plain digester then.
    """

    def __init__(self, profile: Profile, keys: DatasetKeys, random_bytes: RandomBytes) -> None:
        self._kernel = ROWS.encode_rows
        self._profile = profile
        self._plain = PlainDigester(profile, keys, random_bytes)
        self._columns = profile.row_columns
        for_key, for_row = key_state(keys.for_key, DIGEST_BYTES), key_state(keys.for_row, DIGEST_BYTES)
        values = RowEncoder(profile)
        ruled = {name: (name, profile.columns[name], _of(values, name)) for name in self._columns}
        bare = {name: profile.columns[name].bare for name in profile.key}
        is_bare = all(bare[name] == profile.columns[name] for name in profile.key)
        key_columns = tuple(ruled[name] for name in profile.key)
        keep = at.KEEP if is_bare else 0
        in_key = 0 if profile.whole_row else at.IN_KEY  # a whole row may have nulls
        self._strings = [
            _Strings(key_columns, in_key | at.HASH | keep, for_key),
            _Strings(tuple(ruled[name] for name in self._columns), at.HASH, for_row),
        ]
        if not is_bare:
            locator = tuple((name, bare[name], encoder(bare[name])) for name in profile.key)
            self._strings.append(_Strings(locator, in_key | at.KEEP, for_key))

    def digest(self, batch: pa.RecordBatch | Placed) -> DigestBatch:
        """The digests of every row; see :class:`~paritree.core.digester.Digester`.

        Rows of a :class:`~paritree.core.placed.Placed` batch that needed its decoder come last.
        """
        if isinstance(batch, Placed):
            return self._digest_placed(batch)
        names = set(batch.schema.names)
        if missing := [name for name in self._columns if name not in names]:
            raise InvariantBroken(f"the scan left out the column '{missing[0]}'")
        batch = batch.select([*self._columns, *([REJECTS] if REJECTS in names else [])])
        looked = self._look(batch, frozenset())
        odd = np.flatnonzero(looked.state)
        if not len(odd):
            return DigestBatch(_bytes_of(looked.key_digests), _bytes_of(looked.row_digests), looked.locators, ())
        return self._completed(batch, looked, odd)

    def _digest_placed(self, batch: Placed) -> DigestBatch:
        looked = self._look(batch, frozenset())
        odd = np.flatnonzero(looked.state)
        key_digests, row_digests = _bytes_of(looked.key_digests), _bytes_of(looked.row_digests)
        if not len(odd):
            return DigestBatch(key_digests, row_digests, looked.locators, ())
        decided = looked.state == at.DECIDED
        parts = [DigestBatch(key_digests[decided], row_digests[decided], _kept(looked.locators, decided), ())]
        dead: list[DeadRow] = []
        first = 0
        for decoded in batch.batches(odd):
            parts.append(self.digest(decoded))
            dead += (replace(one, row=int(odd[first + one.row])) for one in parts[-1].dead)
            first += decoded.num_rows
        if first != len(odd):
            raise InvariantBroken(f"{len(odd)} rows were to be decoded, {first} came")
        return DigestBatch(
            np.concatenate([part.key_digests for part in parts]),
            np.concatenate([part.row_digests for part in parts]),
            pa.concat_arrays([part.locators for part in parts]),
            tuple(dead),
        )

    def _look(self, batch: pa.RecordBatch | Placed, plain: frozenset[str]) -> _Looked:
        """One pass of the kernels, with the named columns encoded by the plain encoder."""
        rows = batch.num_rows
        state = np.zeros(rows, np.uint8)
        flags = np.zeros(len(self._columns), np.uint8)
        if isinstance(batch, Placed):
            state[list(batch.odd)] |= at.UNDECIDED
        elif REJECTS in batch.schema.names:
            named = pc.fill_null(pc.list_value_length(batch.column(REJECTS)), 0)
            state[np.asarray(named) > 0] |= at.REFUSED
        digests = [np.empty((0, 2), np.uint64)] * 3
        locators = pa.array([], pa.large_binary())
        known: dict[tuple[str, LogicalType], Column] = {}
        for index, strings in enumerate(self._strings):
            for name, kind, encode in strings.columns:
                if (name, kind) not in known:
                    known[name, kind] = self._column(batch, name, kind, encode, name in plain, state, flags)
            columns = [known[name, kind] for name, kind, _ in strings.columns]
            digests[index], kept = self._run(strings, columns, state, flags)
            locators = locators if kept is None else kept
        return _Looked(digests[0], digests[1], locators, state, flags)

    def _column(
        self,
        batch: pa.RecordBatch | Placed,
        name: str,
        kind: LogicalType,
        encode: Encoder,
        plain: bool,
        state: NDArray[np.uint8],
        flags: NDArray[np.uint8],
    ) -> Column:
        number = self._columns.index(name)
        if isinstance(batch, Placed):
            if name in batch.columns and kind.tolerance is None:
                placed = described_placed(batch.columns[name], batch.data, kind, number)
                if placed is not None:
                    return placed
            array, rejected = batch.array(name)
            state[rejected] |= at.UNDECIDED
        else:
            array = batch.column(name)
        column = None if plain else self._decided(array, name, kind, state, flags)
        return column or _encoded(array, name, number, kind, encode, state)

    def _decided(
        self, array: pa.Array, name: str, kind: LogicalType, state: NDArray[np.uint8], flags: NDArray[np.uint8]
    ) -> Column | None:
        """The column for a kernel, or None without one; a column with a tolerance is one of its cells' numbers."""
        number = self._columns.index(name)
        if kind.tolerance is None:
            return described(array, kind, number, in_key=name in self._profile.lookup_key)
        check_offsets(array, f"column '{name}'")
        cells = cells_of(array, kind)
        if cells is None:
            return None
        state[cells.undecided] |= at.UNDECIDED
        flags[number] |= cells.undecided.any()
        return described(cells.numbers, _CELL, number, in_key=False)

    def _run(
        self, strings: _Strings, columns: list[Column], state: NDArray[np.uint8], flags: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint64], pa.LargeBinaryArray | None]:
        rows = len(state)
        head = array_header(len(columns))
        program = np.array([column.words for column in columns])
        call = np.zeros(at.CALL_WORDS, np.int64)
        call[at.HEAD_BYTES_WORD], call[at.HEAD_BYTES] = int.from_bytes(head, "little"), len(head)
        call[at.ROWS], call[at.OPTIONS] = rows, strings.options
        digests = np.empty((rows if strings.options & at.HASH else 0, 2), np.uint64)
        keep = bool(strings.options & at.KEEP)
        fixed = len(head) + int(program[:, at.BYTES_MAX].sum())
        room = rows * fixed + sum(column.span_bytes for column in columns) + at.ROW_SLACK
        data = np.empty(room if keep else 0, np.uint8)
        offsets = np.zeros(rows + 1 if keep else 0, np.int64)
        wanted = room // max(rows, 1) * _LANES_FILLED
        scratch = np.empty(min(max(wanted, _SCRATCH_BYTES_MIN), _SCRATCH_BYTES_MAX), np.uint8)
        while (
            result := self._kernel(program, call, strings.key_state, scratch, state, flags, digests, offsets, data)
        ) > 0:
            scratch = np.empty(result, np.uint8)
        if result != at.DONE:
            raise _broken(result, strings)
        if not keep:
            return digests, None
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        return digests, pa.LargeBinaryArray.from_buffers(pa.large_binary(), rows, buffers)

    def _completed(self, batch: pa.RecordBatch, looked: _Looked, odd: NDArray[np.int64]) -> DigestBatch:
        """The second and third step, for the ``odd`` rows."""
        again = odd[looked.state[odd] == at.UNDECIDED]
        last = odd[looked.state[odd] != at.UNDECIDED]
        locators = [looked.locators]
        source = np.arange(len(looked.state))
        if len(again):
            plain = frozenset(name for name, flag in zip(self._columns, looked.flags, strict=True) if flag)
            second = self._look(_taken(batch, again), plain)
            looked.key_digests[again], looked.row_digests[again] = second.key_digests, second.row_digests
            source[again] = len(source) + np.arange(len(again))
            locators.append(second.locators)
            last = np.sort(np.concatenate([last, again[second.state != at.DECIDED]]))
        key_digests, row_digests = _bytes_of(looked.key_digests), _bytes_of(looked.row_digests)
        dead: list[DeadRow] = []
        plain_locators: list[bytes] = []
        plain_rows = self._plain.rows(_taken(batch, last)) if len(last) else []
        for index, row in zip(last.tolist(), plain_rows, strict=True):
            if row.dead:
                dead.append(DeadRow(index, row.dead, row.locator, row.dead_columns))
            source[index] = -1
            if row.locator is not None:
                key_digests[index] = np.frombuffer(row.key_digest, np.uint8)
                row_digests[index] = np.frombuffer(row.row_digest, np.uint8)
                source[index] = sum(map(len, locators)) + len(plain_locators)
                plain_locators.append(row.locator)
        locators.append(pa.array(plain_locators, pa.large_binary()))
        kept = source >= 0
        joined = pa.concat_arrays(locators).take(pa.array(source[kept]))
        return DigestBatch(key_digests[kept], row_digests[kept], joined, tuple(dead))


def _taken(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> pa.RecordBatch:
    """Some rows of a batch, at least one."""
    try:
        return batch.take(pa.array(rows))
    except pa.ArrowNotImplementedError:  # run ends and some views cannot be taken
        return pa.RecordBatch.from_pydict(
            {name: pa.concat_arrays([batch.column(name).slice(row, 1) for row in rows]) for name in batch.schema.names}
        )


def _kept(locators: pa.LargeBinaryArray, rows: NDArray[np.bool_]) -> pa.LargeBinaryArray:
    return locators.filter(pa.array(rows))


def _encoded(
    array: pa.Array, name: str, number: int, kind: LogicalType, encode: Encoder, state: NDArray[np.uint8]
) -> Column:
    """The column by the plain encoder."""
    check_offsets(array, f"column '{name}'")
    packed: list[bytes] = []
    for row, value in enumerate(plain_values(array, kind)):
        try:
            packed.append(encode(value))
        except DeadLetter:
            packed.append(b"")
            state[row] |= at.REFUSED
    return canonical_column(packed, number)


def _of(values: RowEncoder, name: str) -> Encoder:
    return lambda value: values.value_bytes(name, value)


def _bytes_of(digests: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Digests as an array of shape (n, 16), uint8."""
    return digests.view(np.uint8).reshape(-1, DIGEST_BYTES)


def _broken(result: int, strings: _Strings) -> Any:
    if result <= at.BROKEN_SPANS:
        name = strings.columns[at.BROKEN_SPANS - result][0]
        return InvariantBroken(f"column '{name}': Arrow offsets go back or past the end of their data")
    return InvariantBroken("the locators of a batch are longer than its key columns allow")
