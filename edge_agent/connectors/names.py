"""Names that an operator wrote and that the source does not have: the error lists what comes near."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from paritree.core.errors import ConfigError

LISTED_MAX = 12
"""Names listed where nothing comes near: what still fits on a terminal's few lines."""


def absent(kind: str, name: str, known: Iterable[str], where: str = "") -> ConfigError:
    """The error for a table or column that is not there: ``absent("table", "ordrs", tables, "shop.db")``."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6) or [n for n in names if n.lower() == name.lower()]
    if near:
        step = f"did you mean {' or '.join(repr(n) for n in near)}?"
    elif names:
        step = f"known: {', '.join(names[:LISTED_MAX])}{', ...' if len(names) > LISTED_MAX else ''}"
    else:
        step = f"there is no {kind} at all"
    return ConfigError(f"{where + ': ' if where else ''}no {kind} '{name}'", next_step=step)
