"""Loading the kernels: once a process, from the cache where it has them, else compiled (seconds, once on a machine).

Importing this module imports neither numba nor llvmlite. Using a kernel imports llvmlite, and numba where it has to be
compiled.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from paritree.core.errors import ConfigError
from paritree.core.loading import loading

if TYPE_CHECKING:
    from paritree.core.fast.machinecode import Kernel

Say = Callable[[str], None]
_lock = RLock()


class Kernels:
    """The kernels of one module as attributes, each made ready with its first use.

    Using one raises ConfigError where kernels cannot be compiled or linked.
    """

    def __init__(self, module: str, *names: str) -> None:
        self.module = module
        self.names = names

    def __getattr__(self, name: str) -> Kernel:
        if name.startswith("_") or name not in self.names:
            raise AttributeError(f"{self.module} has no kernel {name}")
        prepare(f"{self.module}.{name}", self, [name])
        kernel: Kernel = self.__dict__[name]
        return kernel


ROWS: Final = Kernels("paritree.core.fast.rows", "encode_rows")
SORTING: Final = Kernels("paritree.core.fast.sorting", "sorted_order", "gather")
SKETCHING: Final = Kernels("paritree.core.fast.sketching", "sketch_rows", "probe_rows")
PURPOSES: dict[str, Kernels] = {"digests": ROWS, "sorting": SORTING, "sketches": SKETCHING}
"""What all of this package's kernels are for."""


def are_used() -> bool:
    """Whether any kernel is ready in this process; then another one costs next to nothing, if it was compiled."""
    return "paritree.core.fast.machinecode" in sys.modules


def warm(say: Say | None = None) -> bool:
    """Make every kernel of this package ready. True if any had to be compiled; ``say`` hears of it first.

    Raises ConfigError where that cannot be. Call it before worker processes start: they find the cache filled.
    """
    compiled = False
    for purpose, kernels in PURPOSES.items():
        compiled |= prepare(purpose, kernels, kernels.names, say)
    return compiled


def prepare(purpose: str, kernels: Kernels, names: Sequence[str], say: Say | None = None) -> bool:
    """Make kernels ready. True if any had to be compiled; ``say`` hears of it first, once. Raises ConfigError."""
    with _lock:
        wanted = [name for name in names if name not in vars(kernels)]
        if not wanted:
            return False
        cache = _module("cache")
        kept = {name: cache.kept(kernels.module, name) for name in wanted}
        cold = [name for name, code in kept.items() if code is None]
        if cold and say is not None:
            say(f"compiling the kernels for {purpose}, once on this machine")
        kept |= {name: _compiled(kernels.module, name) for name in cold}
        for name, code in kept.items():
            setattr(kernels, name, _module("machinecode").Kernel(code))
        return bool(cold)


def _compiled(module: str, name: str) -> Any:
    compiler, cache = _module("compiler"), _module("cache")
    try:
        with loading():
            code = compiler.compiled(getattr(importlib.import_module(module), name))
    except compiler.NumbaError as error:
        raise _unusable(f"{type(error).__name__}: {error}") from error
    with contextlib.suppress(OSError):
        cache.keep(module, name, code)
    return code


def _module(name: str) -> Any:
    if sys.byteorder != "little":
        raise _unusable("this machine is big-endian")
    try:
        with loading():
            return importlib.import_module(f"paritree.core.fast.{name}")
    except (ImportError, OSError) as error:
        raise _unusable(str(error)) from error


def _unusable(reason: str) -> ConfigError:
    return ConfigError(
        f"the compiled kernels cannot be used: {reason}",
        next_step="repair the installation of numba and llvmlite, or choose the plain digester",
    )
