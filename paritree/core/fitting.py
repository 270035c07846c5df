"""Whether a region's table fits the profile, checked by its agent before any scan."""

from __future__ import annotations

from collections.abc import Iterator

from paritree.core.advice import LINES, Problem, near, refuse
from paritree.core.merging import finest_first, has_time, precisions, readable, readable_from_text
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.schema import SourceColumn, TableSchema
from paritree.core.types import LogicalType

_BIND = 'bind it with column = "<source column>", or ignore it in the dataset'
_OTHER_KEY = "name another key, or bind an expression that gives microseconds"


def check_binding(profile: Profile, binding: Binding, schema: TableSchema) -> None:
    """Raise one ConfigError with every mistake of a binding against its table's catalogue.

    Refused: a compared column without a source, or whose source is absent, has no logical type or cannot be read as
    the profile's type; a time that the engine holds coarser than the profile compares, or in nanoseconds without a
    declared precision; nanoseconds in the key; a key that ignores case without a case rule; collections that the
    engine cannot hold empty under a profile that tells empty from null. A nullable key column is none of these: its
    NULLs are dead letters, or values like others where the key is the whole row.
    """
    problems = list(_problems(profile, binding, schema))
    refuse(f"dataset {profile.dataset}, table {binding.table}", problems)


def _problems(profile: Profile, binding: Binding, schema: TableSchema) -> Iterator[Problem]:
    bound = {column.name: column for column in binding.columns}
    for name in (name for name in bound if name not in profile.columns):
        yield Problem(f"column '{name}' is bound, and the dataset does not compare it", near(name, profile.columns))
    for name, kind in profile.columns.items():
        if name in bound:
            yield from _column(bound[name], kind, schema, name in profile.lookup_key)
        else:
            yield Problem(f"column '{name}' is not bound", _BIND)
    collections = [name for name, kind in profile.columns.items() if kind.is_collection or kind.name == "struct"]
    if schema.empty_is_null and profile.empty_collection != "null" and collections:
        text = f"column '{collections[0]}': this engine cannot tell an empty collection from null"
        yield Problem(text, 'empty_collection = "null" in the dataset')


def _column(column: BoundColumn, kind: LogicalType, schema: TableSchema, in_key: bool) -> Iterator[Problem]:
    for source in column.parts or (() if column.source is None else (column.source,)):
        found = schema.column(source)
        if found is None:
            yield Problem(f"column '{column.name}': no source column '{source}'", near(source, _names(schema)))
        elif found.logical is None and found.typed:
            fix = f"{LINES.ignore(column.name)}, or bind an expression"
            yield Problem(f"column '{column.name}': {source} ({found.engine_type}): {found.refusal}", fix)
        elif not column.parts:
            yield from _fit(column.name, kind, found, in_key)


def _fit(name: str, kind: LogicalType, source: SourceColumn, in_key: bool) -> Iterator[Problem]:
    if not _readable(kind, source):
        held = f"is {source.logical}" if source.typed else "has no type"
        text = f"column '{name}': {source.name} ({source.engine_type}) {held}, and the dataset says {kind}"
        names = {kind.name, source.logical.name if source.logical else ""}
        if names == {"timestamp", "datetime"}:
            text += "; an instant and a time without zone are never mixed"
        yield Problem(text, f"declare another type for '{name}', or bind an expression that gives {kind}")
        return
    if has_time(kind) and source.precision is not None:
        yield from _precision(name, kind, source.precision)
        if in_key and source.precision == "ns":
            yield Problem(f"key column '{name}' holds nanoseconds, and rows are looked up by microseconds", _OTHER_KEY)
    if in_key and source.caseless and kind.name == "text" and "casefold" not in kind.rules:
        text = f"key column '{name}': {source.name} ({source.engine_type}) ignores case, so its keys need a case rule"
        yield Problem(text, LINES.rule(name, "casefold"))


def _readable(kind: LogicalType, source: SourceColumn) -> bool:
    if not source.typed:
        return readable_from_text(kind)
    return source.logical is not None and readable(source.logical, kind)


def _precision(name: str, kind: LogicalType, held: str) -> Iterator[Problem]:
    compared = precisions(kind)
    if held == "ns":
        if None in compared:
            text = f"column '{name}' holds nanoseconds, and the dataset does not say how it is compared"
            yield Problem(text, LINES.precision(name, kind, "us"))
        return
    finest = finest_first(precision or "us" for precision in compared)[0]
    if finest_first((finest, held))[-1] != finest:
        text = f"column '{name}' holds {held}, and the dataset compares {finest}"
        yield Problem(text, LINES.precision(name, kind, held))


def _names(schema: TableSchema) -> list[str]:
    return [column.name for column in schema.columns]
