"""The datasets file that ``paritree init`` writes: what the catalogues say, as TOML with comments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent.connectors.registry import connect
from paritree.cli.adhoc import Target, of_region
from paritree.core.advice import near
from paritree.core.derive import LINES, Derived, derive_profile
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import WHOLE_ROW
from paritree.core.schema import TableSchema

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
ONE_TABLE = ("parquet://", "csv://")
"""URLs that name a table themselves."""
CONNECTION = "main"
"""The connection that the written bindings name; each agent's file says what it is."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A dataset to write: one table in each region, with its schema."""

    name: str
    tables: Mapping[str, str]
    schemas: Mapping[str, TableSchema]


@dataclass(slots=True)
class Written:
    """The file's text, the datasets in it, and the tables that are not in it with the reason."""

    text: str
    datasets: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def candidates(targets: Sequence[Target]) -> tuple[list[Candidate], dict[str, str]]:
    """The tables that two or more regions have, paired by name; and what could not be read or paired, with the reason.

    A target with a table offers that one; without, all tables of its source. Raises SourceError for a source that
    cannot be reached: a file that leaves a region out would compare less than was asked.
    """
    offered: dict[str, dict[str, str]] = {}
    schemas: dict[tuple[str, str], TableSchema] = {}
    refused: dict[str, str] = {}
    for target in targets:
        try:
            with connect(target.source) as connector:
                for table in [target.table] if target.table else connector.tables():
                    try:
                        schemas[target.region, table] = connector.describe(table)
                    except ConfigError as error:
                        refused[f"{target.region}: {table}"] = str(error)
                        continue
                    offered.setdefault(_dataset_name(table, target), {}).setdefault(target.region, table)
        except SourceError as error:
            raise SourceError(f"{target.region}: {error.message}", next_step=error.next_step) from None
        except ConfigError as error:
            raise of_region(target, error) from None
    if len(offered) > 1 and all(target.table or target.url.startswith(ONE_TABLE) for target in targets):
        name = next(iter(offered))  # every table was named: they are one dataset, whatever their names
        offered = {name: dict(schemas.keys())}
    found: list[Candidate] = []
    for name, tables in offered.items():
        if len(tables) < 2:
            refused[name] = f"only region {next(iter(tables))} has it"
        else:
            found.append(Candidate(name, tables, {r: schemas[r, t] for r, t in tables.items()}))
    return found, refused


def _dataset_name(table: str, target: Target) -> str:
    """``public.Orders`` -> ``orders``; a glob's table is named after its file or folder."""
    last = table.rpartition(".")[2] if table else re.sub(r"[*.].*", "", target.url.rstrip("/").rpartition("/")[2])
    return re.sub(r"[\s,\"']+", "_", last).strip("_").lower() or "dataset"


def write(found: Iterable[Candidate], refused: Mapping[str, str], ignore: Sequence[str] = ()) -> Written:
    """The datasets file of all candidates that can be compared. Raises ConfigError for an unknown column to ignore."""
    found = list(found)
    names = sorted({column.name for c in found for schema in c.schemas.values() for column in schema.columns})
    if found and (unknown := [name for name in ignore if name not in names]):
        raise ConfigError(f"--ignore {unknown[0]}: no table has that column", next_step=near(unknown[0], names))
    written = Written("", refused=dict(refused))
    blocks: list[str] = []
    for candidate in found:
        present = [c for c in ignore if any(s.column(c) for s in candidate.schemas.values())]
        try:
            derived = derive_profile(candidate.name, candidate.schemas, ignore=present, advice=LINES)
        except ConfigError as error:
            written.refused[candidate.name] = str(error)
            continue
        blocks.append("\n".join(_dataset(candidate, derived)))
        written.datasets.append(candidate.name)
    notes = [f"# not written: {name}: {line}" for name, why in written.refused.items() for line in why.splitlines()]
    head = ["# Datasets of paritree. All sides read the same file; see 'paritree doctor' to check it.", *notes]
    written.text = "\n".join([*head, "", *blocks]).rstrip() + "\n"
    return written


def _dataset(candidate: Candidate, derived: Derived) -> Iterator[str]:
    profile = derived.profile
    yield f"[dataset.{_key(candidate.name)}]"
    yield f"key = {_value(WHOLE_ROW if profile.whole_row else list(profile.key))}"
    if profile.empty_collection != "keep":
        yield f"empty_collection = {_value(profile.empty_collection)}"
    yield from (f"# {note}" for note in derived.notes)
    yield ""
    yield f"[dataset.{_key(candidate.name)}.columns]"
    for name, kind in profile.columns.items():
        spec = kind.spec()
        yield f"{_key(name)} = {_value(spec['type'] if len(spec) == 1 else spec)}"
    for name in profile.ignored:
        yield f"{_key(name)} = {{ ignore = true }}"
    for region, table in candidate.tables.items():
        yield ""
        yield f"[dataset.{_key(candidate.name)}.regions.{_key(region)}]"
        yield f"connection = {_value(CONNECTION)}"
        yield f"table = {_value(table)}"
        renamed = {n: source for n, source in derived.bindings[region].items() if n != source}
        if renamed:
            yield f"columns = {_value(renamed)}"
    yield ""


def _key(name: str) -> str:
    return name if _BARE.match(name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    """A TOML value; JSON strings without raw control characters are TOML strings."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
