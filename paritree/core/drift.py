"""Schema drift: what has changed in a table since it was compared last."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from paritree.core.schema import SourceColumn, TableSchema


def described(schema: TableSchema, ignored: Collection[str] = ()) -> dict[str, Any]:
    """The table as JSON, as far as a change of it may change what is compared: columns with their types, and the key.

    Not part of it: ``ignored`` columns, the order of columns, whether they may be null, and the number of rows.
    """
    columns = {column.name: _column(column) for column in schema.columns if column.name not in ignored}
    return {"columns": columns, "key": [name for name in schema.key if name not in ignored]}


def _column(column: SourceColumn) -> dict[str, Any]:
    return {
        "type": column.engine_type,
        "read_as": None if column.logical is None else str(column.logical),
        "precision": column.precision,
        "typed": column.typed,
        "padded": column.padded,
        "caseless": column.caseless,
    }


def changed_columns(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The columns that are new, gone or of another type, by name; ``was`` and ``now`` are from :func:`described`."""
    before, after = was["columns"], now["columns"]
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed, for people: one phrase a column, and one for the key; [] where nothing has."""
    phrases = [_phrase(name, was["columns"].get(name), now["columns"].get(name)) for name in changed_columns(was, now)]
    if list(was["key"]) != list(now["key"]):
        phrases.append(f"the key was ({', '.join(was['key'])}), is ({', '.join(now['key'])})")
    return phrases


def _phrase(name: str, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    if was is None or now is None:
        there = was or now or {}
        return f"column '{name}' ({there['type']}) is {'new' if was is None else 'gone'}"
    if was["type"] != now["type"]:
        return f"column '{name}' was {was['type']}, is {now['type']}"
    changed = [field for field in was if was[field] != now.get(field)]
    return f"column '{name}' ({now['type']}) " + ", ".join(f"{f} was {was[f]}, is {now.get(f)}" for f in changed)
