"""What pydantic finds wrong, as a ConfigError that names the flag, the variable or the file, the key and the fix."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from paritree.config.toml import Section, dotted, near
from paritree.core.errors import ConfigError

NESTED: Final = "__"
"""Between the keys of a nested variable."""


class Fault(ValueError):
    """What a validator raises: pydantic takes ValueErrors only, and a next step has to come along."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step


def known_variables(prefix: str, fields: Iterable[str]) -> None:
    """Refuse a variable with our prefix that overrides nothing: a typing mistake that would go unnoticed.

    ``<prefix>FILE`` names the file itself. Raises ConfigError.
    """
    known = [f"{prefix}{name}".upper() for name in (*fields, "file")]
    for variable in os.environ:
        first = variable.upper().split(NESTED)[0]
        if first.startswith(prefix.upper()) and first not in known:
            raise ConfigError(f"environment: {variable} overrides nothing", next_step=near(first, known))


def translated(
    model: type[BaseModel],
    section: Section,
    error: ValidationError,
    *,
    prefix: str = "",
    flags: Mapping[str, Any] | None = None,
) -> ConfigError:
    """The first mistake of a validation. ``prefix`` is that of the variables, "" where none override."""
    first = error.errors(include_url=False)[0]
    path = tuple(str(part) for part in first["loc"])
    where = _where(section, path, prefix, flags or {})
    match first["type"]:
        case "missing":
            place = section.where(*path[:-1])
            variable = f" or set {_name(prefix, path)}" if prefix else ""
            return ConfigError(
                f"{place}: '{path[-1]}' is missing", next_step=f"add {dotted(path[-1:])} = ...{variable}"
            )
        case "extra_forbidden":
            return ConfigError(f"{where}: unknown key", next_step=near(path[-1], _siblings(model, path)))
        case "value_error":
            return _own(where, first)
        case _:
            return ConfigError(f"{where}: {_lowered(first['msg'])}")


def _own(where: str, error: ErrorDetails) -> ConfigError:
    """A mistake that one of our own validators found."""
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, Fault):
        return ConfigError(f"{where}: {cause.message}", next_step=cause.next_step)
    return ConfigError(f"{where}: {_lowered(error['msg'].removeprefix('Value error, '))}")


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


def _name(prefix: str, path: tuple[str, ...]) -> str:
    return (prefix + NESTED.join(path)).upper()


def _where(section: Section, path: tuple[str, ...], prefix: str, flags: Mapping[str, Any]) -> str:
    """The flag or variable that set the key at ``path``, else the file and the key."""
    if path and path[0] in flags:
        return f"--{path[0]}"
    present = {variable.upper(): variable for variable in os.environ} if prefix else {}
    for length in range(len(path), 0, -1):
        if (name := _name(prefix, path[:length])) in present:
            return f"environment: {present[name]}"
    return section.where(*path)


def _siblings(model: Any, path: tuple[str, ...]) -> list[str]:
    """The keys that a table has, found by walking the models along ``path``; a free-form table's keys are skipped."""
    for part in path[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        model = model if field is None else _model_in(field.annotation)
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The first model in an annotation such as ``Mapping[str, Connection]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in found if model is not None), None)
