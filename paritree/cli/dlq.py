"""``paritree dlq``: what could not be compared, from the coordinator, or with ``--agent`` beside an agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from paritree.cli.client import AddressFlag, CaFlag, CertFlag, ConfigFlag, KeyFlag, client_config, coordinator
from paritree.cli.output import EXIT_EQUAL, EXIT_UNKNOWN, JsonFlag, command_app, printable, show
from paritree.config.agent import load_agent
from paritree.config.coordinator import ClientConfig
from paritree.core.deadletters import LetterAction
from paritree.core.errors import ConfigError
from paritree.wire.control import LettersOrder

app = command_app("Dead letters: rows, schemas, messages and jobs that could not be compared.")
LIMIT: Final = 1_000

IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="ID...", show_default=False)]
DatasetFlag = Annotated[str, typer.Option("--dataset", help="Only letters of this dataset.")]
RegionFlag = Annotated[str, typer.Option("--region", help="Only letters of this region.")]
AgentFlag = Annotated[
    Path | None,
    typer.Option("--agent", metavar="FILE", help="The agent's TOML file: work beside it, without the coordinator."),
]
AgentFile = Annotated[Path, typer.Option("--agent", envvar="PARITREE_AGENT_FILE", help="The agent's TOML file.")]


@app.command("list")
def list_(
    dataset: DatasetFlag = "",
    region: RegionFlag = "",
    discarded: Annotated[bool, typer.Option("--all", help="Discarded ones too.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Letters listed.")] = LIMIT,
    as_json: JsonFlag = False,
    agent: AgentFlag = None,
    config: ConfigFlag = None,
    address: AddressFlag = None,
    cert: CertFlag = None,
    key: KeyFlag = None,
    ca: CaFlag = None,
) -> None:
    """List dead letters by reason, with opaque ids; no key and no value. Exit code 0 whether or not there are any."""
    order = LettersOrder(LetterAction.LIST, dataset, region, discarded=discarded, limit=limit)
    document = _asked(order, agent, (config, address, cert, key, ca))
    show(document, _list_lines, as_json=as_json)


@app.command("show")
def show_(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", show_default=False)],
    purpose: Annotated[str, typer.Option("--purpose", help="Why, for the log of the spool.")] = "",
    agent: AgentFile = Path("agent.toml"),
    as_json: JsonFlag = False,
) -> None:
    """Show what dead letters hold: key, values, part of the table. Works beside the agent only, and is logged there.

    Exit codes: 0 all shown, 3 some unknown here, or their content is gone.
    """
    from edge_agent.letters.beside import Beside  # the engines' drivers: not for --help

    with ExitStack() as stack:
        document = Beside(load_agent(agent), stack).show(_ids(ids), purpose)
    show(document, _shown_lines, as_json=as_json)
    lacking = document["unknown"] or any(one["payload"] is None for one in document["letters"])
    raise typer.Exit(EXIT_UNKNOWN if lacking else EXIT_EQUAL)


@app.command()
def replay(
    ids: IdsArgument = None,
    dataset: DatasetFlag = "",
    region: RegionFlag = "",
    as_json: JsonFlag = False,
    agent: AgentFlag = None,
    config: ConfigFlag = None,
    address: AddressFlag = None,
    cert: CertFlag = None,
    key: KeyFlag = None,
    ca: CaFlag = None,
) -> None:
    """Try again once the cause is fixed: read the rows again, go on with a changed schema, begin the job anew.

    Exit codes: 0 all of them are cleared (a job: begun), 3 some are still failing, unknown, or their region is away.
    """
    _need_choice(ids, dataset, region)
    order = LettersOrder(LetterAction.REPLAY, dataset, region, _ids(ids))
    document = _asked(order, agent, (config, address, cert, key, ca))
    show(document, _act_lines, as_json=as_json)
    left = [one for one in document["letters"] if one["kind"] != "job"]
    raise typer.Exit(EXIT_UNKNOWN if left or _failed(document) else EXIT_EQUAL)


@app.command()
def discard(
    reason: Annotated[str, typer.Option("--reason", help="Why; it is logged on both sides and kept with the letter.")],
    ids: IdsArgument = None,
    dataset: DatasetFlag = "",
    region: RegionFlag = "",
    as_json: JsonFlag = False,
    agent: AgentFlag = None,
    config: ConfigFlag = None,
    address: AddressFlag = None,
    cert: CertFlag = None,
    key: KeyFlag = None,
    ca: CaFlag = None,
) -> None:
    """Say that dead letters were looked into and stay as they are. What they hold is forgotten.

    A discarded row is still not compared: a sweep stays "unknown" while it is there. Exit codes: 0 all of them are
    discarded, 3 some are unknown, or their region is away.
    """
    _need_choice(ids, dataset, region)
    if not reason.strip() or not reason.isprintable():
        raise ConfigError("--reason: one line that says why")
    order = LettersOrder(LetterAction.DISCARD, dataset, region, _ids(ids), reason.strip())
    document = _asked(order, agent, (config, address, cert, key, ca))
    show(document, _act_lines, as_json=as_json)
    raise typer.Exit(EXIT_UNKNOWN if _failed(document) else EXIT_EQUAL)


Flags = tuple[Path | None, str | None, str | None, str | None, str | None]


def _asked(order: LettersOrder, agent: Path | None, flags: Flags) -> dict[str, Any]:
    """The answer of the agent whose file is named, else of the coordinator."""
    if agent is None:
        return asyncio.run(_letters(client_config(*flags), order))
    if order.region:
        raise ConfigError("--region: an agent has the letters of its own region only")
    from edge_agent.letters.beside import Beside

    with ExitStack() as stack:
        return Beside(load_agent(agent), stack).answer(order)


async def _letters(client: ClientConfig, order: LettersOrder) -> dict[str, Any]:
    async with coordinator(client) as service:
        return await service.letters(order)


def _need_choice(ids: list[str] | None, dataset: str, region: str) -> None:
    if not (ids or dataset or region):
        raise ConfigError("name letters by their ids, or all of a --dataset or --region")


def _ids(ids: list[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.strip().upper() for one in ids or ()))


def _failed(document: Mapping[str, Any]) -> bool:
    return bool(document["unknown"]) or any(region["error"] for region in document["regions"])


# --- lines for people -------------------------------------------------------------------------------------------------


def _list_lines(document: Mapping[str, Any]) -> Iterator[str]:
    for one in document["reasons"]:
        yield printable(f"{one['letters']:>6}  {_where(one)}  {one['kind']}: {one['reason']}")
    if document["letters"]:
        yield ""
    for one in document["letters"]:
        yield printable(_line(one))
    if (more := document["letters_total"] - len(document["letters"])) > 0:
        yield f"and {more} more: --limit"
    yield from _region_lines(document)
    if not document["letters_total"]:
        yield "no dead letters"


def _line(letter: Mapping[str, Any]) -> str:
    columns = f" [{', '.join(letter['columns'])}]" if letter["columns"] else ""
    state = f" {letter['state']} ({letter['note']})" if letter["state"] != "open" else ""
    times = f"{letter['count']} x, last {letter['last_seen']}"
    return f"{letter['id']}  {_where(letter)}  {letter['kind']}{columns}{state}  {times}"


def _where(entry: Mapping[str, Any]) -> str:
    return f"{entry['region'] or 'coordinator'} {entry['dataset'] or '-'}"


def _region_lines(document: Mapping[str, Any]) -> Iterator[str]:
    for region in document["regions"]:
        name = region["name"] or "coordinator"
        if region["not_kept"]:
            yield f"{name}: {region['not_kept']} more were counted and not kept"
        if region["error"]:
            yield printable(f"{name}: {region['error']}")
        elif not region["connected"]:
            yield f"{name}: not connected; as of {region['as_of']}"


def _act_lines(document: Mapping[str, Any]) -> Iterator[str]:
    for one in document["cleared"]:
        yield f"{one}  cleared"
    for one in document["letters"]:
        yield printable(_line(one) + ("" if document["action"] == "discard" else f"  still: {one['reason']}"))
    for one in document["unknown"]:
        yield printable(f"{one}  unknown")
    yield from _region_lines(document)


def _shown_lines(document: Mapping[str, Any]) -> Iterator[str]:
    for one in document["letters"]:
        yield printable(_line(one))
        yield printable(f"    reason: {one['reason']}")
        for name, value in (one["payload"] or {"content": one.get("why")}).items():
            yield printable(f"    {name}: {json.dumps(value, ensure_ascii=False)}")
    for one in document["unknown"]:
        yield printable(f"{one}  unknown here")
