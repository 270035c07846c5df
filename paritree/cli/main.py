"""The command ``paritree``: a table of commands, each imported only when it is used.

``paritree --help`` imports none of them, so it costs what Typer costs. A command is a module ``paritree.cli.<name>``
whose ``app`` is made by ``paritree.cli.output.command_app``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from paritree import __version__
from paritree.cli import output, streams
from paritree.cli.imports import import_structlog, leave_out_unused
from paritree.core.loading import loading

COMMANDS: Final[Mapping[str, str]] = {
    "demo": "See it work: three regions, three engines, known drift.",
    "init": "Write the datasets file from the regions' catalogues.",
    "diff": "Compare tables ad hoc; nothing to set up.",
    "sweep": "Compare datasets over their regions, through the coordinator.",
    "status": "Show which regions are connected and how each dataset's last sweep ended.",
    "watch": "Follow how far a dataset is verified, window after window.",
    "findings": "List what a sweep found.",
    "dlq": "List, show, try again or discard what could not be compared.",
    "agent": "Run a region's agent; resolve tokens and name buckets in its region.",
    "index": "Show, verify and rebuild the indexes that an agent keeps.",
    "coordinator": "Run the coordinator.",
    "doctor": "Check connections, privileges, types and keys, and print the fix.",
    "pki": "Make and show certificates and keys.",
    "conformance": "Check a file of golden vectors against this implementation.",
}
"""Every command with its line in ``--help``, in the order shown there."""


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and imports one when it is invoked."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, line in COMMANDS.items():
            self.add_command(TyperCommand(name, help=line, rich_markup_mode=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command in place of its line in the table."""
        name, line, rest = super().resolve_command(ctx, args)
        return name, load(name) if name is not None and line is not None else line, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; every exception ends as a message and an exit code."""
        with output.handled(ctx):
            return super().invoke(ctx)


def load(name: str) -> Any:
    """Import a command of the table."""
    with loading():
        import_structlog()
        command = typer.main.get_command(import_module(f"paritree.cli.{name}").app)
        import_module("paritree.cli.logs").from_environment()  # before anything logs: unconfigured, it goes to stdout
    command.name = name
    return command


app = typer.Typer(
    name="paritree",
    cls=LazyGroup,
    help="Do the copies of a table in several regions and engines agree, and where do they not?",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"paritree {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", envvar="PARITREE_DEBUG", help="Show tracebacks.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command."""
    output.session(ctx).debug = debug


def main() -> None:
    """Entry point of the console script."""
    streams.prepare()
    leave_out_unused()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except (KeyboardInterrupt, BrokenPipeError, output.NotWritten) as error:  # as an error was told
        sys.exit(output.show_error(error, output.Session()))
    except OSError as error:  # of Typer's own help
        sys.exit(output.show_error(output.not_written(error), output.Session()))


if __name__ == "__main__":
    main()
