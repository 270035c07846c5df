"""``paritree init``: write the datasets file from the regions' catalogues."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from paritree.cli.output import EXIT_CONFIG, JsonFlag, command_app, note, show
from paritree.core.errors import ConfigError

app = command_app("Write the datasets file from the regions' catalogues.")


@app.command()
def init(
    targets: Annotated[
        list[str], typer.Argument(metavar="REGION=URL[#TABLE]...", help="Two or more; without #TABLE: all tables.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")] = Path(
        "datasets.toml"
    ),
    ignore: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Leave a column out; repeatable.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write the datasets file from the regions' catalogues.

    Tables are paired by name; types and keys come from the catalogues, never from values. A table that cannot be
    compared yet is left out, with the reason and the line that would decide it as a comment.
    """
    from paritree.cli.adhoc import parse_targets
    from paritree.cli.initfile import CONNECTION, candidates, write

    if output.exists() and not force:
        raise ConfigError(f"{output} exists", next_step="name another file with --output, or overwrite it with --force")
    parsed = parse_targets(targets)
    written = write(*candidates(parsed), ignore or ())
    if written.datasets:
        partial = output.with_name(output.name + ".partial")
        try:
            partial.write_text(written.text, encoding="utf-8")
            os.replace(partial, output)
        except OSError as error:
            raise ConfigError(
                f"{output} cannot be written: {error.strerror}", next_step="name another file with --output"
            ) from None
    result = {
        "file": str(output) if written.datasets else None,
        "datasets": written.datasets,
        "refused": [{"table": name, "reason": reason} for name, reason in written.refused.items()],
        "connections": {t.region: {CONNECTION: t.url} for t in parsed},
    }
    show(result, _lines, as_json=as_json)
    if not written.datasets:
        note("error: no dataset was written")
        raise typer.Exit(EXIT_CONFIG)


def _lines(result: dict[str, Any]) -> Iterator[str]:
    if result["datasets"]:
        yield f"{result['file']}: {len(result['datasets'])} datasets: {', '.join(result['datasets'])}"
    for entry in result["refused"]:
        yield f"not written: {entry['table']}: {entry['reason']}"
    if result["datasets"]:
        yield ""
        yield "Each region's agent file names its own connection:"
        for region, connections in result["connections"].items():
            for name, url in connections.items():
                yield f'  {region}: [connections.{name}] url = "{url}"'
