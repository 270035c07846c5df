"""What people were shown and did in the region: one JSON line an entry in the spool, written before it is done."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from paritree.core.errors import SourceError


class Journal:
    """Appends to one file, which only its owner reads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(self, entry: Mapping[str, Any]) -> None:
        """Write an entry with the time and the user. Raises SourceError: then what it is about is not done."""
        whole = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "user": getpass.getuser(), **entry}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            with os.fdopen(os.open(self._path, flags, 0o600), "a") as log:
                log.write(json.dumps(whole) + "\n")
        except OSError as error:
            raise SourceError(f"the request cannot be logged in {self._path}: {error.strerror}") from error
