"""Golden vectors, of an independent implementation and our own, pass; every mutation of either is caught and named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paritree.core.conformance import Outcome, check, not_checked
from paritree.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ROOT / "tests" / "vectors" / "canonical-v1.json"
EXTRA = FOREIGN.with_name("canonical-v1-extra.json")
SOURCE = ROOT.parent / "shared" / "vectors" / FOREIGN.name
"""What FOREIGN is a copy of, where it is at hand."""


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))  # a missing file fails


def failed(document: Any) -> list[Outcome]:
    return [outcome for outcome in check(document) if not outcome.passed]


@pytest.mark.parametrize("path", [FOREIGN, EXTRA], ids=["foreign", "extra"])
def test_golden_vectors_pass(path: Path) -> None:
    document = load(path)
    outcomes = list(check(document))
    assert [outcome for outcome in outcomes if not outcome.passed] == []
    assert not_checked(document) == []
    cases = [*document["rows"]["cases"], *document.get("whole_rows", {"cases": []})["cases"]]
    digests = sum(5 + len(case["column_digests"]) for case in cases)
    values = len(document["values"]) + sum("shifted" in item for item in document["values"])
    assert len(outcomes) == 2 + values + digests + len(document.get("profiles", []))


@pytest.mark.skipif(not SOURCE.exists(), reason="the original is not beside this checkout")
def test_the_copy_is_the_original() -> None:
    assert FOREIGN.read_bytes() == SOURCE.read_bytes()


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every hexadecimal text and token that the vectors expect."""
    if isinstance(node, dict):
        for name, item in node.items():
            if isinstance(item, str) and (name in EXPECTED or path[-1:] == ("column_digests",)):
                yield (*path, name)
            else:
                yield from places(item, (*path, name))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from places(item, (*path, index))


EXPECTED = {
    "canonical",
    "shifted",
    "dataset_key",
    "key_id",
    "key_bytes",
    "row_bytes",
    "key_digest",
    "row_digest",
    "token",
} | {"profile_id"}


def flipped(text: str) -> str:
    return text[:-1] + ("A" if text[-1] != "A" else "B") if text.isupper() else text[:-1] + f"{int(text[-1], 16) ^ 1:x}"


@pytest.mark.parametrize("path", [FOREIGN, EXTRA], ids=["foreign", "extra"])
def test_every_mutated_expectation_is_caught_and_named(path: Path) -> None:
    document = load(path)
    found = list(places(document))
    assert len(found) > 100
    turned = {}
    for place in found:
        node = document
        for step in place[:-1]:
            node = node[step]
        kept = node[place[-1]]
        node[place[-1]] = flipped(kept)
        named = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")
        turned[named.removesuffix(".canonical")] = (flipped(kept), kept)
    wrong = {outcome.where.partition(" ")[0]: (outcome.expected, outcome.got) for outcome in failed(document)}
    assert wrong == turned


@pytest.mark.parametrize("path", [FOREIGN, EXTRA], ids=["foreign", "extra"])
def test_a_dead_letter_that_should_be_a_value_and_the_reverse_are_caught(path: Path) -> None:
    document = load(path)
    for index, item in enumerate(document["values"]):
        turned = copy.deepcopy(item)
        if turned.pop("dead_letter", False):
            turned["canonical"] = "c0"
        else:
            del turned["canonical"]
            turned["dead_letter"] = True
        (wrong,) = failed({**document, "values": [turned]})
        assert wrong.where.startswith("values[0] ")
        assert ("dead letter" in wrong.got) == ("dead_letter" in item), index


def test_a_shifted_cell_of_a_value_that_does_not_fit_is_a_mismatch() -> None:
    kind = {"type": "decimal", "tolerance": "1"}
    wrong = failed({**load(EXTRA), "values": [{"type": kind, "value": "x", "canonical": "00", "shifted": "00"}]})
    assert [outcome.where.partition(" ")[0] for outcome in wrong] == ["values[0]", "values[0].shifted"]
    assert all("dead letter" in outcome.got for outcome in wrong)


def test_a_changed_value_changes_the_bytes_of_its_row() -> None:
    document = load(FOREIGN)
    document["rows"]["cases"][1]["values"]["note"] = "x"
    assert {outcome.where for outcome in failed(document)} == {
        "rows.cases[1].row_bytes",
        "rows.cases[1].row_digest",
        "rows.cases[1].column_digests.note",
    }


def test_a_row_that_is_a_dead_letter_is_a_mismatch() -> None:
    document = load(FOREIGN)
    document["rows"]["cases"][0]["values"]["id"] = None
    (wrong,) = failed(document)
    assert wrong.where == "rows.cases[0].values"
    assert "NULL" in wrong.got


def drop(*path: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        del document[path[-1]]

    return change


def put(value: Any, *path: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (put(2, "version"), "version 2"),
        (drop("rows"), "rows"),
        (drop("key_id"), "dataset_key"),
        (put("00", "master_key"), "32 bytes"),
        (put("zz" * 32, "master_key"), "malformed"),
        (drop("values", 3, "canonical"), "values[3]"),
        (drop("values", 3, "value"), "values[3]"),
        (put("nope", "values", 3, "type"), "values[3].type"),
        (put(True, "values", 3, "dead_letter"), "values[3]"),
        (put(7, "values", 3), "values[3]"),
        (put("00", "values", 3, "shifted"), "values[3].shifted: a"),
        (drop("rows", "cases", 0, "values", "note"), "rows.cases[0].values: column 'note'"),
        (put(1, "rows", "cases", 0, "values", "nota"), "no column 'nota'"),
        (put("00", "rows", "cases", 1, "column_digests", "nota"), "no column 'nota'"),
        (drop("rows", "cases", 1, "token"), "rows.cases[1]"),
        (put(["nota"], "rows", "key"), "nota"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_place(change: Callable[[Any], None], named: str) -> None:
    document = load(FOREIGN)
    change(document)
    with pytest.raises(ConfigError) as caught:
        list(check(document))
    assert named in str(caught.value)


@pytest.mark.parametrize("document", [None, [], 1, "x"])
def test_what_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(ConfigError, match="object"):
        list(check(document))


def test_a_section_that_is_not_known_is_named() -> None:
    assert not_checked({**load(FOREIGN), "trees": []}) == ["trees"]


@pytest.mark.parametrize(("kind", "value"), [("list<int>", "12"), ("map<text,text>", ["ab"]), ("duration", "abc")])
def test_text_is_no_array(kind: str, value: object) -> None:
    document = load(FOREIGN)
    document["values"] = [{"type": kind, "value": value, "canonical": "00"}]
    with pytest.raises(ConfigError, match=r"values\[0\]"):
        list(check(document))
