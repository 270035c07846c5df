"""Columns with a tolerance, whole: real PostgreSQL, DuckDB and SQLite by ``diff``, memory tables by sweeps."""

from __future__ import annotations

import asyncio
import json
import math
import random
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import psycopg
import pytest
from typer.testing import CliRunner

from coordinator.sweep import Sweep, SweepOptions
from paritree.cli.main import app
from paritree.core.profile import Profile
from paritree.core.recollection import LookAsk
from paritree.core.types import parse_type

T = {"amount": Decimal("0.05"), "weight": Decimal("0.25")}
ROWS, CALM = 200, 120
"""Rows, of which the first ones are within tolerance in both columns, in all regions."""
REGIONS = ("pg", "duck", "lite")


@dataclass(frozen=True)
class Row:
    """One key's amounts, weights and notes, by region."""

    amount: Mapping[str, Decimal]
    weight: Mapping[str, float]
    note: Mapping[str, str]

    def apart(self, column: str, regions: Sequence[str]) -> Fraction:
        values = [Fraction(getattr(self, column)[region]) for region in regions]
        return max(values) - min(values)

    def agrees(self, column: str, regions: Sequence[str]) -> bool:
        """Whether the regions share a cell, by the definition of CANONICAL.md."""
        t = Fraction(T[column])
        values = [Fraction(getattr(self, column)[region]) for region in regions]
        return any(len({math.floor((v + shift) / (2 * t)) for v in values}) == 1 for shift in (0, t))

    def differing(self, regions: Sequence[str]) -> list[str]:
        columns = [column for column in T if not self.agrees(column, regions)]
        return columns + (["note"] if len({self.note[region] for region in regions}) > 1 else [])

    def digests_differ(self, regions: Sequence[str]) -> bool:
        """Whether the cells of the first grid, or the notes, make different row digests."""
        cells = {
            tuple(math.floor(Fraction(getattr(self, c)[r]) / (2 * Fraction(t))) for c, t in T.items()) for r in regions
        }
        return len(cells) > 1 or len({self.note[r] for r in regions}) > 1


def planted() -> list[Row]:
    """Values anywhere, on borders too; what the other regions add to them is at, below and above t and 2t."""
    rng = random.Random(20)
    shares = [Decimal(text) for text in ("0", "0.5", "0.998", "1")]
    wild = [*shares, *(Decimal(text) for text in ("1.002", "1.5", "1.998", "2", "2.002", "7"))]
    rows = []
    for number in range(ROWS):
        allowed = shares if number < CALM else wild

        def values(column: str, step: Decimal, allowed: Sequence[Decimal] = allowed) -> dict[str, Decimal]:
            start = rng.randint(-2000, 2000) * step
            more = {region: rng.choice(allowed) * T[column] for region in REGIONS[1:]}
            return {region: start + more.get(region, Decimal(0)) for region in REGIONS}

        weights = {region: float(value) for region, value in values("weight", Decimal("0.125")).items()}
        note = {region: "x" if region == "lite" and number >= CALM and number % 9 == 0 else "n" for region in REGIONS}
        rows.append(Row(values("amount", Decimal("0.01")), weights, note))
    return rows


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return planted()


@pytest.fixture(scope="module")
def targets(rows: list[Row], postgresql: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """``REGION=URL#TABLE`` of the loaded tables."""
    folder = tmp_path_factory.mktemp("tolerance")
    url = postgresql.create_database("tolerance")
    held = {r: [(i, row.amount[r], row.weight[r], row.note[r]) for i, row in enumerate(rows)] for r in REGIONS}
    with psycopg.connect(url) as pg:
        pg.execute("CREATE TABLE t (id bigint PRIMARY KEY, amount numeric(12,4), weight float8, note text)")
        with pg.cursor().copy("COPY t FROM STDIN") as copy:
            for values in held["pg"]:
                copy.write_row(values)
    with closing(duckdb.connect(str(folder / "t.duckdb"))) as duck:
        duck.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, amount DECIMAL(18,6), weight DOUBLE, note VARCHAR)")
        duck.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", held["duck"])
    with closing(sqlite3.connect(folder / "t.db")) as lite, lite:
        lite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, amount DECIMAL(12,4), weight DOUBLE, note TEXT)")
        lite.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", [(i, str(a), w, n) for i, a, w, n in held["lite"]])
    return {
        "pg": f"pg={url}#t",
        "duck": f"duck=duckdb:///{folder}/t.duckdb#t",
        "lite": f"lite=sqlite:///{folder}/t.db#t",
    }


