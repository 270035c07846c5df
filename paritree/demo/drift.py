"""Known drift: what goes wrong between copies in practice, planted by a seed, and what a sweep has to find of it."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from paritree.core.errors import InvariantBroken
from paritree.demo.flights import COLUMNS, KEY, SCHEMA, check_key, rows_at

SEED: Final = 2013
REGIONS: Final = ("eu", "us", "ap")
NEW_FLIGHT_MIN: Final = 9_000
"""Flight numbers of inserted rows start here; the largest one in the data is 8,500."""

Row = dict[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """One kind of drift: ``count`` rows, each changed by ``change`` in every region of ``regions``.

    ``change`` takes a row, a source of randomness and the region; it returns the row as that region has it then, None
    where it is gone. ``fits`` says which rows it can happen to. ``new`` rows exist in ``regions`` only.
    """

    what: str
    regions: tuple[str, ...]
    count: int
    change: Callable[[Row, random.Random, str], Row | None]
    fits: Callable[[Row], bool] | None = None
    new: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What a sweep has to report of one key; ``groups`` are the regions by equal version, each sorted."""

    kind: str
    groups: frozenset[tuple[str, ...]]
    missing_in: frozenset[str]
    columns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Planted:
    """Every region's table, and every key that differs with what is to be found of it."""

    tables: Mapping[str, pa.Table]
    findings: Mapping[Key, Finding]
    drifts: Sequence[Drift] = field(default_factory=tuple)


def _later(row: Row, rng: random.Random, _region: str) -> Row:
    return {**row, "arr_delay": row["arr_delay"] + rng.randint(1, 90)}


def _gone(_row: Row, _rng: random.Random, _region: str) -> None:
    return None


def _inserted(row: Row, _rng: random.Random, _region: str) -> Row:
    return row


def _shifted(row: Row, _rng: random.Random, _region: str) -> Row:
    return {**row, "time_hour": row["time_hour"] - dt.timedelta(hours=5)}


def _padded(row: Row, _rng: random.Random, _region: str) -> Row:
    return {**row, "tailnum": row["tailnum"] + " "}


def _zeroed(row: Row, _rng: random.Random, _region: str) -> Row:
    return {**row, "dep_delay": 0}


def _own_version(row: Row, _rng: random.Random, region: str) -> Row:
    return {**row, "air_time": row["air_time"] + REGIONS.index(region)}


def _changed_or_gone(row: Row, _rng: random.Random, region: str) -> Row | None:
    return {**row, "dest": "HNL" if row["dest"] != "HNL" else "OGG"} if region == "us" else None


DRIFTS: Final[Sequence[Drift]] = (
    Drift("updates of arr_delay that only us has", ("us",), 12, _later, lambda row: row["arr_delay"] is not None),
    Drift("deletes that ap has done alone", ("ap",), 6, _gone),
    Drift("rows that never reached us and ap", ("us", "ap"), 3, _gone),
    Drift("rows inserted by hand in eu", ("eu",), 4, _inserted, new=True),
    Drift("time_hour in local time in us (5 h off)", ("us",), 5, _shifted),
    Drift("a space after tailnum in eu", ("eu",), 4, _padded, lambda row: row["tailnum"] is not None),
    Drift("dep_delay 0 in ap where it is null", ("ap",), 3, _zeroed, lambda row: row["dep_delay"] is None),
    Drift("air_time different in all three", ("us", "ap"), 2, _own_version, lambda row: row["air_time"] is not None),
    Drift("another dest in us, deleted in ap", ("us", "ap"), 2, _changed_or_gone),
)


