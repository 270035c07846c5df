"""The keys that a region holds in a range, written to a file there: where too many differ to be named one by one.

One JSON object a line: ``{"token": "…", "key": {"id": 37}}``, in no order. Where the spool is encrypted at rest, it is
``{"token": "…", "digest": "…", "sealed": "…"}``, and ``paritree agent keys`` reads it. The file is readable by its
owner only and never leaves; the coordinator is told its name and how many keys are in it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import structlog

from edge_agent.build import Copy
from edge_agent.index.index import Entry, Index
from edge_agent.spool import dataset_folder
from paritree.core.digest import token
from paritree.core.display import key_to_json
from paritree.core.errors import ConfigError, SourceError
from paritree.core.messages import AskKeep, Header, Kept, Progress, ReplyBody
from paritree.core.node import Node

FILES_MAX: Final = 3
"""Files of a dataset that are kept, the newest: ten million keys take about 1 GB."""
_KEYS_A_PROGRESS: Final = 100_000
"""Keys between two signs of life: about a second."""
_log = structlog.get_logger("paritree.agent")


def keep_parts(header: Header, index: Index, copy: Copy, folder: Path | None, ask: AskKeep) -> Iterator[ReplyBody]:
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
                file.write(json.dumps(_line(entry, copy), ensure_ascii=False) + "\n")
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


def _line(entry: Entry, copy: Copy) -> dict[str, Any]:
    line: dict[str, Any] = {"token": token(entry.key_digest)}
    if copy.rest_key is None:
        return {**line, "key": key_to_json(entry.locator, copy.profile) if entry.locator else None}
    sealed = copy.rest_key.sealed(entry.locator, entry.key_digest)
    return {**line, "digest": entry.key_digest.hex(), "sealed": sealed.hex()}


def kept_keys(folder: Path, name: str, copy: Copy) -> Iterator[dict[str, Any]]:
    """``{"token", "key"}`` of every key in a file that was kept. Raises ConfigError, also for one of another key."""
    path = folder / name
    if path.parent != folder or not path.is_file():
        known = ", ".join(sorted(file.name for file in folder.glob("*.ndjson"))) or "none"
        raise ConfigError(f"no file of keys '{name}' is kept here", next_step=f"kept are: {known}")
    with path.open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            yield line if "sealed" not in line else {"token": line["token"], "key": _opened(line, path, copy)}


def _opened(line: dict[str, str], path: Path, copy: Copy) -> dict[str, Any] | None:
    if copy.rest_key is None:
        raise ConfigError(f"{path} is encrypted, and no key is named", next_step="name its at_rest_key")
    locator = copy.rest_key.opened(bytes.fromhex(line["sealed"]), bytes.fromhex(line["digest"]), str(path))
    return key_to_json(locator, copy.profile) if locator else None


def kept_folder(spool: Path, dataset: str) -> Path:
    """Where the files of a dataset are."""
    return dataset_folder(spool, dataset) / "kept"


def _forget_old(folder: Path) -> None:
    files = sorted(folder.glob("*.ndjson"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[:-FILES_MAX]:
        path.unlink(missing_ok=True)
        _log.info("keys of an older range deleted", path=str(path))


def _safe(sweep_id: str) -> str:
    """The sweep id as a part of a file name."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in sweep_id)
