"""Loading the kernels: once a process, from the cache where it has them, else compiled (seconds, once on a machine).

Importing this module imports no numba; calling it does.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from functools import cache
from threading import Lock
from typing import Any, TypeVar, cast

from paritree.core.errors import ConfigError

KERNELS: dict[str, dict[str, str]] = {
    "digests": {"encode_rows": "rows"},
    "sorting": {"sorted_order": "sorting", "gather": "sorting"},
    "sketches": {"sketch_rows": "sketching", "probe_rows": "sketching"},
}
"""Purpose -> the kernels for it and their modules."""

Say = Callable[[str], None]
F = TypeVar("F", bound=Callable[..., Any])
_lock = Lock()


def warm(say: Say | None = None) -> bool:
    """Make every kernel of this package ready. True if any had to be compiled; ``say`` hears of it first.

    Raises ConfigError where numba cannot be used. Call it before worker processes start: they find the cache filled.
    """
    compiled = False
    for purpose, names in KERNELS.items():
        compiled |= prepare(purpose, [_function(name) for name in names], say)
    return compiled


def prepare(purpose: str, functions: Sequence[Any], say: Say | None = None) -> bool:
    """Make kernels ready, whoever wrote them. True if any had to be compiled; ``say`` hears of it first, once."""
    compiler = _compiler()
    with _lock:
        cold = not all(map(compiler.is_cached, functions))
        if cold and say is not None:
            say(f"compiling the kernels for {purpose}, once on this machine")
        try:
            for function in functions:
                compiler.compile_now(function)
        except compiler.NumbaError as error:
            raise _unusable(f"{type(error).__name__}: {error}") from error
    return cold


def ready(function: F) -> F:
    """A kernel of another package, made ready with its first use. Raises ConfigError where numba cannot be used."""
    if not cast(Any, function).signatures:
        prepare(function.__name__, [function])
    return function


@cache
def kernel(name: str) -> Callable[..., Any]:
    """A kernel of this package, ready to run. Raises ConfigError where numba cannot be used."""
    function = _function(name)
    prepare(name, [function])
    return function


def _function(name: str) -> Callable[..., Any]:
    _compiler()
    module = next(modules[name] for modules in KERNELS.values() if name in modules)
    function: Callable[..., Any] = getattr(importlib.import_module(f"paritree.core.fast.{module}"), name)
    return function


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
