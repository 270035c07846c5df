"""The datasets file: what each dataset is, what is compared and how, and where every region has it.

All sides read the same file. A coordinator needs no more of a region than its name, so its copy may leave the tables of
``[dataset.<name>.regions.<region>]`` empty; an agent needs the binding of its own region.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from paritree.config.toml import Section, kind_of, near, read_toml
from paritree.core.errors import ConfigError
from paritree.core.limits import REGIONS_MAX
from paritree.core.profile import EMPTY_COLLECTIONS, WHOLE_ROW, Binding, BoundColumn, Profile
from paritree.core.types import LogicalType, parse_type

LAG_MAX_S: Final = 2.0
"""Seconds between two looks at a suspect, unless the dataset says otherwise."""
CRITICALITIES: Final = ("low", "normal", "high")
REGION_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
"""A region is a path segment of the agent's SPIFFE URI, so it has only what such a segment may have."""
DATASET_NAME: Final = re.compile(r"[^\s,\"'\x00-\x1f\x7f]{1,200}\Z")
"""No spaces, commas or quotes: the name is a command-line argument and a part of lists."""
VERSIONS: Final = ("timestamp", "datetime", "int")
"""Types of columns that can say which of two rows is newer."""
SOURCES: Final = ("column", "constant", "expression", "parts")
"""The keys of a column mapping of which exactly one is given."""


@dataclass(frozen=True, slots=True)
class Region:
    """How one region stores a dataset; ``connection`` and ``table`` are empty where the file only names the region.

    ``columns`` has the mappings that the file declares, by logical name; a column without one has the same name in
    the source. ``options`` are for the region's connector.
    """

    name: str
    connection: str = ""
    table: str = ""
    columns: Mapping[str, BoundColumn] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset of the file. ``lag_max_s`` is seconds; ``file`` is where it was declared, for messages.

    ``version`` is the column that says which of two rows of a key is newer, or "".
    """

    profile: Profile
    regions: Mapping[str, Region]
    lag_max_s: float = LAG_MAX_S
    owner: str = ""
    criticality: str = "normal"
    file: str = ""
    version: str = ""

    @property
    def name(self) -> str:
        return self.profile.dataset

    def region(self, name: str) -> Region:
        """The region of that name. Raises ConfigError."""
        if name not in self.regions:
            raise ConfigError(
                f"{self.file}: dataset {self.name}: no region '{name}'",
                next_step=near(name, self.regions) or f"add [dataset.{self.name}.regions.{name}]",
            )
        return self.regions[name]

    def binding(self, region: str) -> Binding:
        """The binding of a region: every compared column, mapped as declared, else to the same name.

        Raises ConfigError where the file does not have the region, or only its name.
        """
        bound = self.region(region)
        if not bound.table:
            raise ConfigError(
                f"{self.file}: dataset {self.name}: region '{region}' has no connection and table",
                next_step=f"add connection = and table = to [dataset.{self.name}.regions.{region}]",
            )
        columns = tuple(
            bound.columns.get(name) or BoundColumn(name, kind, source=name)
            for name, kind in self.profile.columns.items()
        )
        return Binding(self.name, bound.table, self.profile.lookup_key, columns, options=bound.options)


def load_datasets(path: str | Path) -> dict[str, Dataset]:
    """The datasets of a file, by name, in the file's order. Raises ConfigError naming file, key path and the fix."""
    top = read_toml(path)
    top.only("dataset")
    found = {name: _dataset(name, section) for name, section in top.section("dataset").sections().items()}
    if not found:
        raise top.error("no dataset", next_step="add [dataset.<name>], or let 'paritree init' write the file")
    return found


def _dataset(name: str, section: Section) -> Dataset:
    if not DATASET_NAME.match(name):
        raise section.error("a dataset's name has no spaces, commas or quotes and at most 200 characters")
    section.only("key", "owner", "criticality", "lag_max_s", "version", "empty_collection", "columns", "regions")
    profile = _profile(name, section)
    lag_max_s = section.seconds("lag_max_s")
    return Dataset(
        profile=profile,
        regions=_regions(section, profile),
        lag_max_s=LAG_MAX_S if lag_max_s is None else lag_max_s,
        owner=section.text("owner") or "",
        criticality=section.choice("criticality", CRITICALITIES) or "normal",
        file=section.file,
        version=_version(section, profile),
    )


def _version(section: Section, profile: Profile) -> str:
    """The declared version column: compared, and a time or a whole number."""
    name = section.text("version") or ""
    if not name:
        return ""
    if name not in profile.columns:
        raise section.error(f"'{name}' is no compared column", "version", next_step=near(name, profile.columns))
    if profile.columns[name].name not in VERSIONS:
        raise section.error(
            f"'{name}' is {profile.columns[name]}", "version", next_step=f"name a column of {', '.join(VERSIONS)}"
        )
    return name


