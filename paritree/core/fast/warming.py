"""Loading the kernels: once a process, from the cache where it has them, else compiled (seconds, once on a machine).

Importing this module imports no numba; calling it does.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from threading import Lock
from typing import Any

from paritree.core.errors import ConfigError

KERNELS = (
    ("rows", "encode_rows", "digests"),
    ("sorting", "sorted_order", "sorting"),
    ("sorting", "gather", "sorting"),
    ("sketching", "sketch_rows", "sketches"),
    ("sketching", "probe_rows", "sketches"),
)
"""Module, name and purpose of every kernel."""

Say = Callable[[str], None]
_loaded: dict[str, Callable[..., Any]] = {}
_lock = Lock()


def warm(say: Say | None = None) -> bool:
    """Make every kernel ready. True if any had to be compiled; ``say`` hears of each purpose before it is compiled.

    Raises ConfigError where numba cannot be used. Call it before worker processes start: they find the cache filled.
    """
    compiled = False
    said: set[str] = set()
    for _, name, purpose in KERNELS:
        if not is_cached(name):
            compiled = True
            if say is not None and purpose not in said:
                said.add(purpose)
                say(f"compiling the {purpose} kernels, once on this machine")
        kernel(name)
    return compiled


def is_cached(name: str) -> bool:
    """Whether a kernel can be loaded without compiling. Raises ConfigError where numba cannot be used."""
    return name in _loaded or _compiler().is_cached(name)


def kernel(name: str) -> Callable[..., Any]:
    """A kernel, ready to run. Raises ConfigError where numba cannot be used."""
    with _lock:
        if name not in _loaded:
            compiler = _compiler()
            module = next(module for module, known, _ in KERNELS if known == name)
            try:
                function = getattr(importlib.import_module(f"paritree.core.fast.{module}"), name)
                compiler.compile_now(function)
            except compiler.NumbaError as error:
                raise _unusable(f"{type(error).__name__}: {error}") from error
            _loaded[name] = function
        return _loaded[name]


def _compiler() -> Any:
    if sys.byteorder != "little":
        raise _unusable("this machine is big-endian")
    try:
        return importlib.import_module("paritree.core.fast.compiler")
    except (ImportError, OSError) as error:
        raise _unusable(str(error)) from error


def _unusable(reason: str) -> ConfigError:
    return ConfigError(
        f"the compiled kernels cannot be used: {reason}",
        next_step="repair the installation of numba and llvmlite, or choose the plain digester",
    )
