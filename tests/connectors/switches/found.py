"""The class of switches of an engine, and the rows of its translation tables."""

from __future__ import annotations

import tomllib
from importlib import import_module, resources

from switches.base import Switches


def switches_of(engine: str) -> type[Switches]:
    """The one class of switches of an engine."""
    module = import_module(f"switches.{engine}")
    (found,) = (
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Switches) and getattr(kind, "engine", "") == engine
    )
    return found


def type_rows(engine: str) -> list[str]:
    """``package:row`` of every row of the engine's translation tables."""
    out: list[str] = []
    for package in switches_of(engine).packages:
        with resources.files(package).joinpath("types.toml").open("rb") as file:
            out += [f"{package.rpartition('.')[2]}:{row}" for row in tomllib.load(file)]
    return [row for row in out if row not in switches_of(engine).other_rows]
