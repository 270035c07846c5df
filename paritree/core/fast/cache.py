"""Where compiled kernels are kept: under ``$NUMBA_CACHE_DIR`` where that is set, else under ``~/.cache/paritree``
(``$XDG_CACHE_HOME`` is honoured), never beside the source: the package may be read-only.

The folder there is named by the content of this package and of the kernel's own one, and by the versions of Python,
numba and llvmlite: a kernel shall not survive a change of anything that it was made from. A file in it is named by the
kernel and the kind of processor. Where no folder can be written, every process compiles anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import llvmlite.binding as llvm  # type: ignore[import-untyped]

from paritree.core.fast.machinecode import ObjectCode

FAST: Final = Path(__file__).parent
_CHECK_BYTES: Final = 16


def kept(module: str, name: str) -> ObjectCode | None:
    """A kernel that was compiled here before; None where there is none, or none that is whole."""
    file = _file(module, name)
    try:
        content = file.read_bytes() if file else b""
    except OSError:
        return None
    whole, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
    if hashlib.blake2b(whole, digest_size=_CHECK_BYTES).digest() != check:
        return None
    head, _, code = whole.partition(b"\n")
    told = json.loads(head)
    return ObjectCode(told["symbol"], told["signature"], code)


def keep(module: str, name: str, made: ObjectCode) -> None:
    """Write a kernel; whoever reads at the same time finds it whole or not at all. Raises OSError."""
    file = _file(module, name)
    if file is None:
        return
    whole = json.dumps({"symbol": made.symbol, "signature": made.signature}).encode() + b"\n" + made.code
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as scratch:
        scratch.write(whole + hashlib.blake2b(whole, digest_size=_CHECK_BYTES).digest())
    os.replace(scratch.name, file)


def _file(module: str, name: str) -> Path | None:
    directory = cache_directory(_folder(module))
    return directory and directory / f"{module.rpartition('.')[2]}-{name}-{_processor()}.kernel"


def _folder(module: str) -> Path:
    found = find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


@cache
def _processor() -> str:
    told = [os.environ.get(name, "") for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    kind = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()} {told}"
    return hashlib.blake2b(kind.encode(), digest_size=6).hexdigest()


@cache
def cache_directory(folder: Path = FAST) -> Path | None:
    """Where compiled kernels of a folder of sources are kept, made if need be; None where nothing can be written."""
    for base in _candidates():
        directory = base / f"kernels-{_build_id({FAST, folder})}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                return directory
        except OSError:
            continue
    return None


def _candidates() -> list[Path]:
    own = os.environ.get("NUMBA_CACHE_DIR")
    if own:
        return [Path(own)]
    try:
        home = Path.home() / ".cache"
    except RuntimeError:  # a user without a home directory
        return []
    return [Path(os.environ.get("XDG_CACHE_HOME") or home) / "paritree"]


def _build_id(folders: set[Path]) -> str:
    digest = hashlib.blake2b(digest_size=10)
    digest.update(f"{sys.version} {version('numba')} {version('llvmlite')}".encode())
    for source in sorted(source for folder in folders for source in folder.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()
