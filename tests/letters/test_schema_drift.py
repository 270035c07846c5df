"""A table that is not the one that was compared before stops its dataset, says what has changed, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from drifting import Cassandra, Drifting, Parquet, Postgresql, Sqlite

from edge_agent.letters.sweep import SchemaDrift
from paritree.core.deadletters import LetterKind, LetterState
from paritree.core.drift import changed_columns, described, differences
from paritree.core.errors import ConfigError, SourceError
from paritree.core.schema import SourceColumn, TableSchema
from paritree.core.types import parse_type

ENGINES = {kind.__name__.lower(): kind for kind in (Sqlite, Parquet, Postgresql, Cassandra)}
SAID = {
    "added": r"column 'note' \(.*\) is new",
    "dropped": r"column 'amount' \(.*\) is gone",
    "retyped": r"column 'amount' was .*, is .*",
}


@pytest.fixture(params=ENGINES)
def drifting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Drifting]:
    kind = ENGINES[request.param]
    made = kind(tmp_path, request.getfixturevalue(kind.server) if kind.server else None)
    yield made
    made.close()


def refused(drifting: Drifting, how: str, **sweep: Any) -> None:
    """A sweep ends with the difference, which is the one letter, and its columns are named."""
    with pytest.raises(SchemaDrift, match=SAID[how]) as caught:
        drifting.sweep(**sweep)
    (letter,) = drifting.letters
    assert letter.kind is LetterKind.SCHEMA
    assert letter.reason in caught.value.message
    assert letter.columns == caught.value.columns
    assert ("note" if how == "added" else "amount") in letter.columns
    assert not caught.value.retryable


PAIRS = [(engine, how) for engine in ENGINES for how in SAID if (engine, how) != ("cassandra", "added")]
"""Cassandra's changes take seconds; that a column is added to it is in the test of changes that are taken back."""


@pytest.mark.parametrize(("drifting", "how"), PAIRS, indirect=["drifting"])
def test_a_change_between_two_sweeps_stops_the_second(drifting: Drifting, how: str) -> None:
    drifting.sweep()
    drifting.change(how)
    refused(drifting, how)
    refused(drifting, how)
    assert drifting.letters[0].count == 2


def test_a_change_taken_back_ends_its_letter(drifting: Drifting) -> None:
    drifting.sweep()
    drifting.change("added")
    refused(drifting, "added")
    drifting.change("back")
    drifting.sweep()
    assert drifting.letters == ()


def test_replay_goes_on_with_the_table_as_it_is_where_it_fits(drifting: Drifting) -> None:
    drifting.sweep()
    drifting.change("added")
    refused(drifting, "added")
    assert len(drifting.ask("replay").cleared) == 1
    drifting.sweep()
    drifting.change("dropped")
    refused(drifting, "dropped")
    assert drifting.ask("replay").cleared == (), "a compared column is not there: that fits no dataset"
    with pytest.raises(SchemaDrift):
        drifting.sweep()


@pytest.mark.parametrize(("drifting", "how"), [pair for pair in PAIRS if pair[1] != "retyped"], indirect=["drifting"])
def test_a_change_in_the_middle_of_a_scan(drifting: Drifting, how: str) -> None:
    if isinstance(drifting, Postgresql):
        altered: list[bool] = []
        drifting.sweep(lambda: altered.append(drifting.change_at_once(how)))
        assert altered == [False], "PostgreSQL's plan holds a lock that keeps the table as it is"
        return
    refused(drifting, how, meanwhile=lambda: drifting.change(how))
    assert not list(drifting.place.glob("s*/*.letters"))


@pytest.mark.parametrize("drifting", ["sqlite", "postgresql"], indirect=True)
def test_another_key(drifting: Drifting) -> None:
    drifting.sweep()
    drifting.change("key")
    with pytest.raises(SchemaDrift, match=r"the key was \(id\), is \((id, amount)?\)"):
        drifting.sweep()


@pytest.mark.parametrize("drifting", ["sqlite", "postgresql", "cassandra"], indirect=True)
def test_a_table_that_is_gone(drifting: Drifting) -> None:
    drifting.sweep()
    drifting.change("gone")
    with pytest.raises(ConfigError):
        drifting.sweep()
    (letter,) = drifting.letters
    assert letter.kind is LetterKind.SCHEMA


@pytest.mark.parametrize("drifting", ["sqlite"], indirect=True)
def test_columns_that_are_ignored_may_change_and_a_new_declaration_is_a_new_beginning(drifting: Drifting) -> None:
    drifting.sweep()
    drifting.change("added")
    drifting.copy = drifting._copy("note")
    drifting.sweep()
    assert drifting.letters == ()
    drifting.copy = drifting._copy()
    refused(drifting, "added")
    (letter,) = drifting.letters
    assert letter.state is LetterState.OPEN


@pytest.mark.parametrize("drifting", ["parquet"], indirect=True)
def test_one_file_of_several_with_another_schema(drifting: Parquet) -> None:
    drifting.sweep()
    drifting.write(1, {**drifting.TABLE, "amount": pa.utf8()})
    with pytest.raises((SchemaDrift, ConfigError, SourceError), match="amount"):
        drifting.sweep()


def test_neighbours_go_on(neighbours: Any) -> None:
    """Two datasets of the same agents: one has drifted, the other one is compared."""
    rows = [(i, f"name {i}", "1.5") for i in range(10)]
    neighbours.put(rows)
    neighbours.put(rows, "users")
    assert neighbours.sweep("orders")["verdict"] == neighbours.sweep("users")["verdict"] == "equal"
    neighbours.regions["us"].put(rows, note=pa.array(["x"] * 10))
    drifted = neighbours.sweep("orders")
    assert drifted["verdict"] == "unknown"
    (stated,) = [one for one in drifted["verdicts"] if one["regions"] == ["us"]]
    assert "column 'note' (string) is new" in stated["reason"]
    assert neighbours.sweep("users")["verdict"] == "equal"


def column(name: str, kind: str, **more: Any) -> SourceColumn:
    return SourceColumn(name, kind, parse_type("text"), **more)


def test_what_counts_as_a_difference() -> None:
    was = TableSchema("t", (column("a", "text"), column("b", "char(3)", padded=True), column("c", "text")), ("a",))
    same = TableSchema("t", (column("c", "text", nullable=False), *was.columns[:2]), ("a",), rows_estimate=7)
    assert differences(described(was), described(same)) == []
    now = TableSchema("t", (column("b", "char(3)"), column("c", "text", caseless=True), column("d", "text")), ())
    assert differences(described(was), described(now)) == [
        "column 'a' (text) is gone",
        "column 'b' (char(3)) padded was True, is False",
        "column 'c' (text) caseless was False, is True",
        "column 'd' (text) is new",
        "the key was (a), is ()",
    ]
    assert changed_columns(described(was, ("a", "b")), described(now, ("a", "b"))) == ["c", "d"]
