"""Where kernels are kept, what the first run says, and what it costs those who need none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paritree.core.errors import ConfigError
from paritree.core.fast import warming

ROOT = Path(__file__).parents[3]
WARM_THE_SORT = """
from paritree.core.fast import warming
del warming.PURPOSES["digests"], warming.PURPOSES["sketches"]
print(warming.warm(print))
from paritree.core.fast.cache import cache_directory
print(cache_directory())
"""


def run(code: str, **environment: str) -> list[str]:
    """The lines that a fresh interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_numba_is_imported_to_compile_only(tmp_path: Path) -> None:
    code = "import sys; from paritree.core.fast.warming import warm; print(warm(), 'numba' in sys.modules)"
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == ["True True"]
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == ["False False"]


@pytest.mark.parametrize("broken", [b"", b"{}", b"no json at all" * 9], ids=len)
def test_a_kernel_that_is_not_whole_is_compiled_again(tmp_path: Path, broken: bytes) -> None:
    folder = Path(run(WARM_THE_SORT, NUMBA_CACHE_DIR=str(tmp_path))[2])
    for kept in folder.glob("*.kernel"):
        kept.write_bytes(broken or kept.read_bytes()[:-1] + b"\0")
    assert run(WARM_THE_SORT, NUMBA_CACHE_DIR=str(tmp_path))[1] == "True"
    assert run(WARM_THE_SORT, NUMBA_CACHE_DIR=str(tmp_path))[0] == "False"


def test_llvm_is_imported_by_the_first_kernel_only() -> None:
    code = "import sys, paritree.core.fast.digester, paritree.core.fast.sort; print({'llvmlite'} & set(sys.modules))"
    assert run(code) == ["set()"]


def test_first_run_says_what_it_compiles_and_the_second_is_silent(tmp_path: Path) -> None:
    first = run(WARM_THE_SORT, NUMBA_CACHE_DIR=str(tmp_path))
    assert first[:2] == ["compiling the kernels for sorting, once on this machine", "True"]
    assert Path(first[2]).parent == tmp_path
    assert len(list(Path(first[2]).rglob("*.kernel"))) == 2
    assert run(WARM_THE_SORT, NUMBA_CACHE_DIR=str(tmp_path))[0] == "False"


def test_the_users_cache_is_used_and_nothing_is_written_beside_the_source(tmp_path: Path) -> None:
    before = set((ROOT / "paritree/core/fast").rglob("*.kernel"))
    lines = run(
        "from paritree.core.fast.cache import cache_directory; print(cache_directory())",
        NUMBA_CACHE_DIR="",
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert Path(lines[0]).parent == tmp_path / "paritree"
    assert set((ROOT / "paritree/core/fast").rglob("*.kernel")) == before


def test_without_a_writable_folder_kernels_still_work(tmp_path: Path) -> None:
    """A file stands where the folder would be: no user, not even root, can write there."""
    (tmp_path / "file").write_text("")
    lines = run(WARM_THE_SORT, NUMBA_CACHE_DIR=str(tmp_path / "file"))
    assert lines == ["compiling the kernels for sorting, once on this machine", "True", "None"]


def test_warm_has_every_kernel_ready() -> None:
    warming.warm()
    assert warming.warm(pytest.fail) is False
    with pytest.raises(TypeError, match="not an array of int64 in 1 dimensions, but int32, 1"):
        warming.SORTING.sorted_order(0, 0, np.zeros(0, np.int32))


def test_an_unusable_numba_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(ConfigError, match=r"big-endian; .* plain digester"):
        warming.Kernels("paritree.core.fast.rows", "encode_rows").encode_rows  # noqa: B018  making it ready raises


@pytest.mark.parametrize("missing", ["numba", "llvmlite"])
def test_a_missing_compiler_is_an_error_that_says_what_to_do(missing: str, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["{missing}"] = None
from paritree.core.errors import ConfigError
from paritree.core.fast.warming import ROWS
try:
    ROWS.encode_rows
except ConfigError as error:
    print(error.next_step)
"""
    lines = run(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert lines == ["repair the installation of numba and llvmlite, or choose the plain digester"]
