"""``paritree findings``: what a sweep found, page by page."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from paritree.cli.client import AddressFlag, CaFlag, CertFlag, ConfigFlag, KeyFlag, client_config, coordinator
from paritree.cli.output import JsonFlag, command_app, show
from paritree.cli.report import findings_lines
from paritree.config.coordinator import ClientConfig
from paritree.core.errors import ConfigError
from paritree.wire.control import FindingsOrder

app = command_app("List what a sweep found.")


@app.command()
def findings(
    dataset: Annotated[str, typer.Argument(show_default=False, help="Its newest finished sweep.")] = "",
    sweep: Annotated[str, typer.Option("--sweep", metavar="ID", help="This sweep instead of the newest.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Findings on the page.")] = 1_000,
    offset: Annotated[int, typer.Option("--offset", min=0, max=2**32 - 1, help="Findings to leave out before.")] = 0,
    as_json: JsonFlag = False,
    config: ConfigFlag = None,
    address: AddressFlag = None,
    cert: CertFlag = None,
    key: KeyFlag = None,
    ca: CaFlag = None,
) -> None:
    """List what a sweep found. Exit code 0 whether or not there are findings."""
    if not dataset and not sweep:
        raise ConfigError("name a dataset, or --sweep ID")
    order = FindingsOrder(sweep, dataset, limit, offset)
    document = asyncio.run(_findings(client_config(config, address, cert, key, ca), order))
    show(document, findings_lines, as_json=as_json)


async def _findings(client: ClientConfig, order: FindingsOrder) -> dict[str, Any]:
    async with coordinator(client) as service:
        return await service.findings(order)
