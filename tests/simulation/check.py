"""What a report may say of a world: the truth by brute force, and nothing wrong of the regions that do not lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import msgpack
from simulation.network import FAIR
from simulation.world import COLUMNS, KEYS, Row, World

from paritree.core.digest import token

Versions = dict[str, list[Row]]


def token_of(key: int) -> str:
    """The token of a key, from its canonical bytes as CANONICAL.md has them."""
    return token(digest_of(key))


def digest_of(key: int) -> bytes:
    """The key digest of a key."""
    return KEYS.key_digest(msgpack.packb([key]))


def versions(tables: Mapping[str, list[Row]], regions: Collection[str]) -> dict[str, Versions]:
    """Token -> rows of each region, for every key that is not the same in all those regions."""
    keys: dict[int, Versions] = {}
    for name in regions:
        for row in tables[name]:
            keys.setdefault(row[0], {n: [] for n in regions})[name].append(row)
    found = {key: {n: sorted(rows) for n, rows in rows_of.items()} for key, rows_of in keys.items()}
    return {token_of(k): v for k, v in found.items() if any(rows != next(iter(v.values())) for rows in v.values())}


def entry(token: str, rows_of: Versions) -> dict[str, Any]:
    """The finding that a key's rows call for."""
    if any(len(rows) > 1 for rows in rows_of.values()):
        counts = {name: len(rows) for name, rows in sorted(rows_of.items())}
        return {"key": None, "token": token, "kind": "duplicate", "counts": counts}
    groups: dict[tuple[Row, ...], list[str]] = {}
    for name, rows in sorted(rows_of.items()):
        groups.setdefault(tuple(rows), []).append(name)
    missing = groups.pop((), [])
    single = [rows[0] for rows in groups]
    differs = [name for i, name in enumerate(COLUMNS) if len({row[i] for row in single}) > 1]
    majority = next((g for g in (*groups.values(), missing) if 2 * len(g) > len(rows_of)), [])
    return {
        "key": None,
        "token": token,
        "kind": "different" if len(groups) > 1 else "missing",
        "groups": sorted(groups.values(), key=lambda group: (-len(group), group)),
        "missing_in": missing,
        "majority": majority,
        "columns": sorted(differs),
    }


def compared(report: Mapping[str, Any]) -> list[str]:
    return [region["name"] for region in report["regions"] if region["compared"]]


def check(world: World, report: Mapping[str, Any]) -> None:
    """Raises AssertionError for anything that the report must not say."""
    regions = compared(report)
    said = {v["verdict"] for v in report["verdicts"]}
    ranges = [finding for finding in report["findings"] if finding["kind"] == "range"]
    assert ("equal" in said) == (report["verdict"] == "equal") or ranges  # the regions beside a range may be equal
    if len(regions) < len(world.tables):
        assert "unknown" in said
        assert "equal" not in said
    moved = sum(region["bytes_sent"] + region["bytes_received"] for region in report["regions"])
    assert sum(report["bytes"].values()) == moved
    if world.hostile:
        _check_honest(world, report, regions)
        return
    apart = {name for ranged in ranges for name in ranged["differing"]}
    near = [name for name in regions if name not in apart]
    truth = versions(world.tables, near) if len(near) > 1 else {}
    expected = {key: entry(key, rows_of) for key, rows_of in truth.items()}
    assert {f["token"]: f for f in report["findings"] if f["kind"] != "range"} == expected
    assert report["findings_total"] == len(report["findings"]) == len(expected) + len(ranges)
    assert world.crowded or not ranges
    for ranged in ranges:
        _check_range(world, ranged)
    assert report["unknown_keys"] == report["unsettled_keys"] == []
    assert report["summary"]["healed"] == 0
    truth = versions(world.tables, regions) if len(regions) > 1 else {}
    assert ("different" in said) == bool(truth)
    if world.weather is FAIR:
        assert len(regions) == len(world.tables)
        assert report["verdict"] == ("different" if truth else "equal")
        _check_cost(world, report)


