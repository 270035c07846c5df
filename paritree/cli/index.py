"""``paritree index``: the indexes that an agent keeps over sweeps: what they are, made anew, verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from paritree.cli.output import EXIT_EQUAL, EXIT_UNKNOWN, JsonFlag, command_app, printable, show
from paritree.config.agent import load_agent

app = command_app("Show, verify and rebuild the indexes that an agent keeps.")

AgentFile = Annotated[Path, typer.Option("--config", envvar="PARITREE_AGENT_FILE", help="The agent's TOML file.")]
Datasets = Annotated[
    list[str] | None, typer.Argument(metavar="DATASET...", help="All that have an index.", show_default=False)
]


@app.command()
def status(datasets: Datasets = None, config: AgentFile = Path("agent.toml"), as_json: JsonFlag = False) -> None:
    """Show each index: rows, runs, changes, position, age, size, and what is wrong with it.

    Exit codes: 0 all can be used, 3 one is in doubt or not there.
    """
    from edge_agent import inspection  # the engines' drivers: not for --help

    found = [inspection.status(place) for place in inspection.places(load_agent(config), datasets or [])]
    show({"indexes_page": 1, "indexes": found}, _status_lines, as_json=as_json)
    raise typer.Exit(EXIT_EQUAL if all(one["state"] == "ready" for one in found) else EXIT_UNKNOWN)


@app.command()
def verify(datasets: Datasets = None, config: AgentFile = Path("agent.toml"), as_json: JsonFlag = False) -> None:
    """Read every run of each index, compare its checksum, and count all sums anew from the rows.

    What is wrong keeps its region from being called equal until it is repaired: by the agent, or by a scan.
    Exit codes: 0 all are whole, 3 one is damaged, in doubt or not there.
    """
    from edge_agent import inspection

    found = [inspection.verify(place) for place in inspection.places(load_agent(config), datasets or [])]
    show({"verified": 1, "indexes": found}, _verify_lines, as_json=as_json)
    raise typer.Exit(EXIT_EQUAL if all(one["ok"] for one in found) else EXIT_UNKNOWN)


@app.command()
def rebuild(datasets: Datasets = None, config: AgentFile = Path("agent.toml"), as_json: JsonFlag = False) -> None:
    """Scan the tables and make their indexes anew; the agent must not run meanwhile."""
    from edge_agent import inspection
    from paritree.cli.progress import shown_progress
    from paritree.core.messages import Progress
    from paritree.wire.control import SweepProgress

    loaded = load_agent(config)
    names = [place.dataset for place in inspection.places(loaded, datasets or [])]
    with shown_progress() as show_progress:

        def rebuilt(name: str) -> dict[str, Any]:
            def on_progress(progress: Progress) -> None:
                done = progress.shards_done, progress.shards_total, progress.rows
                show_progress(SweepProgress(name, "scan", *done))

            return inspection.rebuild(loaded, name, on_progress)

        found = [rebuilt(name) for name in names]
    show({"rebuilt": 1, "indexes": found}, _rebuild_lines, as_json=as_json)


def _status_lines(document: Mapping[str, Any]) -> Iterator[str]:
    for one in document["indexes"]:
        used = ", open in an agent" if one["in_use"] else ""
        if one["state"] == "none":
            yield printable(f"{one['dataset']}: no index: {one['reason']}{used}")
            continue
        yield printable(f"{one['dataset']}: {one['state']}, {one['rows']:,} rows, {one['age_s']:,.0f} s old{used}")
        yield printable(f"  position {one['position']}")
        changes = f"{one['changes']:,} changes in {one['change_runs']} of {one['runs']} runs"
        kind = ", encrypted" if one["encrypted"] else ""
        yield f"  {one['shards']} shards, {changes}, {one['bytes'] / 1e6:,.1f} MB{kind}, format {one['format']}"
        for fault in one["faults"]:
            yield printable(f"  in doubt: {fault['place']}: {fault['reason']}")
        for note in one["notes"]:
            yield printable(f"  {note}")


def _verify_lines(document: Mapping[str, Any]) -> Iterator[str]:
    for one in document["indexes"]:
        if one["ok"]:
            yield printable(f"{one['dataset']}: {one['runs']} runs with {one['rows']:,} rows are whole")
        for fault in one["faults"]:
            yield printable(f"{one['dataset']}: {fault['place']}: {fault['reason']}")


def _rebuild_lines(document: Mapping[str, Any]) -> Iterator[str]:
    for one in document["indexes"]:
        yield printable(f"{one['dataset']}: {one['rows']:,} rows in {one['shards']} shards, {one['seconds']:,.1f} s")
        for note in one["notes"]:
            yield printable(f"  {note}")
