"""Loads and stores at raw addresses, for kernels: little-endian, any alignment, no bounds.

Every caller owns the proof that the address is inside a buffer; :mod:`paritree.core.fast.plan` checks the Arrow side,
:mod:`paritree.core.fast.rows` sizes the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from paritree.core.fast.compiler import insert_function, intrinsic
from paritree.core.fast.layout import WIDE

_I64 = ir.IntType(64)
_BYTES = ir.VectorType(ir.IntType(8), WIDE)


def _pointer(builder: ir.IRBuilder, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _loader(bits: int, signed: bool) -> Callable[..., Any]:
    kind = ir.IntType(bits)

    def load(_typing: Any, _address: Any) -> Any:
        def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
            value = builder.load(_pointer(builder, arguments[0], kind), align=1)
            if bits == 64:
                return value
            return builder.sext(value, _I64) if signed else builder.zext(value, _I64)

        return types.int64(types.int64), generate

    return intrinsic(load)


def _storer(bits: int) -> Callable[..., Any]:
    kind = ir.IntType(bits)

    def store(_typing: Any, _address: Any, _value: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
            address, value = arguments
            narrow = value if bits == 64 else builder.trunc(value, kind)
            builder.store(narrow, _pointer(builder, address, kind), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return intrinsic(store)


load_u8, load_u16, load_u32 = _loader(8, False), _loader(16, False), _loader(32, False)
load_i8, load_i16, load_i32, load_64 = _loader(8, True), _loader(16, True), _loader(32, True), _loader(64, True)
store_8, store_16, store_32, store_64 = _storer(8), _storer(16), _storer(32), _storer(64)


@intrinsic
def load_f32(_typing: Any, _address: Any) -> Any:
    """A 32-bit float, widened exactly, as the bits of a 64-bit one."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        value = builder.load(_pointer(builder, arguments[0], ir.FloatType()), align=1)
        return builder.bitcast(builder.fpext(value, ir.DoubleType()), _I64)

    return types.int64(types.int64), generate


@intrinsic
def float_bits(_typing: Any, _value: Any) -> Any:
    """The bits of the 64-bit float of an integer (exact up to 2**53)."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.sitofp(arguments[0], ir.DoubleType()), _I64)

    return types.int64(types.int64), generate


@intrinsic
def swapped(_typing: Any, _value: Any) -> Any:
    """The eight bytes in the other order: what a big-endian store writes."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.bswap(arguments[0])

    return types.int64(types.int64), generate


@intrinsic
def trailing_zeros(_typing: Any, _value: Any) -> Any:
    """Zero bits below the lowest one; 64 for zero."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate


@intrinsic
def copy_wide(_typing: Any, _target: Any, _source: Any) -> Any:
    """Copy 32 bytes; both ends must have them."""

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        target, source = arguments
        value = builder.load(_pointer(builder, source, _BYTES), align=1)
        builder.store(value, _pointer(builder, target, _BYTES), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def lower_wide(_typing: Any, _address: Any) -> Any:
    """Turn A to Z into a to z in 32 bytes, in place."""

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        place = _pointer(builder, arguments[0], _BYTES)
        value = builder.load(place, align=1)
        from_a = builder.sub(value, _repeated(ord("A")))
        is_upper = builder.icmp_unsigned("<", from_a, _repeated(26))
        builder.store(builder.select(is_upper, builder.or_(value, _repeated(32)), value), place, align=1)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def is_plain_wide(_typing: Any, _address: Any, _length: Any) -> Any:
    """1 where the first ``length`` bytes of 32 are ASCII without NUL, else 0; all 32 are read."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        address, length = arguments
        value = builder.load(_pointer(builder, address, _BYTES), align=1)
        odd = builder.icmp_signed("<=", value, _repeated(0))
        first = builder.insert_element(
            ir.Constant(_BYTES, ir.Undefined), builder.trunc(length, ir.IntType(8)), ir.Constant(ir.IntType(32), 0)
        )
        every = builder.shuffle_vector(
            first, ir.Constant(_BYTES, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), WIDE), [0] * WIDE)
        )
        counted = builder.icmp_signed("<", ir.Constant(_BYTES, list(range(WIDE))), every)
        kind = ir.FunctionType(ir.IntType(1), [ir.VectorType(ir.IntType(1), WIDE)])
        some = insert_function(builder.module, kind, f"llvm.vector.reduce.or.v{WIDE}i1")
        found = builder.call(some, [builder.and_(odd, counted)])
        return builder.zext(builder.not_(found), _I64)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def zero_block(_typing: Any, _address: Any) -> Any:
    """Set 128 bytes to zero."""

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        for offset in range(0, 128, WIDE):
            place = builder.add(arguments[0], ir.Constant(_I64, offset))
            builder.store(_repeated(0), _pointer(builder, place, _BYTES), align=1)
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _repeated(value: int) -> ir.Constant:
    return ir.Constant(_BYTES, [value] * WIDE)
