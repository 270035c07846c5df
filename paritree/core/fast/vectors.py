"""BLAKE2b's compression function over several messages at once, one in each 64-bit lane of a vector.

Written as LLVM vector code rather than left to the auto-vectoriser. Sixteen vectors are the state, so a vector is to be
one register where there are sixteen or more of its size: eight lanes with AVX-512, else four, which is one AVX2 or two
NEON registers. Eight lanes on AVX2 spend as long on moving the state to memory and back as on the rounds.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from llvmlite import ir
from numba.core import types

from paritree.core.fast.blake2b import IV, SIGMA
from paritree.core.fast.compiler import insert_function, intrinsic

LANES = 8 if llvm.get_host_cpu_features().get("avx512f") else 4
_I64 = ir.IntType(64)
_VECTOR = ir.VectorType(_I64, LANES)
_BYTES = 8 * LANES


def _constant(value: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


def _load(builder: ir.IRBuilder, address: Any, offset: int) -> Any:
    place = builder.inttoptr(builder.add(address, ir.Constant(_I64, offset)), _VECTOR.as_pointer())
    return builder.load(place, align=8)


def _store(builder: ir.IRBuilder, value: Any, address: Any, offset: int) -> None:
    place = builder.inttoptr(builder.add(address, ir.Constant(_I64, offset)), _VECTOR.as_pointer())
    builder.store(value, place, align=8)


def _load_row(builder: ir.IRBuilder, addresses: Any, lane: int, offset: int) -> Any:
    """As many message words of one lane's block as there are lanes; it may lie anywhere."""
    place = builder.inttoptr(builder.add(addresses, ir.Constant(_I64, 8 * lane)), _I64.as_pointer())
    block = builder.add(builder.load(place, align=8), ir.Constant(_I64, offset))
    return builder.load(builder.inttoptr(block, _VECTOR.as_pointer()), align=1)


def _shuffle(builder: ir.IRBuilder, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes))


def _transposed(builder: ir.IRBuilder, rows: list[Any]) -> list[Any]:
    """A square of words, rows becoming columns, in rounds of shuffles."""
    for width in (1, 2, 4)[: LANES.bit_length() - 1]:
        low = [i if not i & width else i - width + LANES for i in range(LANES)]
        high = [i + width if not i & width else i + LANES for i in range(LANES)]
        out = list(rows)
        for i in range(LANES):
            if not i & width:
                out[i] = _shuffle(builder, rows[i], rows[i + width], low)
                out[i + width] = _shuffle(builder, rows[i], rows[i + width], high)
        rows = out
    return rows


class _Rounds:
    """Emits the twelve rounds over the sixteen state vectors."""

    def __init__(self, builder: ir.IRBuilder, state: list[Any], message: list[Any]) -> None:
        self._builder = builder
        self._v = state
        self._m = message
        rotate = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        self._rotate_left = insert_function(builder.module, rotate, f"llvm.fshl.v{LANES}i64")

    def run(self) -> list[Any]:
        for order in SIGMA:
            for i in range(4):
                self._mix(i, 4 + i, 8 + i, 12 + i, order[2 * i], order[2 * i + 1])
            for i in range(4):
                column = (i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
                self._mix(*column, order[8 + 2 * i], order[9 + 2 * i])
        return self._v

    def _mix(self, a: int, b: int, c: int, d: int, x: int, y: int) -> None:
        v, add = self._v, self._builder.add
        v[a] = add(add(v[a], v[b]), self._m[x])
        v[d] = self._rotated(v[d], v[a], 32)
        v[c] = add(v[c], v[d])
        v[b] = self._rotated(v[b], v[c], 24)
        v[a] = add(add(v[a], v[b]), self._m[y])
        v[d] = self._rotated(v[d], v[a], 16)
        v[c] = add(v[c], v[d])
        v[b] = self._rotated(v[b], v[c], 63)

    def _rotated(self, left: Any, right: Any, bits: int) -> Any:
        value = self._builder.xor(left, right)
        return self._builder.call(self._rotate_left, [value, value, _constant(64 - bits)])


@intrinsic
def compress(_typing: Any, _state: Any, _blocks: Any, _counters: Any, _final: Any, _active: Any) -> Any:
    """One block of each lane into its state. Arguments are addresses of arrays of 64-bit words.

    state, (8, LANES): state word, lane. The others, (LANES,): blocks, where each lane's 128 bytes are; counters, bytes
    hashed so far, this block included; final, all ones where the block is the lane's last; active, lanes that have zero
    here keep their state.
    """
    signature = types.void(types.int64, types.int64, types.int64, types.int64, types.int64)

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        state_at, blocks_at, counters_at, final_at, active_at = arguments
        before = [_load(builder, state_at, _BYTES * word) for word in range(8)]
        message = [
            column
            for part in range(0, 128, _BYTES)
            for column in _transposed(builder, [_load_row(builder, blocks_at, lane, part) for lane in range(LANES)])
        ]
        v = before + [_constant(word) for word in IV]
        v[12] = builder.xor(v[12], _load(builder, counters_at, 0))
        v[14] = builder.xor(v[14], _load(builder, final_at, 0))
        v = _Rounds(builder, v, message).run()
        chosen = builder.icmp_unsigned("!=", _load(builder, active_at, 0), _constant(0))
        for word in range(8):
            after = builder.xor(before[word], builder.xor(v[word], v[word + 8]))
            _store(builder, builder.select(chosen, after, before[word]), state_at, _BYTES * word)
        return _context.get_dummy_value()

    return signature, generate
