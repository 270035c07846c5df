"""``paritree coordinator``: run the coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paritree.cli.logs import LogFlag, LogLevelFlag, configure
from paritree.cli.output import command_app
from paritree.config.coordinator import load_coordinator

app = command_app("Run the coordinator.")


@app.callback()
def group() -> None:
    """Run the coordinator."""


@app.command()
def run(
    config: Annotated[
        Path, typer.Option("--config", envvar="PARITREE_COORDINATOR_FILE", help="The coordinator's TOML file.")
    ] = Path("coordinator.toml"),
    log: LogFlag = None,
    log_level: LogLevelFlag = None,
) -> None:
    """Run the coordinator until SIGTERM (exit code 0) or Ctrl-C (130)."""
    from coordinator.serve import run_coordinator  # store and server: not for --help

    configure(log or "text", log_level or "info")
    raise typer.Exit(run_coordinator(load_coordinator(config)))
