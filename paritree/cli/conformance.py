"""``paritree conformance``: check a file of golden vectors against this implementation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from paritree.cli.output import EXIT_DIFFERENT, EXIT_EQUAL, JsonFlag, command_app, printable, show
from paritree.core.conformance import check, not_checked
from paritree.core.errors import ConfigError

app = command_app("Check a file of golden vectors against this implementation.")


@app.command()
def conformance(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="Such as canonical-v1.json.")],
    as_json: JsonFlag = False,
) -> None:
    """Check canonical values, dead letters, rows, digests, tokens and profile ids of a file of golden vectors.

    Exit codes: 0 all match, 1 some do not (each is named), 2 the file is no such file.
    """
    report = checked(file)
    show(report, _lines, as_json=as_json)
    raise typer.Exit(EXIT_DIFFERENT if report["mismatches"] else EXIT_EQUAL)


def checked(file: Path) -> dict[str, Any]:
    """The report on a file of vectors. Raises ConfigError naming the file."""
    document = _read(file)
    try:
        outcomes = list(check(document))
    except ConfigError as error:
        raise ConfigError(f"{file}: {error.message}", next_step=error.next_step) from None
    mismatches = [{"where": o.where, "expected": o.expected, "got": o.got} for o in outcomes if not o.passed]
    return {
        "conformance": 1,
        "file": str(file),
        "checked": len(outcomes),
        "mismatches": mismatches,
        "sections_not_checked": not_checked(document),
    }


def _read(file: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(file.read_bytes().decode("utf-8"), parse_float=Decimal, parse_int=_exact_int)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: is not JSON: {error}") from None
    if not isinstance(document, Mapping):
        raise ConfigError(f"{file}: an object is needed, not {type(document).__name__}")
    return document


def _exact_int(text: str) -> int:
    """``int`` refuses more than 4,300 digits, and a vector may have more."""
    return int(Decimal(text))


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    for item in report["mismatches"]:
        yield printable(f"mismatch: {item['where']}: expected {item['expected']}, got {item['got']}")
    for section in report["sections_not_checked"]:
        yield printable(f"not checked: section '{section}'")
    yield f"{printable(report['file'])}: {report['checked']} checked, {len(report['mismatches'])} mismatches"