def plant(flights: pa.Table, drifts: Sequence[Drift] = DRIFTS, seed: int = SEED) -> Planted:
    """Three copies of the flights with the drifts, each at rows of its own. The same seed gives the same copies."""
    rng = random.Random(seed)
    taken: set[int] = set()
    touched: dict[int, dict[str, Row | None]] = {}
    added: dict[Key, dict[str, Row | None]] = {}
    for drift in drifts:
        for place, row in _chosen(flights, drift, rng, taken):
            if drift.new:
                row = {**row, "flight": NEW_FLIGHT_MIN + len(added)}
            changed = {region: drift.change(row, rng, region) for region in drift.regions}
            versions = {region: changed.get(region, None if drift.new else row) for region in REGIONS}
            if drift.new:
                added[_key(row)] = versions
            else:
                touched[place] = versions
    tables = {region: _table(flights, region, touched, added.values()) for region in REGIONS}
    originals = rows_at(flights, np.array(sorted(touched), np.int64))
    by_key = {_key(row): touched[place] for place, row in zip(sorted(touched), originals, strict=True)} | added
    return Planted(tables, {key: expected(versions) for key, versions in sorted(by_key.items())}, drifts)


def _chosen(flights: pa.Table, drift: Drift, rng: random.Random, taken: set[int]) -> list[tuple[int, Row]]:
    """Rows that the drift can happen to and that no other drift has."""
    chosen: list[tuple[int, Row]] = []
    order = rng.sample(range(flights.num_rows), flights.num_rows)
    for first in range(0, len(order), 1_000):
        places = order[first : first + 1_000]
        for place, row in zip(places, rows_at(flights, np.array(places, np.int64)), strict=True):
            if len(chosen) == drift.count:
                return chosen
            if place not in taken and (drift.fits is None or drift.fits(row)):
                taken.add(place)
                chosen.append((place, row))
    if len(chosen) < drift.count:
        raise InvariantBroken(f"{drift.what}: only {len(chosen)} of {drift.count} rows fit")
    return chosen


def _table(flights: pa.Table, region: str, touched: Mapping[int, Mapping[str, Row | None]], added: Any) -> pa.Table:
    """The region's copy: the untouched rows in their order, then those that were touched and are still there."""
    own = [versions[region] for versions in (*touched.values(), *added)]
    kept = np.setdiff1d(np.arange(flights.num_rows), np.fromiter(touched, np.int64, len(touched)), assume_unique=True)
    rows = pa.Table.from_pylist([row for row in own if row is not None], schema=SCHEMA)
    table = pa.concat_tables([flights.take(pa.array(kept)), rows]).combine_chunks()
    check_key(table)
    return table


def expected(versions: Mapping[str, Row | None]) -> Finding:
    """What a sweep has to say of a key with these versions, by comparing the values themselves."""
    present: list[tuple[Row, list[str]]] = []
    for region, row in versions.items():
        if row is None:
            continue
        group = next((regions for other, regions in present if other == row), None)
        if group is None:
            present.append((row, [region]))
        else:
            group.append(region)
    rows = [row for row, _ in present]
    columns = {name for name in COLUMNS if any(row[name] != rows[0][name] for row in rows)}
    return Finding(
        kind="different" if len(present) > 1 else "missing",
        groups=frozenset(tuple(sorted(regions)) for _, regions in present),
        missing_in=frozenset(region for region, row in versions.items() if row is None),
        columns=frozenset(columns),
    )


def _key(row: Row) -> Key:
    """The key as a report shows it in clear: dates as text."""
    return tuple(str(row[name]) if isinstance(row[name], dt.date) else row[name] for name in KEY)


def found(report: Mapping[str, Any]) -> dict[Key, Finding]:
    """The findings of a report in the same form. Raises InvariantBroken where one has no clear key."""
    result: dict[Key, Finding] = {}
    for finding in report["findings"]:
        if not finding.get("key"):
            raise InvariantBroken(f"finding {finding.get('token')} has no clear key, which the policies grant here")
        key = tuple(finding["key"][name] for name in KEY)
        if key in result:
            raise InvariantBroken(f"the report lists {key} twice")
        result[key] = Finding(
            kind=str(finding["kind"]),
            groups=frozenset(tuple(sorted(group)) for group in finding.get("groups", ())),
            missing_in=frozenset(finding.get("missing_in", ())),
            columns=frozenset(finding.get("columns", ())),
        )
    return result
