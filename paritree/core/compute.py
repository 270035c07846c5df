"""``pyarrow.compute``, imported with the first of its functions that is used: it makes hundreds as it is (0.06 s)."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("pyarrow.compute"), name)
