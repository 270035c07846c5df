"""The columns that a report names, where looks at missing keys and columns that come late meet, by seed."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from edge_agent.policy import Policy
from paritree.core import columnplan
from paritree.core.profile import Profile
from paritree.core.types import parse_type

COLUMNS = ("a", "b", "c", "d", "e", "f")
ROWS = 80
Table = dict[int, list[str]]


def worlds(chance: random.Random, regions: int, tolerant: bool) -> dict[str, Table]:
    """Copies of which some lack rows or have other values in one column or several, the same ones or not."""
    base = {i: [f"{i}.{n}" for n in range(len(COLUMNS))] for i in range(ROWS)}
    tables = {f"r{number}": {i: list(row) for i, row in base.items()} for number in range(regions)}
    often = chance.sample(range(len(COLUMNS)), 2)
    for i in range(ROWS):
        for name in tables:
            what = chance.random()
            if what < 0.15:
                del tables[name][i]
            elif what < 0.5:
                places = chance.choice([often, often[:1], chance.sample(range(6), chance.randint(1, 6))])
                for place in places:
                    tables[name][i][place] = f"{1_000 + chance.randrange(3)}"
            elif tolerant and what < 0.7:  # within tolerance of what it was
                tables[name][i][5] = f"{i}.5004"
    return tables


def planted(tables: dict[str, Table]) -> dict[int, tuple[str, list[str], list[str]]]:
    """id -> kind, columns that differ, regions that lack it; by values. Numbers 0.01 apart or less are equal."""
    found = {}
    for i in range(ROWS):
        rows = {name: table[i] for name, table in tables.items() if i in table}
        missing = sorted(set(tables) - set(rows))
        columns = [
            column
            for place, column in enumerate(COLUMNS)
            if rows and max(float(r[place]) for r in rows.values()) - min(float(r[place]) for r in rows.values()) > 0.01
        ]
        if rows and (missing or columns):
            found[i] = ("different" if columns else "missing", columns, missing)
    return found


@pytest.mark.parametrize("few", [0, 10, 1_000])
@pytest.mark.parametrize(("regions", "tolerant"), [(2, False), (3, False), (3, True)])
def test_every_finding_names_its_columns(
    memory_regions: Any, monkeypatch: pytest.MonkeyPatch, few: int, regions: int, tolerant: bool
) -> None:
    """Whether all column digests come at first, or those of a sample, and the others with the looks after it."""
    monkeypatch.setattr(columnplan, "FEW_KEYS", few)
    monkeypatch.setattr("paritree.core.looks.FEW_KEYS", few)
    monkeypatch.setattr(columnplan, "SAMPLE_KEYS", max(1, few))
    kinds = {"id": parse_type("int")} | {c: parse_type("text") for c in COLUMNS}
    if tolerant:
        kinds["f"] = parse_type({"type": "decimal", "tolerance": "0.01"})
    for seed in range(6):
        made = memory_regions()
        made.profile = Profile("orders", ("id",), kinds)
        tables = worlds(random.Random(seed), regions, tolerant)
        for name, table in tables.items():
            made.add(name, [], profile=made.profile, policy=Policy(disclosure="keys"))
            columns = {"id": pa.array(table, pa.int64())}
            columns |= {c: pa.array([row[n] for row in table.values()], pa.utf8()) for n, c in enumerate(COLUMNS)}
            made.stores[name].put("orders", pa.table(columns), key=("id",))
        report = made.sweep(purpose="test")
        got = {
            f["key"]["id"]: (f["kind"], sorted(f.get("columns", ())), sorted(f.get("missing_in", ())))
            for f in report["findings"]
        }
        assert got == planted(tables), seed
        assert report["summary"]["unknown"] == report["summary"]["unsettled"] == 0
