"""A profile from catalogues: what ad hoc ``diff`` compares and what ``init`` writes.

Nothing is guessed and nothing dropped silently: where the catalogues do not decide, one ConfigError lists every
mistake of every column with the flag or line that decides it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from paritree.core.advice import FLAGS, LINES, Advice, Problem, near, refuse
from paritree.core.errors import ConfigError
from paritree.core.fitting import check_binding
from paritree.core.matching import Group, by_source, find, grouped
from paritree.core.merging import finest_first, has_time, merged, readable_from_text, with_precision
from paritree.core.profile import WHOLE_ROW, Profile
from paritree.core.schema import SourceColumn, TableSchema
from paritree.core.tolerance import TOLERANT
from paritree.core.types import PRECISIONS, TEXT_RULES, LogicalType, with_tolerance

__all__ = ["FLAGS", "LINES", "Advice", "Derived", "check_binding", "derive_profile"]

_UNDECLARED: Final = frozenset({"csv", "", "any"})
"""Engine types that declare nothing about a column's values: such a column takes what another region declares."""


@dataclass(frozen=True, slots=True)
class Derived:
    """The profile, each region's source column by logical name, and what a person should know, line by line."""

    profile: Profile
    bindings: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Work:
    """One derivation: its arguments under logical names, and what it has found so far."""

    schemas: Mapping[str, TableSchema]
    groups: Sequence[Group]
    advice: Advice
    precision: dict[str, str] = field(default_factory=dict)
    rules: dict[str, Sequence[str]] = field(default_factory=dict)
    tolerance: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def problem(self, text: str, fix: str = "") -> None:
        self.problems.append(Problem(text, fix))

    def logical(self, given: Iterable[str], what: str) -> dict[str, str]:
        """Names as a person gave them -> logical names; a problem for each that no region has."""
        found: dict[str, str] = {}
        for name in given:
            group = find(name, self.groups)
            if group is None:
                self.problem(f"{what}: no column '{name}'", near(name, (g.name for g in self.groups)))
            else:
                found[name] = group.name
        return found


def derive_profile(
    dataset: str,
    schemas: Mapping[str, TableSchema],
    *,
    key: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    precision: Mapping[str, str] | None = None,
    rules: Mapping[str, Sequence[str]] | None = None,
    tolerance: Mapping[str, str] | None = None,
    advice: Advice = FLAGS,
) -> Derived:
    """Derive what is compared from the regions' schemas (region -> schema, in the caller's order).

    Columns go together by name, else by the only name that differs in case; the first region's name is the logical one.
    ``key`` overrides the catalogues' (``["*"]``: there is none, the whole row is compared); ``columns`` limits
    the comparison to those and the key; ``ignore`` leaves columns out; ``precision`` is column -> s, ms, us; ``rules``
    column -> text rules; ``tolerance`` column -> decimal text.
    Raises ConfigError with every mistake at once, each with what ``advice`` says to add.
    """
    work = _Work(schemas, grouped(schemas), advice)
    work.precision = {
        name: (precision or {})[given] for given, name in work.logical(precision or (), "precision").items()
    }
    work.rules = {name: (rules or {})[given] for given, name in work.logical(rules or (), "rules").items()}
    work.tolerance = {
        name: (tolerance or {})[given] for given, name in work.logical(tolerance or (), "tolerance").items()
    }
    ignored = set(work.logical(ignore, "ignore").values())
    everything = {group.name for group in work.groups}
    wanted = everything if columns is None else set(work.logical(columns, "columns").values())
    whole_row = key is not None and list(key) == [WHOLE_ROW]
    key_names = () if whole_row else _key(work, key, ignored)
    compared = [group for group in work.groups if group.name in (wanted | set(key_names)) - ignored]
    types = {group.name: _column(work, group, group.name in key_names) for group in compared}
    for name in (name for name in work.tolerance if name not in types):
        work.problem(f"column '{name}' has a tolerance and is not compared", work.advice.exact(name))
    if whole_row:
        for name in work.tolerance:
            work.problem(
                f"column '{name}' has a tolerance, and whole rows are compared exactly", work.advice.exact(name)
            )
        if not types:
            work.problem("no column is left to compare", "ignore fewer columns")
    refuse(f"dataset {dataset}", work.problems)
    left_out = tuple(group.name for group in work.groups if group.name not in types)
    if whole_row:
        profile = Profile.keyless(dataset, types, _empty_collection(work, types), left_out)
    else:
        profile = Profile(dataset, key_names, types, _empty_collection(work, types), left_out)
    bindings = {region: {group.name: group.columns[region].name for group in compared} for region in schemas}
    return Derived(profile, bindings, tuple(work.notes))


