"""Compiled kernels without their compiler: the object code that numba made, linked and called.

numba takes 0.35 s and 60 MiB in every process that imports it; linking what it once made takes some milliseconds. A
kernel is called as compiled code calls it (``numba.core.callconv.CPUCallConv``): it returns a status, writes its result
to its first argument, and takes an array as seven or more machine words.
"""

from __future__ import annotations

import ctypes
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np

MEMORY: Final = """
declare i8* @malloc(i64)
declare void @free(i8*)

define i8* @NRT_MemInfo_alloc_aligned(i64 %bytes, i32 %alignment) {
  %wide = zext i32 %alignment to i64
  %more = add i64 %wide, 48
  %whole = add i64 %bytes, %more
  %info = call i8* @malloc(i64 %whole)
  %none = icmp eq i8* %info, null
  br i1 %none, label %out, label %fill
fill:
  %start = ptrtoint i8* %info to i64
  %least = add i64 %start, 47
  %past = add i64 %least, %wide
  %mask = sub i64 0, %wide
  %data = and i64 %past, %mask
  %words = bitcast i8* %info to i64*
  store i64 1, i64* %words
  %place = getelementptr i64, i64* %words, i64 3
  store i64 %data, i64* %place
  br label %out
out:
  ret i8* %info
}

define void @NRT_MemInfo_call_dtor(i8* %info) {
  call void @free(i8* %info)
  ret void
}
"""
"""Memory of arrays that a kernel makes for itself, as compiled code knows it (``MemInfo`` of numba's nrt.cpp): a count
of references in the first word, the address of the data in the fourth. Alignments are powers of two."""
DATA_WORD: Final = 3
KNOWN_SYMBOLS: Final = frozenset({"NRT_MemInfo_alloc_aligned", "NRT_MemInfo_call_dtor", "memset", "memcpy", "memmove"})
"""What object code may leave to be linked; anything else would need numba's own library."""

_SIGNATURE = re.compile(r"(?P<result>UniTuple\(int64, \d\)|\w+)\((?P<arguments>.*)\)")
_ARRAY = re.compile(r"(?P<item>u?int\d+|float64)\[(?P<more>(?::, )*)::1\]")
_READ_ONLY = re.compile(r"Array\((?P<item>\w+), (?P<ndim>\d), 'C', readonly=True\)")
_TUPLE = re.compile(r"UniTuple\(int64, (?P<length>\d)\)")
_INT64 = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True, slots=True)
class ObjectCode:
    """One kernel: a relocatable object file, the symbol to be called, and the signature in numba's words."""

    symbol: str
    signature: str
    code: bytes


class Kernel:
    """A linked kernel. Calls leave Python's lock to others; arguments of other types than the signature's raise."""

    def __init__(self, made: ObjectCode) -> None:
        found = _SIGNATURE.fullmatch(made.signature)
        if found is None:
            raise TypeError(f"a kernel of signature {made.signature}")
        self._arguments = [_argument(text) for text in _split(found["arguments"])]
        self._result = _result(found["result"])
        kinds = [kind for argument in self._arguments for kind in argument.kinds]
        entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *kinds)
        self._entry = entry(_linked(made))
        self.signature = made.signature

    def __call__(self, *values: Any) -> Any:
        """Raises TypeError for other arguments, MemoryError where the kernel had no memory for its own arrays."""
        if len(values) != len(self._arguments):
            raise TypeError(f"{len(values)} arguments for {self.signature}")
        words: list[Any] = []
        for argument, value in zip(self._arguments, values, strict=True):
            words += argument.words(value)
        result, excuse = self._result(), ctypes.c_void_p()
        if status := self._entry(ctypes.addressof(result), ctypes.addressof(excuse), *words):
            raise MemoryError(f"a kernel ended with status {status}")
        value = result.value if not isinstance(result, ctypes.Array) else tuple(result)
        return value if self._result is not _Nothing else None


class _Nothing(ctypes.c_int64):
    """The result of a kernel that has none."""


@dataclass(frozen=True, slots=True)
class _Int:
    kinds: Sequence[Any] = (ctypes.c_int64,)

    def words(self, value: Any) -> tuple[int]:
        number = operator.index(value)
        if number not in _INT64:
            raise OverflowError(f"{number} is no int64")
        return (number,)


@dataclass(frozen=True, slots=True)
class _Bool:
    kinds: Sequence[Any] = (ctypes.c_uint8,)

    def words(self, value: Any) -> tuple[int]:
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{type(value).__name__} is no boolean")
        return (int(value),)


@dataclass(frozen=True, slots=True)
class _Array:
    item: np.dtype[Any]
    ndim: int
    writable: bool

    @property
    def kinds(self) -> Sequence[Any]:
        """Two owners, items, bytes of an item, address, shape, strides."""
        return (*[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p, *[ctypes.c_int64] * (2 * self.ndim))

    def words(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, np.ndarray) or value.dtype != self.item or value.ndim != self.ndim:
            given = f"{value.dtype}, {value.ndim}" if isinstance(value, np.ndarray) else type(value).__name__
            raise TypeError(f"not an array of {self.item} in {self.ndim} dimensions, but {given}")
        flags = value.flags
        if not flags.c_contiguous or not flags.aligned or (self.writable and not flags.writeable):
            raise TypeError("an array that is not contiguous, not aligned or cannot be written")
        return (None, None, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides)


def _argument(text: str) -> _Int | _Bool | _Array:
    if text == "int64":
        return _Int()
    if text == "boolean":
        return _Bool()
    if found := _ARRAY.fullmatch(text):
        return _Array(np.dtype(found["item"]), found["more"].count(":") + 1, writable=True)
    if found := _READ_ONLY.fullmatch(text):
        return _Array(np.dtype(found["item"]), int(found["ndim"]), writable=False)
    raise TypeError(f"a kernel's argument of type {text}")


def _result(text: str) -> Any:
    if found := _TUPLE.fullmatch(text):
        return ctypes.c_int64 * int(found["length"])
    return {"int64": ctypes.c_int64, "boolean": ctypes.c_bool, "void": _Nothing}[text]


def _split(arguments: str) -> list[str]:
    """At the commas outside of brackets."""
    parts, depth = [""], 0
    for character in arguments:
        depth += (character in "[(") - (character in "])")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


@cache
def _engine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(MEMORY), machine)
    engine.finalize_object()
    return engine


def _linked(made: ObjectCode) -> int:
    """The address of a kernel. Not for several threads at once."""
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(made.code))
    engine.finalize_object()
    return int(engine.get_function_address(made.symbol))
