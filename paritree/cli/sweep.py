"""``paritree sweep``: compare datasets over their regions, through the coordinator."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from paritree.cli.client import (
    AddressFlag,
    CaFlag,
    CertFlag,
    ConfigFlag,
    KeyFlag,
    client_config,
    coordinator,
    patiently,
)
from paritree.cli.output import EXIT_UNKNOWN, JsonFlag, command_app, error_code, note, report_code, show, worst
from paritree.cli.progress import shown_progress
from paritree.cli.report import report_lines
from paritree.cli.steering import MaxBytesFlag, MaxDifferencesFlag, MaxRowsFlag, MaxTimeFlag, steer_with
from paritree.config.coordinator import ClientConfig
from paritree.config.toml import near
from paritree.core.asks import ANY_AGE, Freshness
from paritree.core.budget import Budget
from paritree.core.errors import ConfigError, ParitreeError
from paritree.core.scope_labels import id_bytes
from paritree.wire.control import SweepOrder

app = command_app("Compare datasets over their regions, through the coordinator.")
steer_with(app)
ScopeFlag = Annotated[str, typer.Option("--scope", help="Sweep one bucket of this scope, which the agents declare.")]
BucketFlag = Annotated[
    str, typer.Option("--bucket", metavar="ID", help="The bucket's id, from 'paritree agent buckets' in a region.")
]
AgentFlag = Annotated[
    Path | None, typer.Option("--agent", metavar="FILE", help="An agent's file here: --bucket is a label then.")
]


@app.command("run")
def sweep(
    datasets: Annotated[list[str] | None, typer.Argument(metavar="DATASET...", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dataset that the coordinator knows.")] = False,
    region: Annotated[list[str] | None, typer.Option("--region", help="Only these regions (repeat it).")] = None,
    job_id: Annotated[
        str | None,
        typer.Option("--id", "--job-id", help="The same id twice is one sweep: for retries, and to steer it."),
    ] = None,
    purpose: Annotated[
        str, typer.Option("--purpose", help="Ask for clear keys and say why; each region's policy decides and logs it.")
    ] = "",
    lag_max: Annotated[
        float | None, typer.Option("--lag-max", metavar="SECONDS", min=0, help="Between two looks at a suspect.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Findings listed in the report.")] = 1_000,
    max_time: MaxTimeFlag = None,
    max_bytes: MaxBytesFlag = None,
    max_rows: MaxRowsFlag = None,
    max_differences: MaxDifferencesFlag = None,
    scope: ScopeFlag = "",
    bucket: BucketFlag = "",
    agent: AgentFlag = None,
    max_age: Annotated[
        float | None,
        typer.Option("--max-age", metavar="SECONDS", min=0, help="A region whose index is older is unknown."),
    ] = None,
    rescan: Annotated[
        bool, typer.Option("--rescan", help="Scan anew where an index is older than --max-age (default 0).")
    ] = False,
    as_json: JsonFlag = False,
    config: ConfigFlag = None,
    address: AddressFlag = None,
    cert: CertFlag = None,
    key: KeyFlag = None,
    ca: CaFlag = None,
) -> None:
    """Compare datasets over their regions and report exactly where they differ.

    A sweep that was begun is steered by its id, also while nobody follows it: paritree sweep pause|resume|cancel ID.

    Exit codes: 0 equal, 1 different, 2 a mistake in flags or files, 3 something could not be compared or kept changing,
    130 interrupted (the sweep goes on at the coordinator).
    """
    names = datasets or []
    if every == bool(names):
        raise ConfigError("name the datasets to sweep, or --all")
    if job_id == "":
        raise ConfigError("--id: is empty", next_step="name the request, or leave --id out")
    if job_id and (every or len(names) > 1):
        raise ConfigError("--id: is for one dataset", next_step="sweep them one by one")
    budget = Budget(max_time, max_bytes, max_rows, max_differences)
    template = SweepOrder("", tuple(region or ()), job_id or "", purpose, lag_max, limit, budget, scope=scope)
    freshness = Freshness(max_age if max_age is not None else 0.0, rescan) if rescan or max_age is not None else ANY_AGE
    template = replace(template, bucket=_bucket(names, scope, bucket, agent), freshness=freshness)
    orders = [replace(template, dataset=name) for name in names]
    client = client_config(config, address, cert, key, ca)
    outcomes = asyncio.run(_sweep_all(client, orders, template if every else None))
    documents = [outcome for outcome, _ in outcomes]
    show(documents[0] if len(documents) == 1 else documents, lambda _: _lines(documents), as_json=as_json)
    raise typer.Exit(worst(code for _, code in outcomes))


def _bucket(names: Sequence[str], scope: str, bucket: str, agent: Path | None) -> bytes:
    """The id of the bucket that is named by id, or by label where an agent's file is here. Raises ConfigError."""
    if not scope and not bucket:
        return b""
    if not scope or not bucket:
        raise ConfigError("--scope and --bucket go together", next_step="name the scope and one of its buckets")
    if len(names) != 1:
        raise ConfigError("--bucket: is of one dataset", next_step="sweep them one by one")
    if agent is None:
        return id_bytes(bucket)
    from edge_agent.buckets import bucket_id  # the engines' drivers: only where an agent's file is read
    from paritree.config.agent import load_agent

    return bucket_id(load_agent(agent), names[0], scope, bucket)