def _key(work: _Work, given: Sequence[str] | None, ignored: set[str]) -> tuple[str, ...]:
    """The key columns, the caller's or the catalogues', which have to agree; their order is the first region's."""
    if given is not None:
        key = tuple(work.logical(given, "key").values())
        if len(set(key)) < len(key):
            work.problem("key: a column is named twice", work.advice.key(tuple(dict.fromkeys(key))))
            key = tuple(dict.fromkeys(key))
    else:
        key = _catalogue_key(work)
    for name in key:
        if name in ignored:
            work.problem(f"key column '{name}' is ignored", "compare it, or choose another key")
    return key


def _catalogue_key(work: _Work) -> tuple[str, ...]:
    known: dict[str, tuple[str, ...]] = {}
    for region, schema in work.schemas.items():
        names = by_source(region, work.groups)
        if schema.key:
            known[region] = tuple(names[column] for column in schema.key)
    if not known:
        work.problem("no region's catalogue knows a key", work.advice.key(()))
        return ()
    first = next(iter(known.values()))
    if any(set(key) != set(first) for key in known.values()):
        listed = "; ".join(f"{region}: {', '.join(key)}" for region, key in known.items())
        work.problem(f"the regions have different keys ({listed})", work.advice.key(first))
    return first


def _column(work: _Work, group: Group, in_key: bool) -> LogicalType:
    """The type that compares a logical column, with its rules; any type where a problem was found."""
    if missing := [region for region in work.schemas if region not in group.columns]:
        fix = "name another key" if in_key else work.advice.ignore(group.name)
        work.problem(f"column '{group.name}' is missing in {', '.join(missing)}", fix)
        return LogicalType("text")
    refused = {r: c for r, c in group.columns.items() if c.logical is None and c.typed}
    for region, column in refused.items():
        fix = "name another key" if in_key else work.advice.ignore(group.name)
        work.problem(f"column '{group.name}' of {region} ({column.engine_type}): {column.refusal}", fix)
    kind = None if refused else _merged(work, group)
    if kind is None:
        return LogicalType("text")
    for region, column in group.columns.items():
        if column.name != group.name:
            work.notes.append(f"column '{column.name}' of {region} is compared as '{group.name}'")
        if column.lost:
            work.notes.append(f"column '{group.name}' of {region} ({column.engine_type}): {column.lost}")
    if in_key and (nanos := [region for region, column in group.columns.items() if column.precision == "ns"]):
        text = f"key column '{group.name}' holds nanoseconds in {nanos[0]}, and rows are looked up by microseconds"
        work.problem(text, "name another key")
    return _tolerant(work, group, _timed(work, group, _ruled(work, group, kind, in_key)), in_key)


def _merged(work: _Work, group: Group) -> LogicalType | None:
    """The typed regions' common type; untyped ones take it. Without any typed one, what they declare, else text."""
    typed = [c.logical for c in group.columns.values() if c.typed and c.logical is not None]
    if not typed:
        declared = [column.logical or LogicalType("text") for column in group.columns.values()]
        said = [
            kind
            for kind, column in zip(declared, group.columns.values(), strict=True)
            if column.engine_type.lower() not in _UNDECLARED
        ]
        kind = merged(said or declared)
        if kind is None and "text" not in {one.name for one in said or declared}:
            text = f"column '{group.name}': declared types differ, and nothing else decides ({_types(group)})"
            work.problem(text, work.advice.declare(group.name))
            return None
        return kind if kind is not None and readable_from_text(kind) else LogicalType("text")
    kind = merged(typed)
    if kind is None:
        names = {kind.name for kind in typed}
        why = (
            "an instant and a time without zone are never mixed"
            if names == {"timestamp", "datetime"}
            else "types differ"
        )
        work.problem(f"column '{group.name}': {why} ({_types(group)})", work.advice.declare(group.name))
    elif not readable_from_text(kind) and len(typed) < len(group.columns):
        text = f"column '{group.name}': a {kind} cannot be read from an untyped column ({_types(group)})"
        work.problem(text, work.advice.ignore(group.name))
        return None
    return kind


