"""Loading modules without looking through them for garbage.

Modules, classes and compiled kernels make hundreds of thousands of objects that all stay. Python's collector would go
through them again and again as they come, a tenth of a short command's time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """No garbage is collected inside; what there is at the end counts as permanent (``gc.freeze``)."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.freeze()
            gc.enable()
