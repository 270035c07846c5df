"""URLs of local files: ``scheme:///path?option=value``, as SQLAlchemy writes them for SQLite.

Three slashes and a path are relative to the working directory, four slashes are absolute (``sqlite:////var/shop.db``).
Because ``sqlite:///var/shop.db`` is often meant as absolute too, it is taken so when only the absolute file exists;
when both exist the URL is refused, never guessed. ``%`` escapes are decoded (write ``%3F`` for a question mark).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from edge_agent.connectors.contract import Source
from paritree.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LocalPath:
    """An absolute path or glob, and the options of the URL and the source together."""

    path: str
    options: Mapping[str, str] = field(default_factory=dict)


def read(source: Source, known: frozenset[str] = frozenset()) -> LocalPath:
    """The path of a source's URL and its options, all of which must be ``known``. Raises ConfigError."""
    scheme, separator, rest = source.url.partition("://")
    parts = urlsplit(f"file://{rest}")
    if not separator or parts.netloc or not parts.path.startswith("/") or len(parts.path) < 2:
        raise ConfigError(
            f"'{source.url}' is not a file's URL",
            next_step=f"write {scheme}:///relative/path or {scheme}:////absolute/path",
        )
    if parts.fragment:
        raise ConfigError(f"'{source.url}' has a '#'", next_step="write %23 for a '#' in a path")
    options = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **source.options}
    if unknown := sorted(set(options) - known):
        listed = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"{scheme}: unknown option '{unknown[0]}'", next_step=f"known options: {listed}")
    return LocalPath(unquote(parts.path), options)


def one_file(source: Source) -> LocalPath:
    """As :func:`read`, for a URL that names one existing file."""
    local = read(source)
    return LocalPath(_chosen(source.url, local.path, lambda path: os.path.isfile(path)), local.options)


def a_glob(source: Source, known: frozenset[str] = frozenset()) -> LocalPath:
    """As :func:`read`, for a URL that names a glob with at least one file (``**`` crosses directories)."""
    local = read(source, known)
    return LocalPath(_chosen(source.url, local.path, lambda path: bool(matches(path))), local.options)


def matches(pattern: str) -> list[str]:
    """The files of a glob, sorted; a path that exists is taken literally, a directory has none of its own."""
    if os.path.isfile(pattern):
        return [pattern]
    return sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))


def _chosen(url: str, path: str, exists: Callable[[str], bool]) -> str:
    candidates = ["/" + path.lstrip("/")] if path.startswith("//") else sorted({os.path.abspath(path[1:]), path})
    found = [candidate for candidate in candidates if exists(candidate)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"'{url}' names two files: {' and '.join(found)}", next_step="write four slashes before an absolute path"
        )
    if folder := next((candidate for candidate in candidates if os.path.isdir(candidate)), None):
        raise ConfigError(f"'{url}': {folder} is a directory", next_step="name a file, or the files in it with a glob")
    raise ConfigError(
        f"'{url}': there is no file {' and no '.join(candidates)}",
        next_step="name an existing file; paritree never creates one",
    )
