"""The report for people: everything that matters is said, nothing in it commands the terminal."""

from __future__ import annotations

from typing import Any

import pytest
from operated import report_of

from paritree.cli.progress import PlainLines, line
from paritree.cli.report import findings_lines, key_text, report_lines, status_lines, table
from paritree.wire.control import SweepProgress

FINDINGS: list[dict[str, Any]] = [
    {
        "key": {"id": 37},
        "token": "A",
        "kind": "different",
        "groups": [["eu", "ap"], ["us"]],
        "missing_in": [],
        "columns": ["amount"],
    },
    {"key": None, "token": "B", "kind": "missing", "groups": [["eu"]], "missing_in": ["us", "ap"], "columns": []},
    {"key": None, "token": None, "kind": "duplicate", "counts": {"eu": 2, "us": 1}},
    {
        "kind": "range",
        "prefix": "0f",
        "bits": 12,
        "rows": {"eu": 812, "us": 0},
        "sample": {"keys": 90, "kinds": {"different": 2, "missing": 88}, "columns": {"amount": 2}},
        "files": {"eu": {"name": "s-1-0f0-12.ndjson", "keys": 812}, "us": {"problem": "disk full"}},
    },
]


def lines_of(**changes: Any) -> list[str]:
    return list(report_lines(report_of("orders", **changes)))


def test_an_equal_report_says_where_and_how_it_was_looked() -> None:
    text = "\n".join(lines_of())
    assert text.startswith("orders: equal   (0.2 s, 2 rounds)\n  equal (eu, us): because\n")
    assert "eu      memory  3     0             0.1 s  2.0 KiB  10 B      1" in text
    assert "2 columns compared: id, name" in text
    assert "ignored: note" in text
    assert "findings" not in text


def test_every_kind_of_finding_is_told() -> None:
    summary = {
        "different": 1,
        "missing": {"us": 1, "ap": 1},
        "duplicate": {"eu": 1},
        "unsettled": 2,
        "healed": 3,
        "within_tolerance": 5,
        "unknown": 4,
    }
    text = "\n".join(lines_of(verdict="different", findings_total=4, findings=FINDINGS, summary=summary))
    assert "4 findings:" in text
    assert "id=37       different  columns amount; eu, ap | us" in text
    assert "B           missing    missing in us, ap; present in eu" in text
    assert "(withheld)  duplicate  2 times in eu, 1 times in us" in text
    assert (
        "0f/12       range      812 rows in eu, 0 rows in us; of 90 sampled keys 2 different, 88 missing in amount; "
        "keys in eu: s-1-0f0-12.ndjson; no keys in us: disk full"
    ) in text
    assert (
        "1 different · 1 missing in us · 1 missing in ap · 1 duplicate in eu"
        " · 2 unsettled · 3 healed · 5 within tolerance · 4 unknown"
    ) in text


def test_the_tolerance_is_told() -> None:
    columns = {"compared": ["id", "x"], "ignored": [], "not_compared": [], "tolerance": {"x": "0.5"}}
    assert "  tolerance: x 0.5" in lines_of(columns=columns)


def test_what_was_not_compared_is_told() -> None:
    columns = {"compared": ["id"], "ignored": ["x"], "not_compared": []}
    unknown = [{"key": {"id": 1}, "token": "A", "reason": "absent in us, which has dead letters"}]
    text = "\n".join(lines_of(verdict="unknown", columns=columns, unknown_keys=unknown, notes=["eu: slow"]))
    assert "1 column compared: id" in text
    assert "ignored: x" in text
    assert "keys that could not be judged:\n    id=1  absent in us, which has dead letters" in text
    assert "note: eu: slow" in text


def test_a_region_that_never_answered() -> None:
    nothing = {"name": "us", "engine": None, "rows": None, "position": None, "dead_letters": None, "scan_s": None}
    assert any(
        line.split() == ["us", "-", "-", "-", "-", "0", "B", "0", "B", "-"] for line in lines_of(regions=[nothing])
    )
    assert lines_of(regions=[])


