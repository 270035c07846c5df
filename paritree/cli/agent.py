"""``paritree agent``: run a region's agent; resolve tokens and name buckets inside the region."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from paritree.cli.logs import LogFlag, LogLevelFlag, configure
from paritree.cli.output import EXIT_EQUAL, EXIT_UNKNOWN, JsonFlag, command_app, printable, show
from paritree.cli.report import table
from paritree.config.agent import load_agent

app = command_app("Run a region's agent; resolve tokens and name buckets in its region.")

AgentFile = Annotated[Path, typer.Option("--config", envvar="PARITREE_AGENT_FILE", help="The agent's TOML file.")]


@app.command()
def run(
    config: AgentFile = Path("agent.toml"),
    log: LogFlag = None,
    log_level: LogLevelFlag = None,
) -> None:
    """Run the agent until SIGTERM (exit code 0) or Ctrl-C (130). It dials the coordinator and opens no port."""
    from edge_agent.serve import run_agent  # the engines' drivers: not for --help

    configure(log or "text", log_level or "info")
    raise typer.Exit(run_agent(load_agent(config)))


@app.command()
def reveal(
    tokens: Annotated[list[str], typer.Argument(metavar="TOKEN...", show_default=False)],
    dataset: Annotated[str, typer.Option("--dataset", help="Only in this dataset.")] = "",
    purpose: Annotated[str, typer.Option("--purpose", help="Why, for the log of revealed tokens.")] = "",
    config: AgentFile = Path("agent.toml"),
    as_json: JsonFlag = False,
) -> None:
    """Say which keys tokens of a report stand for. Works inside the region only, and is logged in its spool.

    Exit codes: 0 all tokens known, 3 some unknown here (swept before this spool, or of another region).
    """
    from edge_agent.reveal import reveal_tokens

    found = reveal_tokens(load_agent(config), tokens, dataset=dataset, purpose=purpose)
    unknown = [token for token in tokens if token not in {entry["token"] for entry in found}]
    show({"reveal": 1, "keys": found, "unknown": unknown}, _lines, as_json=as_json)
    raise typer.Exit(EXIT_UNKNOWN if unknown else EXIT_EQUAL)


@app.command()
def keys(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="FILE", show_default=False)],
    purpose: Annotated[str, typer.Option("--purpose", help="Why, for the log of revealed keys.")] = "",
    config: AgentFile = Path("agent.toml"),
) -> None:
    """Write the keys of a range that a report names a file of, one JSON object a line.

    Works inside the region only, and is logged in its spool. Encrypted files are read with the agent's at_rest_key.
    """
    from edge_agent.reveal import keys_of

    for line in keys_of(load_agent(config), dataset, name, purpose=purpose):
        typer.echo(json.dumps(line, ensure_ascii=False))


@app.command()
def unfollow(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", show_default=False)],
    config: AgentFile = Path("agent.toml"),
    as_json: JsonFlag = False,
) -> None:
    """Drop what this agent follows a dataset's changes by: slot and publication, or the consumer of its topic.

    Do it before [refresh.DATASET] is taken out of the agent's file: a slot that nobody reads makes the server keep its
    log. While the dataset is still followed, the next sweep scans its table and makes them anew.
    """
    from edge_agent.unfollow import unfollow as drop

    dropped = drop(load_agent(config), dataset)
    show({"unfollow": 1, "dataset": dataset, "dropped": dropped}, _unfollow_lines, as_json=as_json)


@app.command()
def buckets(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", show_default=False)],
    scope: Annotated[str, typer.Argument(metavar="SCOPE", show_default=False)],
    labels: Annotated[list[str] | None, typer.Argument(metavar="[LABEL...]", show_default=False)] = None,
    count: Annotated[bool, typer.Option("--count", help="Count the rows of the named buckets too.")] = False,
    config: AgentFile = Path("agent.toml"),
    as_json: JsonFlag = False,
) -> None:
    """Say which id stands for which bucket of a scope, for 'paritree sweep --scope SCOPE --bucket ID'.

    Without labels the scope's columns are read, and all buckets are listed with their rows; with labels nothing is
    read. Works inside the region only: the coordinator never learns a label.
    """
    from edge_agent.buckets import listed

    found = listed(load_agent(config), dataset, scope, labels or (), count=count or not labels)
    show({"buckets_page": 1, **found}, _bucket_lines, as_json=as_json)


def _bucket_lines(document: Mapping[str, Any]) -> Iterator[str]:
    rows = [("bucket", "rows", "id")]
    for entry in document["buckets"]:
        shown = "-" if entry["rows"] is None else f"{entry['rows']:,}"
        rows.append((entry["label"], shown, entry["id"] or "(too long for an id)"))
    yield from table(rows)
    if document["unreadable"]:
        yield f"{document['unreadable']:,} rows are in no bucket: their value cannot be read"


def _unfollow_lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"{document['dataset']}: dropped {document['dropped']}, if it was there"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    for entry in document["keys"]:
        key = " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in entry["key"].items())
        yield printable(f"{entry['token']}  {entry['dataset']}  {key}")
    for token in document["unknown"]:
        yield printable(f"{token}  unknown here")
