"""``paritree status``: who is connected, how each dataset's last sweep ended, which sweeps have not."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from paritree.cli.client import AddressFlag, CaFlag, CertFlag, ConfigFlag, KeyFlag, client_config, coordinator
from paritree.cli.output import JsonFlag, command_app, show
from paritree.cli.standing import standing_lines
from paritree.config.coordinator import ClientConfig

app = command_app("Show which regions are connected and how each dataset's last sweep ended.")


@app.command()
def status(
    dataset: Annotated[str, typer.Argument(show_default=False, help="Only this dataset and its regions.")] = "",
    as_json: JsonFlag = False,
    config: ConfigFlag = None,
    address: AddressFlag = None,
    cert: CertFlag = None,
    key: KeyFlag = None,
    ca: CaFlag = None,
) -> None:
    """Show which regions are connected, how each dataset's last sweep ended, and how far those are that have not.

    Exit code 0 whatever the verdicts.
    """
    document = asyncio.run(_status(client_config(config, address, cert, key, ca), dataset))
    show(document, standing_lines, as_json=as_json)


async def _status(client: ClientConfig, dataset: str) -> dict[str, Any]:
    async with coordinator(client) as service:
        return await service.status(dataset)