def _check_range(world: World, ranged: Mapping[str, Any]) -> None:
    """Its counts, and that its sample is all that differs below its node."""
    regions = [ranged["reference"], *ranged["differing"]]
    assert ranged["rows"] == {name: len(below(world.tables[name], ranged)) for name in regions}
    sample = ranged["sample"]
    truth = versions({name: below(world.tables[name], sample) for name in regions}, regions)
    found = [entry(key, rows_of) for key, rows_of in truth.items()]
    assert sample["keys"] == sample["confirmed"] == len(found) > 0
    assert sample["kinds"] == Counter(f["kind"] for f in found)
    assert all(example in found for example in sample["examples"])
    assert {name: file["keys"] for name, file in ranged["files"].items()} == ranged["rows"]


def below(rows: list[Row], node: Mapping[str, Any]) -> list[Row]:
    """The rows below the node of a report's entry."""
    digits, bits = node["prefix"], node["bits"]
    prefix = int(digits, 16) >> (4 * len(digits) - bits) if bits else 0
    return [row for row in rows if int.from_bytes(digest_of(row[0])[:8], "big") >> (64 - bits) == prefix]


def _check_cost(world: World, report: Mapping[str, Any]) -> None:
    rows = max(map(len, world.tables.values()))
    details = report["bytes"]["details"]
    allowed = len(world.tables) * (2 * 24 * rows + 16_384)
    if world.form is None and not world.crowded:
        assert sum(report["bytes"].values()) - details <= allowed
        assert report["rounds"] <= 3


def holders(finding: Mapping[str, Any]) -> list[str]:
    """The regions that are said to have the key."""
    if finding["kind"] == "duplicate":
        return [name for name, count in finding["counts"].items() if count]
    return [name for group in finding["groups"] for name in group]


def _check_honest(world: World, report: Mapping[str, Any], regions: Collection[str]) -> None:
    """Whatever one region says, what is said of the others is true, and nothing of them is left out silently."""
    honest = [name for name in regions if name != world.hostile]
    rows_of = {name: Counter(world.tables[name]) for name in honest}
    ranges = [finding for finding in report["findings"] if finding["kind"] == "range"]  # many, as the liar has it
    for ranged in ranges:
        if {ranged["reference"], *ranged["differing"]} <= set(honest):
            _check_range(world, ranged)
    apart = {name for ranged in ranges for name in ranged["differing"]}
    near = [name for name in honest if name not in apart]
    truth = versions(world.tables, near) if len(near) > 1 else {}
    keys = {token_of(row[0]): row[0] for rows in rows_of.values() for row in rows}
    named = set()
    for finding in report["findings"]:
        if finding in ranges:
            continue
        if not any(name in honest for name in holders(finding)):
            continue  # a row that the liar alone claims to have, under a key whose token may be that of another
        named.add(finding["token"])
        of = {
            name: sorted(r for r in rows_of[name].elements() if r[0] == keys.get(finding["token"])) for name in honest
        }
        if finding["kind"] == "duplicate":
            assert {n: c for n, c in finding["counts"].items() if n in honest} == {n: len(r) for n, r in of.items()}
        else:
            assert {name for name in finding["missing_in"] if name in honest} == {n for n, r in of.items() if not r}
            for group in finding["groups"]:
                assert len({tuple(of[name]) for name in group if name in honest}) <= 1
            alike = {name: i for i, group in enumerate(finding["groups"]) for name in group}
            for a in honest:
                for b in honest:
                    assert (alike.get(a) == alike.get(b)) == (of[a] == of[b])
    open_keys = {e["token"] for e in (*report["unknown_keys"], *report["unsettled_keys"])}
    assert truth.keys() <= named | open_keys
    if report["verdict"] == "equal":
        assert not truth
