"""``paritree watch``: how far a dataset is verified, and each window as it is decided."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import typer

from paritree.cli.client import (
    AddressFlag,
    CaFlag,
    CertFlag,
    ConfigFlag,
    KeyFlag,
    client_config,
    patiently,
)
from paritree.cli.output import EXIT_UNKNOWN, VERDICT_CODES, JsonFlag, command_app, note, show, worst
from paritree.cli.standing import watch_lines
from paritree.config.coordinator import ClientConfig
from paritree.core.errors import ConfigError

POLL_S: Final = 1.0
"""Between two questions to the coordinator; a window is no shorter."""
app = command_app("Follow how far a dataset is verified, window after window.")


@app.command()
def watch(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", show_default=False)],
    windows: Annotated[
        int | None,
        typer.Option("--windows", min=0, help="End after so many windows; 0 shows how it stands. Default: go on."),
    ] = None,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, help="Between two questions to the coordinator.")
    ] = POLL_S,
    as_json: JsonFlag = False,
    config: ConfigFlag = None,
    address: AddressFlag = None,
    cert: CertFlag = None,
    key: KeyFlag = None,
    ca: CaFlag = None,
) -> None:
    """Follow the windows of a dataset that the coordinator validates continuously ([watch.DATASET] in its file).

    The watch is the coordinator's: it goes on, whether anybody follows it or not.

    Exit codes: the worst of the windows that were followed (of the last one with --windows 0): 0 equal, 1 different,
    3 a window was not verified; 2 a mistake in flags or files, 130 interrupted.
    """
    seen, document = asyncio.run(_followed(client_config(config, address, cert, key, ca), dataset, windows, every))
    codes = [VERDICT_CODES[one["verdict"]] if one["verified"] else EXIT_UNKNOWN for one in seen]
    show({**document, "followed": seen}, _lines, as_json=as_json)
    raise typer.Exit(worst(codes or [EXIT_UNKNOWN]))


async def _followed(
    client: ClientConfig, dataset: str, windows: int | None, every_s: float
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The windows that were followed, and how the watch stands then."""
    document = await _asked(client, dataset)
    if windows == 0:
        return document["windows"][-1:], document
    newest = _newest(document)
    seen: list[dict[str, Any]] = []
    for line in _lines(document):
        note(line)
    while windows is None or len(seen) < windows:
        began = time.monotonic()
        document = await _asked(client, dataset)
        for one in document["windows"]:
            if one["through"] > newest and (windows is None or len(seen) < windows):
                newest = one["through"]
                seen = [*seen, one] if windows is not None else [one]
                for line in window_lines(one):
                    note(line)
        if windows is None or len(seen) < windows:
            await asyncio.sleep(max(0.0, every_s - (time.monotonic() - began)))
    return seen, document


async def _asked(client: ClientConfig, dataset: str) -> dict[str, Any]:
    async def ask(service: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await service.status(dataset)
        return answer

    watches = (await patiently(client, ask)).get("watches", [])
    if not watches:
        raise ConfigError(
            f"dataset {dataset} is not validated continuously",
            next_step=f"put [watch.{dataset}] into the coordinator's file, and start it again",
        )
    found: dict[str, Any] = {"watch": 1, **watches[0]}
    return found


def _newest(document: Mapping[str, Any]) -> str:
    return str(document["windows"][-1]["through"]) if document["windows"] else ""


def window_lines(one: Mapping[str, Any]) -> Iterator[str]:
    """A window that was decided: its outcome and what is new with it."""
    said = one["verdict"] if one["verified"] else f"not verified ({one['verdict']})"
    news = f", {one['new_total']:,} new, {one['ended_total']:,} ended" if one["new_total"] or one["ended_total"] else ""
    how = "" if one["sweep_id"] or not one["verified"] else " (by roots alone)"
    told = f", {one['events']:,} changes told" if one["events"] else ""
    yield f"{one['through']}  {said}{how}{told}{news}"
    for region, reason in one["reasons"].items():
        yield f"  {region}: {reason}"
    for finding in one["new"]:
        yield f"  {finding['kind']}  {finding.get('key') or finding.get('token') or '(key not shown)'}"
    if one["new_total"] > len(one["new"]):
        yield f"  … paritree findings --sweep {one['sweep_id']} has all"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield from watch_lines([document])
    yield f"{document['open_findings']:,} findings are open"
    if document["late_events"]:
        yield f"late events: {document['late_events']:,}, last at {document['late_last']}"
