"""A TOML file as sections whose every mistake names the file, the key path and what to write instead."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from paritree.core.errors import ConfigError

FILE_BYTES_MAX: Final = 16 << 20
"""Largest configuration file that is read: 10,000 datasets of 30 columns are about 10 MB."""
LISTED_MAX: Final = 12
"""Known names listed where none comes near: what still fits on a few lines of a terminal."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_TOML_PLACE = re.compile(r"(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)\Z", re.DOTALL)
_KINDS: Final[Mapping[type, str]] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


def read_toml(path: str | Path) -> Section:
    """The top section of a TOML file. Raises ConfigError: no such file, not UTF-8, malformed (with line and column)."""
    file = Path(path)
    try:
        size = file.stat().st_size
        if size > FILE_BYTES_MAX:
            raise ConfigError(f"{file}: {size} bytes; a configuration file has at most {FILE_BYTES_MAX}")
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror or error}", next_step="check the path and its permissions"
        ) from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}: line {line}: not UTF-8", next_step="save the file as UTF-8") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: {_malformed(str(error), text)}", next_step="correct the TOML there") from None
    except RecursionError:
        raise ConfigError(f"{file}: nested too deeply") from None
    return Section(str(file), (), values)


def _malformed(message: str, text: str) -> str:
    """``line 3, column 5: what is wrong``, from the parser's message, which has the place at its end."""
    place = _TOML_PLACE.match(message)
    if place is None:
        return message
    reason, line, column = place.groups()
    if line is None:
        lines = text.split("\n")
        line, column = str(len(lines)), str(len(lines[-1]) + 1)
    return f"line {line}, column {column}: {reason[:1].lower()}{reason[1:]}"


def dotted(path: Iterable[str]) -> str:
    """A key path as TOML writes it: ``dataset."public.orders".key``."""
    return ".".join(part if _BARE_KEY.match(part) else json.dumps(part, ensure_ascii=False) for part in path)


def near(name: str, known: Iterable[str]) -> str:
    """The next step for a name that nothing has: the names that come near, else those that exist, else ""."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.6) or [n for n in names if n.lower() == name.lower()]
    if close:
        return f"did you mean {' or '.join(repr(n) for n in close)}?"
    if names:
        return f"known: {', '.join(names[:LISTED_MAX])}{', ...' if len(names) > LISTED_MAX else ''}"
    return ""


def kind_of(value: object) -> str:
    """What a TOML value is, in words: "text", "a table", ..."""
    return _KINDS.get(type(value), "a date or time")


@dataclass(frozen=True, slots=True)
class Section:
    """One table of a TOML file, with the path that leads to it. Every reader raises ConfigError."""

    file: str
    path: tuple[str, ...]
    values: Mapping[str, Any]

    def where(self, *keys: str) -> str:
        """``datasets.toml: dataset.orders.key``, for messages."""
        path = dotted((*self.path, *keys))
        return f"{self.file}: {path}" if path else self.file

    def error(self, message: str, *keys: str, next_step: str = "") -> ConfigError:
        """A ConfigError at a key of this section."""
        return ConfigError(f"{self.where(*keys)}: {message}", next_step=next_step)

    def only(self, *known: str) -> None:
        """Refuse any key that is not among ``known``."""
        for key in self.values:
            if key not in known:
                raise self.error("unknown key", key, next_step=near(key, known))

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def _typed(self, key: str, kind: type) -> Any:
        value = self.values.get(key)
        if value is None or type(value) is kind:
            return value
        raise self.error(f"must be {_KINDS[kind]}, not {kind_of(value)}", key)

    def text(self, key: str) -> str | None:
        """Text that is not empty, or None where the key is absent."""
        value: str | None = self._typed(key, str)
        if value is not None and not value.strip():
            raise self.error("is empty", key)
        return value

    def needed_text(self, key: str, example: str) -> str:
        """Text that has to be there; ``example`` is a line to add."""
        value = self.text(key)
        if value is None:
            raise self.error(f"'{key}' is missing", next_step=f"add {example}")
        return value

    def seconds(self, key: str) -> float | None:
        """A finite number of seconds from 0, or None."""
        value = self.values.get(key)
        if value is None:
            return None
        if type(value) not in (int, float):
            raise self.error(f"must be a number of seconds, not {kind_of(value)}", key)
        if not math.isfinite(value) or value < 0:
            raise self.error("must be a finite number of seconds, 0 or more", key)
        return float(value)

    def choice(self, key: str, allowed: Sequence[str]) -> str | None:
        """One of ``allowed``, or None."""
        value = self.text(key)
        if value is not None and value not in allowed:
            raise self.error(f"'{value}' is not one of {', '.join(allowed)}", key, next_step=near(value, allowed))
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, each once and none empty; () where absent."""
        value: list[object] = self._typed(key, list) or []
        for item in value:
            if not isinstance(item, str) or not item:
                raise self.error(f"must be a list of names, and {item!r} is none", key)
            if value.count(item) > 1:
                raise self.error(f"'{item}' is named twice", key)
        return tuple(str(item) for item in value)

    def section(self, key: str) -> Section:
        """The table below ``key``; an empty one where absent."""
        return Section(self.file, (*self.path, key), self._typed(key, dict) or {})

    def sections(self) -> dict[str, Section]:
        """Every value of this section, each of which must be a table."""
        return {key: self.section(key) for key in self.values}

    def text_map(self, key: str) -> dict[str, str]:
        """A table of texts; empty where absent."""
        section = self.section(key)
        return {name: section.text(name) or "" for name in section.values}
