"""Logical types: what a column means, whatever engine holds it.

A type carries its rules (scale, precision, rounding, text rules), so that one object decides the canonical bytes.
The written forms are text (``decimal(2)``, ``list<int>``, ``map<text,int>``, ``struct{zip: text, no: int}``) and the
mapping used in TOML, JSON and the golden vectors (``{type = "decimal", scale = 2}``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from paritree.core.errors import ConfigError
from paritree.core.tolerance import TOLERANT, parse_tolerance

PRIMITIVES: Final = frozenset(
    ("bool", "int", "decimal", "float", "text", "bytes", "date", "time", "timestamp", "datetime", "uuid", "duration")
) | {"inet", "json"}
COLLECTIONS: Final = frozenset({"list", "set", "map"})
TIMES: Final = frozenset({"time", "timestamp", "datetime"})
PRECISIONS: Final[Mapping[str, int]] = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""Precision name -> microseconds in one unit."""
ROUNDINGS: Final = ("floor", "truncate", "half_up", "half_even")
TEXT_RULES: Final = ("nfc", "rtrim", "casefold")
"""Text rules in the order in which they are applied."""
SCALE_MAX: Final = 16_383
"""PostgreSQL's numeric holds at most this many fraction digits; more are a dead letter anyway."""

LEVELS_MAX: Final = 32
"""Types inside of types: what every engine can hold is far below, and every level costs stack when values are read."""
_SHAPE_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "list": frozenset({"of"}),
    "set": frozenset({"of"}),
    "map": frozenset({"key", "value"}),
    "struct": frozenset({"fields"}),
}


@dataclass(frozen=True, slots=True)
class LogicalType:
    """One logical type with its rules; build it with :func:`parse_type`.

    ``of`` holds the element type of a list or set and the key and value types of a map; ``fields`` the declared
    fields of a struct. ``precision`` is None where nothing was declared (which means ``us``): a source that holds
    another precision is refused then, so the difference between "us" and "not said" matters. ``tolerance`` is the
    plain text of a number above 0 (see :func:`~paritree.core.tolerance.parse_tolerance`).
    """

    name: str
    scale: int | None = None
    precision: str | None = None
    rounding: str | None = None
    rules: tuple[str, ...] = ()
    of: tuple[LogicalType, ...] = ()
    fields: tuple[tuple[str, LogicalType], ...] = ()
    tolerance: str | None = None

    @property
    def unit_us(self) -> int:
        """Microseconds in one unit of the precision."""
        return PRECISIONS[self.precision or "us"]

    @property
    def rounding_mode(self) -> str:
        """The rounding in force: floor for times, half_even for decimals, unless declared."""
        return self.rounding or ("half_even" if self.name == "decimal" else "floor")

    @property
    def levels(self) -> int:
        """1 for a type without others inside."""
        return 1 + max((kind.levels for kind in (*self.of, *(field for _, field in self.fields))), default=0)

    @property
    def is_collection(self) -> bool:
        return self.name in COLLECTIONS

    @property
    def bare(self) -> LogicalType:
        """The same type without any rule that changes a value: what a look-up key is written in."""
        return replace(
            self,
            scale=None,
            precision=None,
            rounding=None,
            rules=(),
            of=tuple(t.bare for t in self.of),
            fields=tuple((n, t.bare) for n, t in self.fields),
            tolerance=None,
        )

    def spec(self) -> dict[str, Any]:
        """The mapping form; only what was declared appears. ``parse_type(t.spec()) == t``."""
        out: dict[str, Any] = {"type": self.name}
        for attribute in ("scale", "precision", "rounding", "tolerance"):
            if getattr(self, attribute) is not None:
                out[attribute] = getattr(self, attribute)
        if self.rules:
            out["rules"] = list(self.rules)
        if self.name == "map":
            out["key"], out["value"] = self.of[0].spec(), self.of[1].spec()
        elif self.of:
            out["of"] = self.of[0].spec()
        if self.name == "struct":
            out["fields"] = {name: kind.spec() for name, kind in self.fields}
        return out

    def __str__(self) -> str:
        if self.name == "struct":
            return "struct{" + ", ".join(f"{n}: {t}" for n, t in self.fields) + "}"
        if self.of:
            return f"{self.name}<{', '.join(map(str, self.of))}>"
        extra = self.scale if self.scale is not None else self.precision
        return self.name if extra is None else f"{self.name}({extra})"


