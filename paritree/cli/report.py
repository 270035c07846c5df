"""The JSON report of a sweep or ``diff``, for people: what differs first, then where it was looked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from paritree.cli.output import printable, styled

COLOURS: Final[Mapping[str, str]] = {"equal": "green", "different": "red", "unsettled": "yellow", "unknown": "yellow"}
SHOWN_MAX: Final = 50
"""Keys shown of a list in a report for people; ``--json`` and ``paritree findings`` have the rest."""


def report_lines(report: Mapping[str, Any], *, shown: int = SHOWN_MAX) -> Iterator[str]:
    """The report of one dataset as lines of text."""
    verdict = str(report["verdict"])
    elapsed = _seconds(report.get("elapsed_s"))
    title = f"{printable(_of(report))}: {styled(verdict, COLOURS.get(verdict, 'yellow'))}"
    yield f"{title}   ({elapsed}, {_count(report.get('rounds', 0), 'round')})"
    for stated in report.get("verdicts", ()):
        regions = ", ".join(stated.get("regions", ()))
        yield "  " + printable(f"{stated['verdict']}{f' ({regions})' if regions else ''}: {stated['reason']}")
    yield ""
    yield from _indented(_regions(report.get("regions", ())))
    yield ""
    yield from _columns(report.get("columns", {}))
    yield from _indented([_summary(report.get("summary", {}))])
    yield from (f"  note: {printable(str(note))}" for note in report.get("notes", ()))
    yield from _list(report.get("findings", ()), report.get("findings_total", 0), shown, report.get("sweep_id"))
    for name, title in (
        ("unknown_keys", "keys that could not be judged"),
        ("unsettled_keys", "keys that kept changing"),
    ):
        if listed := report.get(name):
            yield ""
            yield f"  {title}:"
            yield from (f"    {key_text(entry)}  {printable(str(entry.get('reason', '')))}" for entry in listed[:shown])


def _of(document: Mapping[str, Any]) -> str:
    """What was swept: the dataset, or one bucket of it."""
    part = document.get("scope")
    return f"{document['dataset']}, {part['name']} {part['bucket']}" if part else str(document["dataset"])


def findings_lines(page: Mapping[str, Any]) -> Iterator[str]:
    """A page of findings as lines of text."""
    total, offset, findings = page["findings_total"], page["offset"], page["findings"]
    last = offset + len(findings)
    span = f"{offset + 1} to {last} of " if findings else ""
    yield printable(f"{_of(page)}: {page['verdict']}, {span}{_count(total, 'finding')} (sweep {page['sweep_id']})")
    yield from _indented(table(list(map(_finding, findings))))
    if last < total:
        yield f"  more: --offset {last}"


def status_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """The status document as lines of text."""
    rows: list[tuple[str, ...]] = [("region", "agent", "connected", "since / last seen")]
    for region in status["regions"]:
        agents = region["agents"] or [{"name": "-", "connected": False, "connected_since": None, "last_seen": None}]
        for agent in agents:
            at = agent["connected_since"] or agent["last_seen"] or "never"
            rows.append((region["name"], agent["name"], "yes" if agent["connected"] else "no", _short(at)))
    yield from table(rows)
    yield ""
    rows = [("dataset", "regions", "last sweep", "verdict", "sweep")]
    for dataset in status["datasets"]:
        last = dataset["last_sweep"]
        regions = ", ".join(dataset["regions"])
        if last is None:
            rows.append((dataset["name"], regions, "never", "-", "-"))
        else:
            at = _short(last["finished_at"] or last["started_at"])
            verdict = last["verdict"] or last["state"]
            if part := last.get("scope"):  # what holds for a bucket says nothing of the dataset
                verdict = f"{verdict} (one {part['name']} only)"
            rows.append((dataset["name"], regions, at, verdict, last["sweep_id"]))
    yield from table(rows)


def key_text(entry: Mapping[str, Any]) -> str:
    """A key in clear as ``a=1 b='x'``, else its token, else that it is withheld."""
    key = entry.get("key")
    if isinstance(key, Mapping):
        return printable(" ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in key.items()))
    return printable(str(entry.get("token") or "(withheld)"))


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as columns that line up; a control character in a cell is shown, not obeyed."""
    cells = [[printable(cell).replace("\n", "\\n") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _list(findings: Sequence[Mapping[str, Any]], total: int, shown: int, sweep_id: object) -> Iterator[str]:
    if not total:
        return
    listed = findings[:shown]
    yield ""
    yield f"  {_count(total, 'finding')}:" if len(listed) == total else f"  {len(listed)} of {total:,} findings:"
    yield from (f"    {line}" for line in table(list(map(_finding, listed))))
    if len(listed) < total:
        more = f"paritree findings --sweep {sweep_id}" if sweep_id else "--json --limit"
        yield printable(f"    all: {more}")


def _finding(finding: Mapping[str, Any]) -> tuple[str, str, str]:
    kind = str(finding["kind"])
    if counts := finding.get("counts"):
        times = ", ".join(f"{count} times in {name}" for name, count in counts.items())
        merged = "".join(f"; merged in {name} by {', '.join(by)}" for name, by in finding.get("merged", {}).items())
        return key_text(finding), kind, times + merged
    if kind == "range":
        return f"{finding['prefix']}/{finding['bits']}", kind, _range(finding)
    groups = " | ".join(", ".join(group) for group in finding.get("groups", ()))
    said = [f"columns {', '.join(finding['columns'])}"] if finding.get("columns") else []
    if missing := finding.get("missing_in"):
        said.append(f"missing in {', '.join(missing)}")
    return key_text(finding), kind, "; ".join([*said, f"present in {groups}" if kind == "missing" else groups])


def _range(finding: Mapping[str, Any]) -> str:
    """Rows, what the sample showed, and where the keys are."""
    said = [", ".join(f"{count:,} rows in {name}" for name, count in finding["rows"].items())]
    if sample := finding.get("sample"):
        columns = f" in {', '.join(sample['columns'])}" if sample["columns"] else ""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sample["kinds"].items())
        said.append(f"of {_count(sample['keys'], 'sampled key')} {kinds}{columns}")
    said += [
        f"keys in {name}: {file['name']}" if "name" in file else f"no keys in {name}: {file['problem']}"
        for name, file in finding.get("files", {}).items()
    ]
    return "; ".join(said)


def _regions(regions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [("region", "engine", "rows", "dead letters", "scan", "sent", "received", "position")]
    for region in regions:
        count = region.get("rows")
        dead = region.get("dead_letters")
        rows.append(
            (
                str(region["name"]),
                str(region.get("engine") or "-"),
                "-" if count is None else f"{count:,}",
                "-" if dead is None else f"{dead:,}",
                _seconds(region.get("scan_s")),
                _bytes(region.get("bytes_sent", 0)),
                _bytes(region.get("bytes_received", 0)),
                str(region.get("position") or "-"),
            )
        )
    return table(rows)


def _columns(columns: Mapping[str, Any]) -> Iterator[str]:
    compared = columns.get("compared", ())
    yield "  " + printable(f"{_count(len(compared), 'column')} compared: {', '.join(compared)}")
    if ignored := columns.get("ignored"):
        yield "  " + printable(f"ignored: {', '.join(ignored)}")
    if tolerance := columns.get("tolerance"):
        yield "  " + printable(f"tolerance: {', '.join(f'{name} {text}' for name, text in tolerance.items())}")


def _summary(summary: Mapping[str, Any]) -> str:
    said = [f"{summary.get('different', 0):,} different"]
    said += [f"{count:,} missing in {region}" for region, count in summary.get("missing", {}).items()]
    said += [f"{count:,} duplicate in {region}" for region, count in summary.get("duplicate", {}).items()]
    fates = ("unsettled", "healed", "within_tolerance", "unknown")
    said += [f"{summary[name]:,} {name.replace('_', ' ')}" for name in fates if summary.get(name)]
    return printable(" · ".join(said))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _seconds(value: object) -> str:
    return f"{value:.1f} s" if isinstance(value, int | float) else "-"


def _bytes(number: int) -> str:
    """Bytes as people read them, in binary units."""
    size = float(number)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _short(at: str) -> str:
    """An instant to the second, in UTC."""
    return at[:19].replace("T", " ") + " UTC" if len(at) > 19 else at
