"""What an engine's module says while the process ends is nobody's business, and hides what is."""

from __future__ import annotations

from pathlib import Path

import duckdb
from operated import run_paritree


def test_a_comparison_with_duckdb_ends_without_a_word_of_its_module(tmp_path: Path) -> None:
    """Above 20,000 rows kernels are loaded; modules that are loaded so were frozen, and still there at the end."""
    targets = []
    for region in ("eu", "us"):
        with duckdb.connect(str(tmp_path / f"{region}.duckdb")) as database:
            database.execute("CREATE TABLE orders AS SELECT i AS id, 'x' AS name FROM range(12000) AS t(i)")
        targets.append(f"{region}=duckdb://{tmp_path}/{region}.duckdb#orders")
    done = run_paritree("diff", *targets, "--key", "id", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nanobind" not in done.stderr
    assert "leaked" not in done.stderr
