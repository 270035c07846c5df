"""Where numba comes in: kernels are compiled here, once on a machine. Importing this module imports numba (0.35 s)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite.binding import ModuleRef  # type: ignore[import-untyped]
from numba.core import cgutils
from numba.core.errors import NumbaError
from numba.core.runtime import nrt
from numba.extending import intrinsic as numba_intrinsic

from paritree.core.errors import InvariantBroken
from paritree.core.fast.machinecode import DATA_WORD, KNOWN_SYMBOLS, ObjectCode

__all__ = ["NumbaError", "compiled", "inlined", "inner", "insert_function", "intrinsic", "kernel"]

F = TypeVar("F", bound=Callable[..., Any])
njit: Any = numba.njit
"""Its stubs lack the options that leave out entries for Python."""
insert_function: Any = cgutils.get_or_insert_function
memory: Any = vars(nrt)["_nrt"]
"""numba's own memory, by the only name that it has."""
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose body is LLVM code."""
    return cast(Callable[..., Any], numba_intrinsic(function))


def inner(function: F) -> F:
    """A function that only kernels call."""
    return cast(F, njit(**_OPTIONS)(function))


def inlined(function: F) -> F:
    """As :func:`inner`, but copied into its caller first, so that what it calls is optimised once less."""
    return cast(F, njit(inline="always", **_OPTIONS)(function))


def kernel(signature: str) -> Callable[[F], F]:
    """A function that Python calls, by its name in :mod:`paritree.core.fast.warming`, for exactly this signature."""

    def decorate(function: F) -> F:
        cast(Any, function).paritree_signature = signature
        return function

    return decorate


def compiled(function: Any) -> ObjectCode:
    """Compile a kernel for this processor. Raises NumbaError, InvariantBroken for code that cannot be linked."""
    dispatcher = njit(**_OPTIONS)(function)
    dispatcher.compile(function.paritree_signature)
    (result,) = dispatcher.overloads.values()
    library = result.library
    module: ModuleRef = library._final_module
    needed = {each.name for each in module.functions if each.is_declaration and not each.name.startswith("llvm.")}
    if needed - KNOWN_SYMBOLS or not _is_memory_as_we_know_it():
        raise InvariantBroken(f"kernel {function.__name__} needs {sorted(needed - KNOWN_SYMBOLS) or 'other memory'}")
    code = library.codegen._tm.emit_object(module)
    return ObjectCode(result.fndesc.llvm_func_name, function.paritree_signature, code)


def _is_memory_as_we_know_it() -> bool:
    """Whether a block of numba's memory has its count and its address where ``machinecode.MEMORY`` writes them."""
    place = memory.meminfo_alloc(64)
    words = ctypes.cast(place, ctypes.POINTER(ctypes.c_int64))
    references, data = words[0], words[DATA_WORD]
    return bool(references == 1 and data == nrt.MemInfo(place).data)  # which gives it back
