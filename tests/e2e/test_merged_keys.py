"""Keys that are several in the source and one when canonicalised: the report names column and rule, no value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from servers.cassandra_keyspace import keyspace
from typer.testing import CliRunner

from paritree.cli.main import app
from paritree.core.errors import SourceError
from paritree.core.profile import Profile
from paritree.core.types import parse_type

CASELESS = {"id": "int", "name": {"type": "text", "rules": ["rtrim", "casefold"]}, "amount": "decimal"}


def caseless(memory_regions: Any) -> Any:
    regions = memory_regions()
    regions.profile = Profile("orders", ("name",), {name: parse_type(kind) for name, kind in CASELESS.items()})
    return regions


@pytest.mark.parametrize("digester", ["plain", "compiled"])
def test_a_rule_that_merged_keys_is_named_in_the_finding_and_in_the_notes(memory_regions, digester):
    regions = caseless(memory_regions)
    one = [(i, f"n{i}", "1") for i in range(20)]
    regions.add("eu", [*one, (1, "Secret", "1"), (2, "secret", "1")], digester=digester)
    regions.add("us", [*one, (1, "secret", "1")], digester=digester)
    report = regions.sweep()
    [finding] = report["findings"]
    assert finding["counts"] == {"eu": 2, "us": 1}
    assert finding["merged"] == {"eu": ["name: casefold"]}
    assert report["notes"] == ["eu: keys that occur more than once were merged by: name: casefold (1)"]
    assert "ecret" not in json.dumps(report)


def test_equal_duplicates_are_equal_and_still_say_what_merged_them(memory_regions):
    regions = caseless(memory_regions)
    rows = [(1, "A", "1"), (1, "a ", "1"), (2, "b", "1"), (2, "b", "1")]
    regions.add("eu", rows)
    regions.add("us", [*rows, (9, "c", "1")][:4])
    report = regions.sweep()
    assert (report["verdict"], report["summary"]["duplicate"]) == ("equal", {"eu": 2, "us": 2})
    named = "keys that occur more than once were merged by: name: casefold (1), name: rtrim (1)"
    assert report["notes"] == [f"eu: {named}", f"us: {named}"]


def test_true_duplicates_were_merged_by_nothing(memory_regions):
    regions = memory_regions()
    regions.add("eu", [(1, "a", "1"), (1, "b", "1")])
    regions.add("us", [(1, "a", "1")])
    report = regions.sweep()
    [finding] = report["findings"]
    assert "merged" not in finding
    assert report["notes"] == []


def test_a_source_that_is_away_when_keys_are_read_again_costs_a_note_only(memory_regions, monkeypatch):
    def away(*_: Any) -> Any:
        raise SourceError("the database is away")

    monkeypatch.setattr("edge_agent.merged.read_now", away)
    regions = memory_regions()
    for name in ("eu", "us"):
        regions.add(name, [(1, "a", "1"), (1, "a", "1")])
    report = regions.sweep()
    assert report["verdict"] == "equal"
    why = "what merged duplicate keys could not be read: the database is away"
    assert report["notes"] == [f"eu: {why}", f"us: {why}"]


@pytest.mark.servers
def test_zeros_and_decimals_that_cassandra_has_apart(cassandra, postgresql):
    import psycopg

    url = postgresql.create_database("merged_keys")
    with psycopg.connect(url) as pg:
        pg.execute("CREATE TABLE t (f float8, d numeric, v int, PRIMARY KEY (f, d))")
        pg.execute("INSERT INTO t VALUES (0, 1, 7), (2, 1.5, 7)")
    with keyspace(cassandra, "merged_keys") as space:
        space.create("t", "f double, d decimal, v int, PRIMARY KEY ((f, d))")
        for f, d in ((0.0, "1"), (-0.0, "1"), (2.0, "1.5"), (2.0, "1.50")):
            space.run(f"INSERT INTO {{ks}}.t (f, d, v) VALUES ({f!r}, {d}, 7)")
        targets = [f"ca={cassandra.url}/merged_keys#t", f"pg={url}#t"]
        result = CliRunner().invoke(app, ["diff", *targets, "--key", "f,d", "--lag-max", "0", "--json"])
        people = CliRunner().invoke(app, ["diff", *targets, "--key", "f,d", "--lag-max", "0"])
    report = json.loads(result.stdout)
    assert (result.exit_code, report["verdict"]) == (1, "different")
    merged = {f["key"]["f"]: f["merged"] for f in report["findings"]}
    assert merged == {0.0: {"ca": ["f: negative zero is zero"]}, 2.0: {"ca": ["d: one value in several notations"]}}
    assert "merged in ca by f: negative zero is zero" in people.stdout
    assert any("one value in several notations (1)" in note for note in report["notes"])
