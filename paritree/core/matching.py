"""Which columns of several regions are one logical column: the same name, else the only one that differs in case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paritree.core.schema import SourceColumn, TableSchema


@dataclass(slots=True)
class Group:
    """One logical column: its name (the first region's) and each region's source column."""

    name: str
    columns: dict[str, SourceColumn] = field(default_factory=dict)


def grouped(schemas: Mapping[str, TableSchema]) -> list[Group]:
    """The logical columns, in the first region's order, then what only later regions have.

    A name that could be any of several is matched with none: it shows as missing, and a person decides.
    """
    groups: list[Group] = []
    for region, schema in schemas.items():
        exact = {group.name: group for group in groups}
        left: list[SourceColumn] = []
        for column in schema.columns:
            if column.name in exact:
                exact[column.name].columns[region] = column
            else:
                left.append(column)
        open_groups = [group for group in groups if region not in group.columns]
        folded_groups = Counter(group.name.lower() for group in open_groups)
        folded_columns = Counter(column.name.lower() for column in left)
        by_fold = {group.name.lower(): group for group in open_groups}
        for column in left:
            fold = column.name.lower()
            if folded_groups[fold] == 1 == folded_columns[fold]:
                by_fold[fold].columns[region] = column
            else:
                groups.append(Group(column.name, {region: column}))
    return groups


def find(name: str, groups: Sequence[Group]) -> Group | None:
    """The logical column that a person means: its name, else a source name, else the only one that differs in case."""
    exact = next((group for group in groups if group.name == name), None)
    if exact is not None:
        return exact
    for same in (str, str.lower):
        named = [
            g for g in groups if any(same(n) == same(name) for n in (g.name, *(c.name for c in g.columns.values())))
        ]
        if len(named) == 1:
            return named[0]
    return None


def by_source(region: str, groups: Sequence[Group]) -> dict[str, str]:
    """A region's source column names -> logical names."""
    return {group.columns[region].name: group.name for group in groups if region in group.columns}
