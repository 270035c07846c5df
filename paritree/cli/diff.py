"""``paritree diff``: compare tables ad hoc, with agents and coordinator inside this process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paritree.cli.output import JsonFlag, command_app, note, report_code, show
from paritree.core.errors import ConfigError
from paritree.core.loading import loading
from paritree.core.types import PRECISIONS, TEXT_RULES

if TYPE_CHECKING:
    from paritree.cli.adhoc import Question

app = command_app("Compare tables ad hoc; nothing to set up.")

EXECUTORS = ("auto", "serial", "threads", "dask")
DIGESTERS = ("auto", "compiled", "plain")

KeyFlag = Annotated[
    str,
    typer.Option(
        metavar="A,B", help="Key columns; default: the catalogue's key. '*': the whole row, for tables without a key."
    ),
]
ToleranceFlag = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN=T", help="Values within T agree, 2T apart never; repeatable.")
]


@app.command()
def diff(
    targets: Annotated[list[str], typer.Argument(metavar="REGION=URL#TABLE...", help="Two or more tables.")],
    key: KeyFlag = "",
    columns: Annotated[str, typer.Option(metavar="A,B", help="Compare only these columns (and the key).")] = "",
    ignore: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Leave a column out; repeatable.")] = None,
    precision: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=ms", help="Common precision of a time: s, ms or us; repeatable.")
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=RULE", help="Text rule: nfc, rtrim, casefold; repeatable.")
    ] = None,
    tolerance: ToleranceFlag = None,
    where: Annotated[str | None, typer.Option(metavar="SQL", help="Compare only rows for which this holds.")] = None,
    lag_max: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Between the two looks at a suspect.")] = 2.0,
    reveal: Annotated[str, typer.Option(metavar="keys|tokens", help="Show keys in clear or as tokens.")] = "keys",
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="Findings that are listed; all are counted.")] = 1_000,
    executor: Annotated[str, typer.Option(metavar="auto|serial|threads|dask", help="How shards are scanned.")] = "auto",
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Threads or worker processes.")] = 2,
    shard_rows: Annotated[int, typer.Option(metavar="N", min=1, help="Rows of one scan task.")] = 250_000,
    max_rate: Annotated[float | None, typer.Option(metavar="ROWS", min=1, help="Rows a second of each table.")] = None,
    digester: Annotated[str, typer.Option(metavar="auto|compiled|plain", hidden=True)] = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Compare tables ad hoc; nothing to set up.

    URLs: postgresql://user@host/db, cassandra://host:port/keyspace, sqlite:///path, duckdb:///path, parquet:///glob,
    csv:///glob. A password comes from PARITREE_PASSWORD_<REGION> or the driver's own files, never from the URL.
    Exit code: 0 equal, 1 different, 2 wrong flags or tables, 3 unknown or unsettled.
    """
    with loading():  # drivers and kernels, only now
        from paritree.cli.adhoc import Question, parse_targets
    from paritree.cli.report import report_lines

    _one_of("--reveal", reveal, ("keys", "tokens"))
    _one_of("--executor", executor, EXECUTORS)
    _one_of("--digester", digester, DIGESTERS)
    _finite("--lag-max", lag_max, "seconds")
    _finite("--max-rate", max_rate, "rows a second")
    question = Question(
        targets=parse_targets(targets),
        key=_names(key) or None,
        columns=_names(columns) or None,
        ignore=ignore or (),
        precision=dict(_pair(text, "--precision", tuple(PRECISIONS)) for text in precision or ()),
        rules=_rules(rule or ()),
        tolerance=_tolerances(tolerance or ()),
        where=where,
        lag_max_s=lag_max,
        limit=limit,
        reveal=reveal == "keys",
        executor=executor,
        workers=workers,
        shard_rows=shard_rows,
        digester=digester,
        max_rate_rows_s=max_rate,
    )
    report = _compared(question)
    show(report, report_lines, as_json=as_json)
    raise typer.Exit(report_code(report))


def _compared(question: Question) -> dict[str, Any]:
    """The report of a comparison whose progress is shown."""
    from paritree.cli.adhoc import compare
    from paritree.cli.progress import shown_progress
    from paritree.core.messages import Progress
    from paritree.wire.control import SweepProgress

    with shown_progress() as show_progress:

        def on_progress(region: str, stage: str, progress: Progress) -> None:
            show_progress(SweepProgress(region, stage, progress.shards_done, progress.shards_total, progress.rows))

        return compare(question, on_progress, note)


def _one_of(flag: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise ConfigError(f"{flag} {given}: no such choice", next_step=f"one of {', '.join(allowed)}")


def _finite(flag: str, given: float | None, unit: str) -> None:
    if given is not None and not math.isfinite(given):
        raise ConfigError(f"{flag} {given}: not a number of {unit}", next_step=f"e.g. {flag} 2")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _pair(text: str, flag: str, allowed: Sequence[str]) -> tuple[str, str]:
    column, equals, value = text.rpartition("=")
    if not equals or not column or value not in allowed:
        raise ConfigError(f"{flag} {text}: write COLUMN=VALUE with a value of {', '.join(allowed)}")
    return column, value


def _rules(texts: Sequence[str]) -> dict[str, list[str]]:
    rules: dict[str, list[str]] = {}
    for text in texts:
        column, rule = _pair(text, "--rule", TEXT_RULES)
        rules.setdefault(column, []).append(rule)
    return rules


def _tolerances(texts: Sequence[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for text in texts:
        column, equals, value = text.rpartition("=")
        if not equals or not column or column in said:
            raise ConfigError(
                f"--tolerance {text}: write COLUMN=T, once a column", next_step="e.g. --tolerance amount=0.01"
            )
        said[column] = value
    return said