def compared(targets: Sequence[str], *flags: str) -> tuple[int, Any]:
    tolerances = [flag for column, t in T.items() for flag in ("--tolerance", f"{column}={t}")]
    result = CliRunner().invoke(app, ["diff", *targets, *tolerances, "--lag-max", "0", "--json", *flags])
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.servers
@pytest.mark.parametrize(("count", "digester"), [(2, "plain"), (3, "plain"), (3, "compiled")])
def test_findings_are_the_rows_that_no_cell_holds(targets, rows, count, digester):
    regions = REGIONS[:count]
    code, report = compared([targets[region] for region in regions], "--digester", digester)
    found = {finding["key"]["id"]: finding for finding in report["findings"]}
    expected = {i: sorted(row.differing(regions)) for i, row in enumerate(rows) if row.differing(regions)}
    assert {i: finding["columns"] for i, finding in found.items()} == expected
    assert (code, report["verdict"], report["findings_total"]) == (1, "different", len(expected))
    near = [i for i, row in enumerate(rows) if row.digests_differ(regions) and i not in expected]
    assert report["summary"]["within_tolerance"] == len(near) > 20
    assert report["summary"]["healed"] == report["summary"]["unknown"] == 0
    assert report["columns"]["tolerance"] == {column: str(t) for column, t in T.items()}
    for i, row in enumerate(rows):
        for column, t in T.items():
            said = column in found[i]["columns"] if i in found else False
            apart = row.apart(column, regions)
            assert not (said and apart <= t), "within t they agree"
            assert said or apart < 2 * t, "2t apart they do not"
        for group in found[i]["groups"] if i in found else []:
            assert not row.differing(group), "each group agrees"


@pytest.mark.servers
def test_rows_within_tolerance_are_equal(targets):
    code, report = compared([targets["pg"], targets["lite"], targets["duck"]], "--where", f"id < {CALM}")
    assert (code, report["verdict"], report["findings"]) == (0, "equal", [])
    assert report["summary"]["within_tolerance"] > 20
    [stated] = report["verdicts"]
    assert "within" in stated["reason"]


KINDS = {"id": "int", "name": "text", "amount": {"type": "decimal", "tolerance": "0.1"}}


@pytest.mark.parametrize("count", [300, 4000])
def test_drift_of_every_row_within_tolerance_is_equal(memory_regions, count):
    """Half of all rows change their cell, more than the probe solves or fewer: judged before anything is said."""
    regions = memory_regions()
    regions.profile = Profile("orders", ("id",), {name: parse_type(kind) for name, kind in KINDS.items()})
    regions.add("a", [(i, "n", f"{i / 100:.2f}") for i in range(count)])
    regions.add("b", [(i, "n", f"{i / 100 + 0.1:.2f}") for i in range(count)], digester="compiled")
    regions.add("c", [(i, "n", f"{i / 100 + 0.05:.2f}") for i in range(count)])
    report = regions.sweep()
    assert (report["verdict"], report["findings_total"]) == ("equal", 0)
    cells = [{math.floor(Fraction(i * 10 + more, 200)) for more in (0, 100, 50)} for i in range(count)]
    assert report["summary"]["within_tolerance"] == sum(len(held) > 1 for held in cells)


def test_a_value_that_changes_within_its_cell_is_no_difference(memory_regions):
    regions = memory_regions()
    regions.profile = Profile("orders", ("id",), {name: parse_type(kind) for name, kind in KINDS.items()})
    regions.add("a", [(1, "n", "0.10")])
    regions.add("b", [(1, "n", "0.15")])
    report = regions.sweep()
    assert (report["verdict"], report["rounds"], report["summary"]["within_tolerance"]) == ("equal", 1, 0)


def test_a_value_that_comes_within_tolerance_between_looks_though_its_row_digest_rests(memory_regions):
    """0.09 and 0.11 are in one cell of the grid; of the shifted one, 0.11 is in that of 0.21."""
    regions = memory_regions()
    regions.profile = Profile("orders", ("id",), {name: parse_type(kind) for name, kind in KINDS.items()})
    regions.add("a", [(1, "n", "0.21")])
    regions.add("b", [(1, "n", "0.09")])

    class Moving(Sweep):
        async def _ask_look(self, name, ask):
            if isinstance(ask, LookAsk):
                regions.put("b", [(1, "n", "0.11")])
            return await super()._ask_look(name, ask)

    assert regions.sweep()["summary"]["different"] == 1
    sweep = Moving(regions.profile, ["a", "b"], regions.links, "moving", SweepOptions(lag_max_s=0.0))
    report = asyncio.run(sweep.run())
    assert (report["verdict"], report["summary"]["within_tolerance"]) == ("equal", 1)
