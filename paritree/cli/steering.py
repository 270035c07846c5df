"""``paritree sweep pause|resume|cancel ID``: what may be done with a sweep while it has not ended."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from paritree.cli.client import AddressFlag, CaFlag, CertFlag, ConfigFlag, KeyFlag, client_config, patiently
from paritree.cli.output import JsonFlag, show
from paritree.cli.standing import steered_line
from paritree.config.coordinator import ClientConfig
from paritree.wire.control import SteerOrder

MaxTimeFlag = Annotated[
    float | None,
    typer.Option("--max-time", metavar="SECONDS", min=0.001, help="End after so much work, with what was found."),
]
MaxBytesFlag = Annotated[int | None, typer.Option("--max-bytes", min=1, help="End after so many bytes, all regions.")]
MaxRowsFlag = Annotated[int | None, typer.Option("--max-rows", min=1, help="End after so many rows, all regions.")]
MaxDifferencesFlag = Annotated[
    int | None, typer.Option("--max-differences", min=1, help="Look at no more differing keys than this.")
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", show_default=False, help="The sweep's id, or its --id.")]


class Steered(TyperGroup):
    """``paritree sweep DATASET…`` means ``paritree sweep run DATASET…``, unless the first word steers a sweep."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add ``run`` where nothing else is said."""
        return super().parse_args(ctx, args if args and args[0] in self.commands else ["run", *args])


def pause(
    sweep_id: IdArgument,
    as_json: JsonFlag = False,
    config: ConfigFlag = None,
    address: AddressFlag = None,
    cert: CertFlag = None,
    key: KeyFlag = None,
    ca: CaFlag = None,
) -> None:
    """Let a sweep rest, over restarts too; its scans stop, and what was read and answered is kept."""
    _steer("pause", sweep_id, client_config(config, address, cert, key, ca), as_json)


def resume(
    sweep_id: IdArgument,
    as_json: JsonFlag = False,
    config: ConfigFlag = None,
    address: AddressFlag = None,
    cert: CertFlag = None,
    key: KeyFlag = None,
    ca: CaFlag = None,
) -> None:
    """Go on with a paused sweep where it was."""
    _steer("resume", sweep_id, client_config(config, address, cert, key, ca), as_json)


def cancel(
    sweep_id: IdArgument,
    as_json: JsonFlag = False,
    config: ConfigFlag = None,
    address: AddressFlag = None,
    cert: CertFlag = None,
    key: KeyFlag = None,
    ca: CaFlag = None,
) -> None:
    """End a sweep with what it has found until now; the rest is unknown."""
    _steer("cancel", sweep_id, client_config(config, address, cert, key, ca), as_json)


def steer_with(app: typer.Typer) -> None:
    """Add the commands of this module to one that begins sweeps with its command ``run``."""
    app.info.cls = Steered
    for command in (pause, resume, cancel):
        app.command()(command)


def _steer(action: str, sweep_id: str, client: ClientConfig, as_json: bool) -> None:
    """Exit code 0 when it is done, 2 where the sweep is not one that this can be done with."""
    order = SteerOrder(sweep_id, action)
    document = asyncio.run(patiently(client, lambda service: service.steer(order), away=True))
    show(document, lambda after: [steered_line(after)], as_json=as_json)