async def _sweep_all(
    client: ClientConfig, orders: list[SweepOrder], template: SweepOrder | None
) -> list[tuple[dict[str, Any], int]]:
    """Each report with its exit code. Raises ConfigError before anything is scanned."""
    async with coordinator(client) as service:
        known = {dataset["name"]: dataset for dataset in (await service.status())["datasets"]}
        if template is not None:
            orders = [replace(template, dataset=name) for name in known]
        _check(orders, known)
    return [await _sweep_one(client, order, alone=len(orders) == 1) for order in orders]


def _check(orders: Sequence[SweepOrder], known: dict[str, Any]) -> None:
    """Refuse unknown datasets and regions before the first sweep begins."""
    for order in orders:
        if order.dataset not in known:
            raise ConfigError(f"the coordinator has no dataset '{order.dataset}'", next_step=near(order.dataset, known))
        for name in order.regions:
            regions = known[order.dataset]["regions"]
            if name not in regions:
                raise ConfigError(
                    f"--region: dataset {order.dataset} has no region '{name}'", next_step=near(name, regions)
                )


async def _sweep_one(client: ClientConfig, order: SweepOrder, *, alone: bool) -> tuple[dict[str, Any], int]:
    """One report with its exit code; the failure of one of several sweeps does not hide the others' reports.

    Asked again after the coordinator was away, an order with an id finds its sweep; so every order gets one.
    """
    begun: list[str] = []
    order = order if order.job_id else replace(order, job_id=uuid.uuid4().hex)
    try:
        with shown_progress() as progress:
            report = await patiently(client, lambda service: service.sweep(order, progress, begun.append))
    except asyncio.CancelledError:
        if begun:
            note(f"sweep {begun[-1]} goes on at the coordinator: paritree status {order.dataset}")
        raise
    except ParitreeError as error:
        if alone:
            raise
        note(f"error: {order.dataset}: {error}")
        stated = {"verdict": "unknown", "regions": list(order.regions), "reason": str(error)}
        failed = {"report": 1, "dataset": order.dataset, "verdict": "unknown", "verdicts": [stated], "regions": []}
        return failed, max(error_code(error), EXIT_UNKNOWN)
    return report, report_code(report)


def _lines(reports: Sequence[dict[str, Any]]) -> Iterator[str]:
    for number, report in enumerate(reports):
        if number:
            yield ""
        yield from report_lines(report)
