"""What a command shows, and where: results on stdout, everything else on stderr, one exit code for each outcome.

With ``--json``, stdout has exactly one JSON document: the result, or ``{"error": …}``. Progress is a bar on a terminal
and a plain line now and then elsewhere, always on stderr.

Exit codes: 0 equal or done, 1 different, 2 the caller's own flags or files, 3 unknown or unsettled, 130 interrupted, 70
an error of paritree itself (``EX_SOFTWARE`` of sysexits.h), 141 nobody reads the output any more (128 + SIGPIPE).
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from paritree.cli.streams import drop_stdout
from paritree.core.errors import ConfigError, DeadLetter, ParitreeError, PeerError, SourceError

EXIT_EQUAL: Final = 0
EXIT_DIFFERENT: Final = 1
EXIT_CONFIG: Final = 2
EXIT_UNKNOWN: Final = 3
EXIT_EVIDENCE: Final = 4
"""Broken evidence: kept free for signed reports; nothing returns it yet."""
EXIT_INTERNAL: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE: Final = 141

VERDICT_CODES: Final[Mapping[str, int]] = {
    "equal": EXIT_EQUAL,
    "different": EXIT_DIFFERENT,
    "unsettled": EXIT_UNKNOWN,
    "unknown": EXIT_UNKNOWN,
}
_WORST_FIRST: Final = (EXIT_INTERRUPTED, EXIT_INTERNAL, EXIT_EVIDENCE, EXIT_DIFFERENT, EXIT_CONFIG, EXIT_UNKNOWN)
"""Where several outcomes meet. A difference that was found is never hidden by what could not be compared."""


@dataclass(slots=True)
class Session:
    """What holds for the whole command; kept in the context's ``obj`` by ``paritree.cli.main``."""

    debug: bool = False
    json: bool = False


def session(ctx: typer.Context) -> Session:
    """The session of any context of this command."""
    root = ctx.find_root()
    return root.ensure_object(Session)


def _remember_json(ctx: typer.Context, value: bool) -> bool:
    if value:
        session(ctx).json = True
    return value


JsonFlag = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON document on stdout and nothing else.", callback=_remember_json, is_eager=True
    ),
]
"""The ``--json`` of every command; errors then appear as JSON too."""


def command_app(text: str) -> typer.Typer:
    """The Typer application of one command module, which ``paritree.cli.main`` loads as ``app``."""
    return typer.Typer(help=text, add_completion=False, rich_markup_mode=None, no_args_is_help=False)


# --- results ----------------------------------------------------------------------------------------------------------


class NotWritten(ParitreeError):
    """Nobody gets the result, so no exit code may stand for it."""


def show(document: Any, human: Callable[[Any], Iterable[str]], *, as_json: bool) -> None:
    """Print a result: the document itself as JSON, or the lines that ``human`` makes of it.

    Raises BrokenPipeError where nobody reads, NotWritten where stdout takes nothing.
    """
    if as_json:
        said: Iterable[str] = [
            json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2 if sys.stdout.isatty() else None)
        ]
    else:
        said = human(document)
    for line in said:
        with _writing():
            sys.stdout.write(_encodable(line) + "\n")
    with _writing():
        sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise not_written(error) from None


def not_written(error: OSError) -> NotWritten:
    """What to say of a stdout that takes nothing."""
    return NotWritten(
        f"the result cannot be written: {error.strerror}", next_step="see where stdout goes, and run the command again"
    )


def _encodable(text: str) -> str:
    """The text as stdout can write it: a lone surrogate or a narrow locale must not lose a report."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def note(text: str) -> None:
    """Say something beside the result, on stderr."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def printable(text: str) -> str:
    """The text without characters that a terminal would obey; data and other machines' messages are not trusted."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


def styled(text: str, colour: str) -> str:
    """The text in a colour, where stdout is a terminal and NO_COLOR is not set."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        return typer.style(text, fg=colour, bold=True)
    return text


# --- exit codes and errors --------------------------------------------------------------------------------------------


def worst(codes: Iterable[int]) -> int:
    """The exit code that says the most: 4 > 1 > 2 > 3 > 0."""
    given = set(codes)
    return next((code for code in _WORST_FIRST if code in given), EXIT_EQUAL)


def report_code(report: Mapping[str, Any]) -> int:
    """The exit code of a report; a verdict that this version does not know is unknown, never equal."""
    return VERDICT_CODES.get(str(report.get("verdict")), EXIT_UNKNOWN)


def error_code(error: BaseException) -> int:
    """The exit code of an exception."""
    match error:
        case ConfigError():
            return EXIT_CONFIG
        case PeerError() | SourceError() | DeadLetter():
            return EXIT_UNKNOWN
        case KeyboardInterrupt() | typer.Abort():
            return EXIT_INTERRUPTED
        case BrokenPipeError():
            return EXIT_PIPE
        case _:
            return EXIT_INTERNAL


def show_error(error: BaseException, current: Session) -> int:
    """Tell the person (and, with ``--json``, the program) what went wrong; returns the exit code."""
    code = error_code(error)
    if code == EXIT_PIPE or isinstance(error, NotWritten):
        drop_stdout()
    if code == EXIT_PIPE:
        return code
    message, next_step = _said(error, code)
    if current.debug:
        traceback.print_exception(error, file=sys.stderr)
    note(f"error: {message}" if code != EXIT_INTERRUPTED else message)
    if next_step:
        note(f"  {next_step}")
    if current.json:
        said = {"message": message, "next_step": next_step, "exit_code": code}
        show({"error": said}, lambda _: (), as_json=True)
    return code


def _said(error: BaseException, code: int) -> tuple[str, str]:
    if code == EXIT_INTERRUPTED:
        return "interrupted", ""
    if code == EXIT_INTERNAL and not isinstance(error, NotWritten):
        # The text of an unforeseen exception may hold values; its type and place are in --debug.
        detail = error.message if isinstance(error, ParitreeError) else type(error).__name__
        return f"internal error: {detail}", "please report this, with the output of the same command after --debug"
    assert isinstance(error, ParitreeError)
    return error.message, error.next_step


@contextmanager
def handled(ctx: typer.Context) -> Iterator[None]:
    """Around every command: an exception becomes a message and an exit code, a traceback only with ``--debug``."""
    try:
        yield
    except typer.TyperException as error:  # a usage error, which Typer shows; its base class exits 1 = "different"
        error.exit_code = EXIT_CONFIG
        if session(ctx).json:
            said = {"message": error.format_message(), "next_step": "see --help", "exit_code": EXIT_CONFIG}
            show({"error": said}, lambda _: (), as_json=True)
        raise
    except (typer.Exit, GeneratorExit):
        raise
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last border: nothing is passed over
        raise typer.Exit(show_error(error, session(ctx))) from None
