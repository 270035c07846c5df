"""What a seed that fails has to say: the command that replays it, which works, and all that the seed decided."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest


def planted(*_: object, **__: object) -> None:
    """Stands in for a check, and fails."""
    raise AssertionError("planted")


def demand_replay(play: Callable[[], Any], command: str, decided: Any) -> None:
    """``play`` fails and says so; ``decided`` is the world or trial."""
    with pytest.raises(AssertionError) as raised:
        play()
    assert str(raised.value.__cause__) == "planted"
    first, *options = str(raised.value).splitlines()
    assert first == f"replay with: {command}"
    said = "\n".join(options)
    assert [field.name for field in fields(decided) if field.repr and f"{field.name}=" not in said] == []
    rows = [row for table in decided.tables.values() for row in table]
    assert rows
    assert [row for row in rows if str(row) not in said] == []
    again = subprocess.run(
        [sys.executable, *command.split()[1:]],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert again.returncode == 0, again.stderr
    assert "findings" in again.stdout