def _profile(name: str, section: Section) -> Profile:
    declared = section.section("columns")
    columns: dict[str, LogicalType] = {}
    ignored: list[str] = []
    for column in declared.values:
        kind = _column_type(declared, column)
        if kind is None:
            ignored.append(column)
        else:
            columns[column] = kind
    if not columns:
        raise section.error("no column is compared", "columns", next_step='add columns, such as id = "int"')
    empty = section.choice("empty_collection", EMPTY_COLLECTIONS) or "keep"
    if section.values.get("key") == WHOLE_ROW:
        return Profile.keyless(name, columns, empty, tuple(ignored))
    key = section.texts("key")
    if not key:
        raise section.error(
            "'key' is missing",
            next_step=f'add key = ["<column>", ...], or key = "{WHOLE_ROW}" for a table without a key',
        )
    if key == (WHOLE_ROW,) and WHOLE_ROW not in declared.values:
        raise section.error(
            "no column '*' in [columns]", "key", next_step=f'for the whole row write key = "{WHOLE_ROW}"'
        )
    for part in key:
        if part in ignored:
            raise section.error(f"key column '{part}' is ignored", "key", next_step="compare it, or choose another key")
        if part not in columns:
            raise section.error(f"no column '{part}' in [columns]", "key", next_step=near(part, columns))
        if columns[part].tolerance is not None:
            raise declared.error(
                "a key column is compared exactly",
                part,
                "tolerance",
                next_step=f"take tolerance out of '{part}', or choose another key",
            )
    return Profile(
        dataset=name,
        key=key,
        columns=columns,
        empty_collection=empty,
        ignored=tuple(ignored),
    )


def _column_type(columns: Section, name: str) -> LogicalType | None:
    """The type of a column, or None where it is ignored."""
    declared = columns.values[name]
    where = columns.where(name)
    if not name.strip():
        raise columns.error("a column needs a name", name)
    if not isinstance(declared, dict):
        return parse_type(declared, where) if isinstance(declared, str) else _not_a_type(columns, name)
    rules = dict(declared)
    ignore = rules.pop("ignore", False)
    if type(ignore) is not bool:
        raise columns.error(f"must be true or false, not {kind_of(ignore)}", name, "ignore")
    if ignore and not rules:
        return None
    kind = parse_type(rules, where)
    return None if ignore else kind


def _not_a_type(columns: Section, name: str) -> LogicalType:
    raise columns.error(
        f"a type is text or a table, not {kind_of(columns.values[name])}", name, next_step=f'write {name} = "text"'
    )


def _regions(section: Section, profile: Profile) -> dict[str, Region]:
    regions = section.section("regions").sections()
    if not regions:
        raise section.error("no region has this dataset", next_step="add [dataset.<name>.regions.<region>]")
    if len(regions) > REGIONS_MAX:
        raise section.error(f"{len(regions)} regions; a sweep has at most {REGIONS_MAX}", "regions")
    folded: dict[str, str] = {}
    for name in regions:
        if not REGION_NAME.match(name):
            raise regions[name].error("a region's name has letters, digits, '.', '_' and '-' (at most 63)")
        if (other := folded.setdefault(name.lower(), name)) != name:
            raise regions[name].error(f"differs from region '{other}' only by case", next_step="rename one of them")
    return {name: _region(name, regions[name], profile) for name in regions}


def _region(name: str, section: Section, profile: Profile) -> Region:
    section.only("connection", "table", "columns", "options")
    if not section.values:
        return Region(name)
    mappings = section.section("columns")
    columns: dict[str, BoundColumn] = {}
    for column in mappings.values:
        if column in profile.columns:
            columns[column] = _bound(column, profile.columns[column], mappings)
        elif column not in profile.ignored:
            raise mappings.error(
                "maps a column that the dataset does not have", column, next_step=_known(column, profile)
            )
    return Region(
        name,
        connection=section.needed_text("connection", 'connection = "<name in the agent\'s file>"'),
        table=section.needed_text("table", 'table = "<table>"'),
        columns=columns,
        options=section.text_map("options"),
    )


def _known(column: str, profile: Profile) -> str:
    return near(column, (*profile.columns, *profile.ignored))


def _bound(name: str, kind: LogicalType, mappings: Section) -> BoundColumn:
    """One column mapping: text is the source's column, a table names exactly one of :data:`SOURCES`."""
    if isinstance(mappings.values[name], str):
        return BoundColumn(name, kind, source=mappings.needed_text(name, f'{name} = "<source column>"'))
    section = mappings.section(name)
    section.only(*SOURCES, "joiner")
    given = [key for key in SOURCES if key in section]
    if len(given) != 1:
        raise section.error(
            f"needs exactly one of {', '.join(SOURCES)}", next_step=f'such as {name} = "<source column>"'
        )
    if "joiner" in section and given != ["parts"]:
        raise section.error("belongs to parts only", "joiner")
    match given[0]:
        case "constant":
            return BoundColumn(name, kind, constant=_constant(section))
        case "parts":
            return _fold(name, kind, section)
        case "expression":
            return BoundColumn(name, kind, expression=section.text("expression"))
        case _:
            return BoundColumn(name, kind, source=section.text("column"))


def _constant(section: Section) -> str:
    """A constant as the text that is read as the column's type; the empty text is one."""
    value: Any = section.values["constant"]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise section.error(f"must be text, a number, true or false, not {kind_of(value)}", "constant")


def _fold(name: str, kind: LogicalType, section: Section) -> BoundColumn:
    if kind.name != "text":
        raise section.error(f"parts fold into text, and the column is {kind}", next_step='declare it as "text"')
    parts = section.texts("parts")
    if len(parts) < 2:
        raise section.error("needs at least two source columns", "parts")
    joiner = section.values.get("joiner", "")
    if not isinstance(joiner, str):
        raise section.error(f"must be text, not {kind_of(joiner)}", "joiner")
    return BoundColumn(name, kind, parts=parts, joiner=joiner)
