"""``paritree doctor``: can these tables be compared, and what is to be mended first?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from paritree.cli.output import EXIT_CONFIG, EXIT_EQUAL, EXIT_UNKNOWN, JsonFlag, command_app, show, worst
from paritree.core.errors import ConfigError

app = command_app("Check connections, privileges, types and keys, and print the fix.")


@app.command()
def doctor(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="REGION=URL#TABLE...", help="Tables to check.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Check everything that this agent file names.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check connections, privileges, types and keys for each table, and print the fix.

    With --config also the agent's certificates, master key, spool and its way to the coordinator.
    Exit code: 0 nothing stands in the way, 2 something must be mended, 3 something cannot be reached.
    """
    from paritree.cli.checks import check_agent, check_targets

    if bool(targets) == (config is not None):
        raise ConfigError("name tables to check, or an agent file with --config")
    checks = list(check_agent(config) if config is not None else check_targets(targets or []))
    result = {
        "ok": all(check.level in ("ok", "note") for check in checks),
        "checks": [
            {"where": c.where, "what": c.what, "level": c.level, "message": c.message, "fix": c.fix} for c in checks
        ],
    }
    show(result, _lines, as_json=as_json)
    codes = {"error": EXIT_CONFIG, "unreachable": EXIT_UNKNOWN}
    raise typer.Exit(worst(codes.get(check.level, EXIT_EQUAL) for check in checks))


_MARKS = {"ok": "ok  ", "note": "note", "error": "FIX ", "unreachable": "DOWN"}


def _lines(result: dict[str, Any]) -> Iterator[str]:
    where = None
    for check in result["checks"]:
        if check["where"] != where:
            where = check["where"]
            yield where
        yield f"  {_MARKS[check['level']]} {check['what']}: {check['message']}"
        if check["fix"]:
            yield f"       {check['fix']}"
