"""The keys that a region holds in a range, written to a file there: where too many differ to be named one by one.

One JSON object a line: ``{"token": "…", "key": {"id": 37}}``, in no order. The file is readable by its owner only and
never leaves; the coordinator is told its name and how many keys are in it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from edge_agent.index.index import Index
from paritree.core.digest import token
from paritree.core.display import key_to_json
from paritree.core.errors import ConfigError, SourceError
from paritree.core.messages import AskKeep, Header, Kept, Progress, ReplyBody
from paritree.core.node import Node
from paritree.core.profile import Profile

FILES_MAX: Final = 3
"""Files of a dataset that are kept, the newest: ten million keys take about 1 GB."""
_KEYS_A_PROGRESS: Final = 100_000
"""Keys between two signs of life: about a second."""
_log = structlog.get_logger("paritree.agent")


def keep_parts(
    header: Header, index: Index, profile: Profile, folder: Path | None, ask: AskKeep
) -> Iterator[ReplyBody]:
    """Write the keys below the node to a file in ``folder``, with signs of life.

    Raises SourceError, and ConfigError without a folder.
    """
    if folder is None:
        raise ConfigError("no files of keys are written here: what this writes is gone when it ends")
    node = Node(ask.prefix, ask.bits)
    path = folder / f"{_safe(header.sweep_id)}-{node.text or 'all'}-{node.bits}.ndjson"
    partial = path.with_suffix(".partial")
    keys = 0
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            for entry in index.below(ask.bits, ask.prefix):
                clear = key_to_json(entry.locator, profile) if entry.locator else None
                line = {"token": token(entry.key_digest), "key": clear}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                keys += 1
                if keys % _KEYS_A_PROGRESS == 0:
                    yield Progress(0, 0, keys)
        os.replace(partial, path)
        _forget_old(folder)
    except OSError as error:
        raise SourceError(
            f"the keys of a range cannot be written: {error.strerror}", next_step="free space in the spool directory"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # mostly it is the file by now
            partial.unlink()
    _log.info("keys of a range written", dataset=header.dataset, sweep=header.sweep_id, path=str(path), keys=keys)
    yield Kept(header, path.name, keys)


def _forget_old(folder: Path) -> None:
    files = sorted(folder.glob("*.ndjson"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[:-FILES_MAX]:
        path.unlink(missing_ok=True)
        _log.info("keys of an older range deleted", path=str(path))


def _safe(sweep_id: str) -> str:
    """The sweep id as a part of a file name."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in sweep_id)
