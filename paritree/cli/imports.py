"""What this process shall not import: it starts for every command."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Final

UNUSED: Final = frozenset({"pandas"})
"""pyarrow loads pandas (0.25 s and 40 MiB) with the first array that it makes, wherever it is installed, and does
without it where it is not. Nothing here uses it."""

UNUSED_PARTS: Final = {"OPENBLAS_NUM_THREADS": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__"}
"""What libraries do as they are imported, unless told not to: start threads for products of matrices, which wait by
going round and round; look through everything that is installed for plug-ins."""


class _Without(MetaPathFinder):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        if fullname in self._names:
            raise ModuleNotFoundError(f"{fullname} is not used by paritree", name=fullname)
        return None


def leave_out_unused() -> None:
    """Importing one of :data:`UNUSED` fails from now on as if it were not installed. For paritree's own process."""
    sys.meta_path.insert(0, _Without(UNUSED))
    for name, value in UNUSED_PARTS.items():
        os.environ.setdefault(name, value)


def import_structlog() -> None:
    """Without rich (0.06 s), with which it would colour the tracebacks of a form of log that is not used here."""
    finder = _Without(frozenset({"rich"}))
    sys.meta_path.insert(0, finder)
    try:
        import_module("structlog")
    finally:
        sys.meta_path.remove(finder)
