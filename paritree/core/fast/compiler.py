"""Where numba comes in, and where its cache lives. Importing this module imports numba (0.4 s): do it late.

Compiled kernels are kept under ``$NUMBA_CACHE_DIR`` where that is set, else under ``~/.cache/paritree``
(``$XDG_CACHE_HOME`` is honoured), never beside the source: the package may be read-only. The folder there is named by
the content of this package and of the kernel's own one, and by the versions of Python, numba and llvmlite: numba itself
looks only at the file of the function that it loads, so a kernel could survive a change of something that it calls.
Where no folder can be written, every process compiles anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite  # type: ignore[import-untyped]
import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numba
from numba.core import cgutils
from numba.core import config as numba_config
from numba.core.errors import NumbaError
from numba.extending import intrinsic as numba_intrinsic

__all__ = [
    "NumbaError",
    "cache_directory",
    "compile_now",
    "inner",
    "insert_function",
    "intrinsic",
    "is_cached",
    "kernel",
]

F = TypeVar("F", bound=Callable[..., Any])
FAST = Path(__file__).parent
config: Any = numba_config
"""Its settings are made at import, so no type checker knows them."""
njit: Any = numba.njit
"""Its stubs lack the options that leave out entries for Python."""
insert_function: Any = cgutils.get_or_insert_function
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose body is LLVM code."""
    return cast(Callable[..., Any], numba_intrinsic(function))


def inner(function: F) -> F:
    """A function that only kernels call; it is compiled into them, without an entry for Python (saves a quarter)."""
    return cast(F, njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)(function))


def inlined(function: F) -> F:
    """As :func:`inner`, but copied into its caller first, so that what it calls is optimised once less."""
    return cast(F, njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, inline="always", **_OPTIONS)(function))


def kernel(signature: str) -> Callable[[F], F]:
    """A function that Python calls, compiled for exactly this signature when :func:`compile_now` is told to."""

    def decorate(function: F) -> F:
        directory = cache_directory(Path(function.__code__.co_filename).parent)
        before = config.CACHE_DIR
        try:
            if directory is not None:
                config.CACHE_DIR = str(directory)
            dispatcher = njit(cache=directory is not None, **_OPTIONS)(function)
        finally:
            config.CACHE_DIR = before
        dispatcher.paritree_signature = signature
        return cast(F, dispatcher)

    return decorate


def compile_now(function: Any) -> None:
    """Load a kernel from the cache or compile it, and refuse every other signature. Once is enough, more do no harm."""
    if function.signatures:
        return
    function.compile(function.paritree_signature)
    function.disable_compile()
    stamp = _stamp(function)
    if stamp is not None:
        with contextlib.suppress(OSError):
            stamp.touch()


def is_cached(function: Any) -> bool:
    """Whether a kernel is ready, or was compiled for this machine and kept."""
    stamp = _stamp(function)
    return bool(function.signatures) or (stamp is not None and stamp.exists())


def _stamp(function: Any) -> Path | None:
    """An empty file that says that the cache has a kernel for this kind of processor."""
    directory = cache_directory(Path(function.py_func.__code__.co_filename).parent)
    if directory is None:
        return None
    host = (
        f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()} {config.CPU_NAME} {config.CPU_FEATURES}"
    )
    kind = hashlib.blake2b(host.encode(), digest_size=6).hexdigest()
    return directory / f"{function.__name__}-{kind}.compiled"


@cache
def cache_directory(folder: Path = FAST) -> Path | None:
    """Where compiled kernels of a folder of sources are kept, made if need be; None where nothing can be written."""
    for base in _candidates():
        directory = base / f"kernels-{_build_id({FAST, folder})}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                return directory
        except OSError:
            continue
    return None


def _candidates() -> list[Path]:
    own = os.environ.get("NUMBA_CACHE_DIR")
    if own:
        return [Path(own)]
    try:
        home = Path.home() / ".cache"
    except RuntimeError:  # a user without a home directory
        return []
    return [Path(os.environ.get("XDG_CACHE_HOME") or home) / "paritree"]


def _build_id(folders: set[Path]) -> str:
    digest = hashlib.blake2b(digest_size=10)
    digest.update(f"{sys.version} {numba.__version__} {llvmlite.__version__}".encode())
    for source in sorted(source for folder in folders for source in folder.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()