def parse_type(declared: object, where: str = "type") -> LogicalType:
    """Read a type from its text or mapping form.

    ``where`` names the file and key for the error message. Raises ConfigError.
    """
    if isinstance(declared, LogicalType):
        return declared
    try:
        kind = _parsed(declared, where)
    except RecursionError:
        kind = None
    if kind is None or kind.levels > LEVELS_MAX:
        raise ConfigError(f"{where}: a type has at most {LEVELS_MAX} levels")
    return kind


def _parsed(declared: object, where: str) -> LogicalType:
    if isinstance(declared, str):
        kind, rest = _parse_text(declared, where)
        if rest.strip():
            raise ConfigError(f"{where}: '{declared}' has '{rest.strip()}' after the type")
        return kind
    if isinstance(declared, Mapping):
        return _parse_mapping(declared, where)
    raise ConfigError(f"{where}: a type is text or a table, not {type(declared).__name__}")


def _parse_mapping(declared: Mapping[str, Any], where: str) -> LogicalType:
    if "type" not in declared:
        raise ConfigError(f"{where}: 'type' is missing")
    known = {"type", "scale", "precision", "rounding", "rules", "tolerance", "of", "key", "value", "fields"}
    if unknown := sorted(set(declared) - known):
        raise ConfigError(f"{where}: unknown rule '{unknown[0]}'", next_step=f"known rules: {', '.join(sorted(known))}")
    name = declared["type"]
    shape = _SHAPE_KEYS.get(name, frozenset()) if isinstance(name, str) else frozenset()
    if surplus := sorted(set(declared) & frozenset().union(*_SHAPE_KEYS.values()) - shape):
        raise ConfigError(f"{where}: '{surplus[0]}' does not belong to {name}")
    if isinstance(name, str) and name not in ("list", "set", "map", "struct"):
        kind = parse_type(name, where)
    elif name == "struct":
        fields = declared.get("fields")
        if not isinstance(fields, Mapping):
            raise ConfigError(f"{where}: a struct needs 'fields'")
        kind = _struct({n: parse_type(t, f"{where}.{n}") for n, t in fields.items()}, where)
    elif name == "map":
        if "key" not in declared or "value" not in declared:
            raise ConfigError(f"{where}: a map needs 'key' and 'value'")
        kind = LogicalType(
            "map", of=(parse_type(declared["key"], f"{where}.key"), parse_type(declared["value"], f"{where}.value"))
        )
    elif name in ("list", "set"):
        if "of" not in declared:
            raise ConfigError(f"{where}: a {name} needs 'of'")
        kind = LogicalType(name, of=(parse_type(declared["of"], f"{where}.of"),))
    else:
        raise ConfigError(f"{where}: 'type' is text")
    ruled = replace(
        kind,
        scale=declared.get("scale", kind.scale),
        precision=declared.get("precision", kind.precision),
        rounding=declared.get("rounding", kind.rounding),
        rules=_text_rules(declared.get("rules", kind.rules), where),
    )
    return with_tolerance(_checked(ruled, where), declared.get("tolerance"), where)


def with_tolerance(kind: LogicalType, declared: object, where: str) -> LogicalType:
    """The type with a tolerance as declared, or as it is where that is None. Raises ConfigError."""
    inside = [*kind.of, *(field for _, field in kind.fields)]
    if any(inner.tolerance is not None for inner in inside):
        raise ConfigError(
            f"{where}: a tolerance is for whole columns, not for what is inside a {kind.name}",
            next_step="take tolerance out of that type",
        )
    if declared is None:
        return kind
    if kind.name not in TOLERANT:
        fix = 'write type = "decimal" with it' if kind.name == "int" else "take tolerance out of that column"
        raise ConfigError(f"{where}: a tolerance is for float and decimal, not {kind.name}", next_step=fix)
    return replace(kind, tolerance=parse_tolerance(declared, where))


