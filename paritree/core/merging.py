"""Which types go together: one type for the columns of several regions, and what a declared type can be read from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from paritree.core.types import PRIMITIVES, TIMES, LogicalType

_READ_AS: Final[Mapping[str, frozenset[str]]] = {
    "int": frozenset({"decimal"}),
    "decimal": frozenset({"int"}),
    "text": frozenset({"int", "decimal", "date", "time", "timestamp", "datetime", "uuid", "inet", "json"}),
    "bytes": frozenset({"text", "uuid"}),
    "list": frozenset({"set"}),
}
"""Source type -> the declared types whose carriers it can be handed out in (the table in the connector contract)."""
_FINEST_FIRST: Final = ("ns", "us", "ms", "s")


def merged(kinds: Iterable[LogicalType]) -> LogicalType | None:
    """The one type that compares columns of these types by value, without rules; None where there is none.

    int with decimal is decimal; scales are dropped; everything else, fields and elements too, has to be the same.
    """
    result: LogicalType | None = None
    for kind in kinds:
        result = kind.bare if result is None else _pair(result, kind.bare)
        if result is None:
            return None
    return result


def _pair(one: LogicalType, other: LogicalType) -> LogicalType | None:
    if {one.name, other.name} == {"int", "decimal"}:
        return LogicalType("decimal")
    if one.name != other.name or [name for name, _ in one.fields] != [name for name, _ in other.fields]:
        return None
    inner = [_pair(a, b) for a, b in zip(one.of, other.of, strict=True)]
    fields = [(name, _pair(a, b)) for (name, a), (_, b) in zip(one.fields, other.fields, strict=True)]
    of_all = tuple(kind for kind in inner if kind is not None)
    fields_all = tuple((name, kind) for name, kind in fields if kind is not None)
    if len(of_all) < len(inner) or len(fields_all) < len(fields):
        return None
    return LogicalType(one.name, of=of_all, fields=fields_all)


def readable(source: LogicalType, declared: LogicalType) -> bool:
    """Whether values of a typed source column can be read as the declared type."""
    if source.name != declared.name:
        if declared.name == "set" and source.name == "list":
            return readable(source.of[0], declared.of[0])
        return declared.name in _READ_AS.get(source.name, frozenset())
    if source.name == "struct":
        known = dict(declared.fields)
        return all(name in known and readable(kind, known[name]) for name, kind in source.fields)
    return all(readable(a, b) for a, b in zip(source.of, declared.of, strict=True))


def readable_from_text(declared: LogicalType) -> bool:
    """Whether an untyped source column can be read as the declared type: a collection has no one text form."""
    return declared.name in PRIMITIVES


def has_time(kind: LogicalType) -> bool:
    """Whether the type, or one inside it, has a precision."""
    return kind.name in TIMES or any(map(has_time, (*kind.of, *(field for _, field in kind.fields))))


def with_precision(kind: LogicalType, precision: str) -> LogicalType:
    """The type with that precision at every time in it."""
    return replace(
        kind,
        precision=precision if kind.name in TIMES else kind.precision,
        of=tuple(with_precision(inner, precision) for inner in kind.of),
        fields=tuple((name, with_precision(inner, precision)) for name, inner in kind.fields),
    )


def precisions(kind: LogicalType) -> list[str | None]:
    """The declared precision of every time in the type."""
    own = [kind.precision] if kind.name in TIMES else []
    return own + [p for inner in (*kind.of, *(field for _, field in kind.fields)) for p in precisions(inner)]


def finest_first(units: Iterable[str]) -> list[str]:
    """Precision names (s ms us ns) sorted from the finest to the coarsest."""
    return sorted(units, key=_FINEST_FIRST.index)
