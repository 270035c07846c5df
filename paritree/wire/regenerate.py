"""Make the modules of ``paritree/wire/v1`` from ``proto/``, or compare them: ``python -m paritree.wire.regenerate``.

Needs the development extra (grpcio-tools, mypy-protobuf). ``--check`` changes nothing and exits 1 when a committed
module is not what the sources give.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

from paritree.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path("paritree/wire/v1")
INIT = '"""Generated from proto/paritree/wire/v1 by ``python -m paritree.wire.regenerate``; do not edit."""\n'


def generate(target: Path) -> None:
    """Write the package ``paritree/wire/v1`` below ``target``. Raises ConfigError when protoc refuses."""
    from grpc_tools import protoc  # type: ignore[import-untyped]

    sources = sorted((ROOT / "proto" / PACKAGE).glob("*.proto"))
    plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    arguments = [
        "protoc",
        f"-I{ROOT / 'proto'}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy_grpc={plugin}",
        *(f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python", "mypy_grpc")),
        *map(str, sources),
    ]
    if protoc.main(arguments):
        raise ConfigError("protoc refused the sources", next_step="read its message above")
    (target / PACKAGE / "__init__.py").write_text(INIT)


def contents(root: Path) -> dict[str, str]:
    """File name -> text of the generated package below ``root``."""
    return {path.name: path.read_text() for path in sorted((root / PACKAGE).glob("*.py*"))}


def stale(root: Path = ROOT) -> list[str]:
    """Names of the committed files that differ from what the sources give, missing and left-over ones included."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, committed = contents(Path(scratch)), contents(root)
    return sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))


def main(arguments: list[str]) -> str | None:
    """Regenerate, or compare with ``--check``; returns the message to exit with, None for success."""
    if arguments == ["--check"]:
        names = ", ".join(stale())
        return f"{PACKAGE}: {names} not up to date; run python -m paritree.wire.regenerate" if names else None
    if arguments:
        return "usage: python -m paritree.wire.regenerate [--check]"
    for path in (ROOT / PACKAGE).glob("*.py*"):
        path.unlink()
    generate(ROOT)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
