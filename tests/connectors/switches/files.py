"""What the file-like engines' switches have in common: their store is a directory of the test."""

from __future__ import annotations

import hashlib
from pathlib import Path


def contents(place: Path) -> dict[str, str]:
    """Every file of the directory with a digest of its content."""
    found = (path for path in sorted(place.rglob("*")) if path.is_file())
    return {str(path.relative_to(place)): hashlib.blake2b(path.read_bytes()).hexdigest() for path in found}