def _text_rules(declared: object, where: str) -> tuple[str, ...]:
    if not isinstance(declared, list | tuple) or any(rule not in TEXT_RULES for rule in declared):
        raise ConfigError(f"{where}: rules is a list of {', '.join(TEXT_RULES)}")
    return tuple(rule for rule in TEXT_RULES if rule in declared)


def _checked(kind: LogicalType, where: str) -> LogicalType:
    scale = kind.scale
    if scale is not None and (
        kind.name != "decimal" or not isinstance(scale, int) or isinstance(scale, bool) or not 0 <= scale <= SCALE_MAX
    ):
        raise ConfigError(f"{where}: scale is for decimals, a whole number from 0 to {SCALE_MAX}")
    if kind.precision is not None and (kind.name not in TIMES or kind.precision not in tuple(PRECISIONS)):
        raise ConfigError(f"{where}: precision is for time, timestamp and datetime, one of s, ms, us")
    if kind.rounding is not None and (kind.name not in TIMES | {"decimal"} or kind.rounding not in ROUNDINGS):
        raise ConfigError(f"{where}: rounding is for decimals and times, one of {', '.join(ROUNDINGS)}")
    if kind.rules and kind.name != "text":
        raise ConfigError(f"{where}: the rules {', '.join(kind.rules)} are for text")
    return kind


def _struct(fields: Mapping[str, LogicalType], where: str) -> LogicalType:
    if not fields:
        raise ConfigError(f"{where}: a struct needs at least one field")
    return LogicalType("struct", fields=tuple(sorted(fields.items(), key=lambda item: item[0].encode())))


_WORD = re.compile(r"\s*([a-z]+)")
_ARGUMENT = re.compile(r"\s*\(\s*([0-9]{1,9}|[a-z]+)\s*\)")
_FIELD = re.compile(r"\s*([^\s:,{}]+)\s*:")


def _parse_text(text: str, where: str) -> tuple[LogicalType, str]:
    word = _WORD.match(text)
    if word is None:
        raise ConfigError(f"{where}: '{text}' is not a type")
    name, rest = word.group(1), text[word.end() :]
    if name in COLLECTIONS:
        return _parse_collection(name, rest, where)
    if name == "struct":
        return _parse_struct(rest, where)
    if name not in PRIMITIVES:
        raise ConfigError(f"{where}: unknown type '{name}'", next_step=f"known: {', '.join(sorted(PRIMITIVES))}")
    argument = _ARGUMENT.match(rest)
    if argument is None:
        return LogicalType(name), rest
    value, rest = argument.group(1), rest[argument.end() :]
    kind = LogicalType(name, scale=int(value)) if value.isdigit() else LogicalType(name, precision=value)
    return _checked(kind, where), rest


def _parse_collection(name: str, rest: str, where: str) -> tuple[LogicalType, str]:
    parts: list[LogicalType] = []
    rest = _expect(rest, "<", where)
    for index in range(2 if name == "map" else 1):
        if index:
            rest = _expect(rest, ",", where)
        part, rest = _parse_text(rest, where)
        parts.append(part)
    return LogicalType(name, of=tuple(parts)), _expect(rest, ">", where)


def _parse_struct(rest: str, where: str) -> tuple[LogicalType, str]:
    rest = _expect(rest, "{", where)
    fields: dict[str, LogicalType] = {}
    while True:
        field = _FIELD.match(rest)
        if field is None:
            raise ConfigError(f"{where}: a struct is written struct{{name: type, ...}}")
        if field.group(1) in fields:
            raise ConfigError(f"{where}: the struct has two fields '{field.group(1)}'")
        fields[field.group(1)], rest = _parse_text(rest[field.end() :], where)
        if rest.lstrip().startswith("}"):
            return _struct(fields, where), _expect(rest, "}", where)
        rest = _expect(rest, ",", where)


def _expect(text: str, mark: str, where: str) -> str:
    if not text.lstrip().startswith(mark):
        raise ConfigError(f"{where}: expected '{mark}' before '{text.strip()}'")
    return text.lstrip()[1:]