def _types(group: Group) -> str:
    def shown(column: SourceColumn) -> str:
        name = "untyped" if not column.typed else str(column.logical)
        return f"{name} ({column.engine_type})" if column.engine_type else name

    return ", ".join(f"{region}: {shown(column)}" for region, column in group.columns.items())


def _ruled(work: _Work, group: Group, kind: LogicalType, in_key: bool) -> LogicalType:
    """With text rules: the caller's, and rtrim where a region pads. A key that ignores case needs a case rule."""
    given = list(work.rules.get(group.name, ()))
    if unknown := [rule for rule in given if rule not in TEXT_RULES]:
        work.problem(f"column '{group.name}': no text rule '{unknown[0]}'", near(unknown[0], TEXT_RULES))
    if kind.name != "text":
        if given:
            work.problem(f"column '{group.name}': text rules are for text, not {kind}")
        return kind
    if padded := [region for region, column in group.columns.items() if column.padded]:
        if "rtrim" not in given:
            work.notes.append(f"column '{group.name}': trailing spaces are stripped everywhere ({padded[0]} pads)")
        given.append("rtrim")
    caseless = [region for region, column in group.columns.items() if column.caseless]
    if caseless and "casefold" not in given:
        text = f"column '{group.name}' ignores case in {', '.join(caseless)}"
        if in_key:
            work.problem(f"key {text}, so its keys need a case rule", work.advice.rule(group.name, "casefold"))
        else:
            fix = work.advice.rule(group.name, "casefold")
            work.notes.append(f"{text}; it is compared exactly, unless you add {fix}")
    return replace(kind, rules=tuple(rule for rule in TEXT_RULES if rule in given))


def _timed(work: _Work, group: Group, kind: LogicalType) -> LogicalType:
    """With the precision that all regions hold, else the one that the caller said."""
    said = work.precision.get(group.name)
    if not has_time(kind):
        if said is not None:
            work.problem(f"column '{group.name}': precision is for times, not {kind}")
        return kind
    held = {region: column.precision or "us" for region, column in group.columns.items()}
    coarsest = finest_first(held.values())[-1]
    advised = work.advice.precision(group.name, kind, "us" if coarsest == "ns" else coarsest)
    listed = ", ".join(f"{region}: {unit}" for region, unit in held.items())
    if said is None:
        if len(set(held.values())) > 1:
            work.problem(f"column '{group.name}': the regions hold it at different precision ({listed})", advised)
        elif coarsest == "ns":
            work.problem(f"column '{group.name}': nanoseconds are not compared ({listed})", advised)
        return kind if coarsest in ("us", "ns") else with_precision(kind, coarsest)
    if said not in PRECISIONS:
        work.problem(f"column '{group.name}': precision '{said}' is none of s, ms, us", advised)
        return kind
    if finest_first((said, coarsest))[-1] != said:
        work.problem(f"column '{group.name}': precision {said} is finer than what the regions hold ({listed})", advised)
    return with_precision(kind, said)


def _tolerant(work: _Work, group: Group, kind: LogicalType, in_key: bool) -> LogicalType:
    """With the tolerance that the caller said; keys have none."""
    said = work.tolerance.get(group.name)
    if said is None:
        return kind
    if in_key or kind.name not in TOLERANT:
        why = "a key is compared exactly" if in_key else f"a tolerance is for float and decimal, not {kind}"
        work.problem(f"column '{group.name}': {why}", work.advice.exact(group.name))
        return kind
    try:
        return with_tolerance(kind, said, f"column '{group.name}'")
    except ConfigError as error:
        work.problem(error.message, work.advice.tolerance(group.name, kind))
        return kind


def _empty_collection(work: _Work, types: Mapping[str, LogicalType]) -> str:
    regions = [region for region, schema in work.schemas.items() if schema.empty_is_null]
    if not regions or not any(kind.is_collection or kind.name == "struct" for kind in types.values()):
        return "keep"
    work.notes.append(f"empty collections are compared as null: {regions[0]} cannot tell them apart")
    return "null"