def test_a_long_list_says_where_the_rest_is() -> None:
    many = [{**FINDINGS[1], "token": str(n)} for n in range(60)]
    text = "\n".join(lines_of(verdict="different", findings_total=100, findings=many, sweep_id="s1"))
    assert "50 of 100 findings:" in text
    assert "paritree findings --sweep s1" in text
    page = {
        "dataset": "orders",
        "verdict": "different",
        "sweep_id": "s1",
        "findings_total": 100,
        "offset": 40,
        "findings": many,
    }
    shown = list(findings_lines({**page, "findings": many[:10]}))
    assert shown[0] == "orders: different, 41 to 50 of 100 findings (sweep s1)"
    assert shown[-1] == "  more: --offset 50"
    assert list(findings_lines({**page, "findings": [], "findings_total": 0, "offset": 0})) == [
        "orders: different, 0 findings (sweep s1)"
    ]


@pytest.mark.parametrize("evil", ["a\x1b[2Jb", "a\rb", "a\nb", "a\x9bb"])
def test_data_does_not_command_the_terminal(evil: str) -> None:
    finding = {**FINDINGS[0], "key": {"name": evil}, "columns": [evil]}
    verdicts = [{"verdict": "different", "regions": ["eu"], "reason": evil.replace("\n", " ")}]
    told = lines_of(
        verdict="different", findings_total=1, findings=[finding], verdicts=verdicts, notes=[evil.replace("\n", " ")]
    )
    assert all(line.isprintable() for line in told)
    assert key_text({"key": {"name": evil}}).isprintable()


def test_keys_are_unambiguous() -> None:
    assert key_text({"key": {"id": 1, "name": 'x" y=2'}}) == 'id=1 name="x\\" y=2"'
    assert key_text({"key": None, "token": "ABC"}) == "ABC"
    assert key_text({}) == "(withheld)"


def test_status_lines_up_and_covers_what_never_was() -> None:
    agent = {"name": "eu-1", "connected": True, "connected_since": "2024-01-02T03:04:05.678+00:00", "last_seen": None}
    regions = [
        {"name": "eu", "connected": True, "agents": [agent]},
        {"name": "us", "connected": False, "agents": []},
    ]
    last = {
        "sweep_id": "s1",
        "state": "failed",
        "verdict": None,
        "started_at": "2024-01-02T03:04:05.678+00:00",
        "finished_at": None,
    }
    datasets = [
        {"name": "a", "regions": ["eu", "us"], "last_sweep": last},
        {"name": "b", "regions": ["eu"], "last_sweep": None},
    ]
    told = list(status_lines({"regions": regions, "datasets": datasets}))
    assert told[1] == "eu      eu-1   yes        2024-01-02 03:04:05 UTC"
    assert told[2] == "us      -      no         never"
    assert told[5].split() == ["a", "eu,", "us", "2024-01-02", "03:04:05", "UTC", "failed", "s1"]
    assert told[6].split() == ["b", "eu", "never", "-", "-"]


def test_an_empty_table() -> None:
    assert list(table([])) == []


def test_plain_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = PlainLines(lambda: now[0])
    for shards in range(10):
        lines.update(SweepProgress("eu", "scan", shards, 10, shards * 1000))
        now[0] += 1.0
    lines.update(SweepProgress("eu", "scan", 10, 10, 10_000))
    lines.update(SweepProgress("eu", "look"))
    lines.update(SweepProgress("", "queued"))
    assert capsys.readouterr().err.splitlines() == [
        "eu: scan 0/10 shards",
        "eu: scan 5/10 shards, 5,000 rows",
        "eu: scan 10/10 shards, 10,000 rows",
        "eu: look",
        "queued",
    ]
    assert line(SweepProgress("eu", "scan", 3, 12, 750_000)) == "eu: scan 3/12 shards, 750,000 rows"
