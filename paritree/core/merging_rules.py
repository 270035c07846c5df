"""Which rule made one key of several: text rules, precision and scale, or the canonical form itself.

Named for people: the column and the rule, never a value. Two keys are merged where their canonical bytes are equal and
their source has them apart: in the bytes without the rules that change values (the locators), or in its own form only.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

import pyarrow as pa

from paritree.core.canonical import encode
from paritree.core.canonical.text import encode_text
from paritree.core.display import key_values
from paritree.core.errors import DeadLetter
from paritree.core.profile import Profile
from paritree.core.types import LogicalType

NEGATIVE_ZERO: Final = "negative zero is zero"
NOT_A_NUMBER: Final = "every NaN is one"
NOTATION: Final = "one value in several notations"

Raw = tuple[Any, ...]
"""A key as its source has it, one value a key column; None where that is its canonical value."""


def rules(profile: Profile, keys: Iterable[tuple[bytes, Raw]]) -> tuple[str, ...]:
    """What merged the rows of one key, each by its locator and raw key: ``column: rule``; () where nothing did."""
    distinct = sorted(set(keys), key=lambda key: (key[0], str(key[1])))
    locators = sorted({locator for locator, _ in distinct})
    found: list[str] = []
    if len(locators) > 1:
        columns = zip(*(key_values(locator, profile) for locator in locators), strict=True)
        for name, values in zip(profile.key, columns, strict=True):
            found += [f"{name}: {rule}" for rule in _of_values(profile.columns[name], values)]
    for position, name in enumerate(profile.key):
        forms = {(locator, raw[position]) for locator, raw in distinct if position < len(raw)}
        if len(forms) > len({locator for locator, _ in forms}):
            found.append(f"{name}: {_of_forms(value for _, value in forms)}")
    return tuple(found)


def _of_values(kind: LogicalType, values: Sequence[Any]) -> list[str]:
    """The rules of a type that these values need to become one; none where they are one without any."""
    if len({encode(value, kind.bare) for value in values}) < 2:
        return []
    if kind.name == "text":
        return list(_text_rules(kind, [str(value) for value in values]))
    if kind.scale is not None:
        return [f"scale {kind.scale}"]
    if kind.precision is not None:
        return [f"precision {kind.precision}"]
    return ["precision, scale or text rules inside of it"]


def _text_rules(kind: LogicalType, texts: Sequence[str]) -> tuple[str, ...]:
    """The fewest rules that do, in the order in which they are applied."""
    for count in range(1, len(kind.rules) + 1):
        for some in itertools.combinations(kind.rules, count):
            if len({_ruled(text, some) for text in texts}) == 1:
                return some
    return kind.rules


def _ruled(text: str, some: tuple[str, ...]) -> bytes:
    try:
        return encode_text(text, some)
    except DeadLetter:  # a locator holds what fits, and a rule does not make it less so
        return text.encode(errors="surrogatepass")


def _of_forms(forms: Iterable[Any]) -> str:
    floats = [struct.unpack("<d", form)[0] for form in forms if isinstance(form, bytes)]
    if not floats:
        return NOTATION
    return NOT_A_NUMBER if math.isnan(floats[0]) else NEGATIVE_ZERO


def ambiguous(array: pa.Array, kind: LogicalType) -> bool:
    """Whether a carrier has several forms for one canonical value without any rule."""
    carrier = array.type
    if isinstance(carrier, pa.BaseExtensionType) or pa.types.is_dictionary(carrier):
        return False
    if pa.types.is_floating(carrier):
        return True
    return kind.name not in ("text", "bytes") and bool(pa.types.is_string(carrier) or pa.types.is_large_string(carrier))


def raw_form(array: pa.Array, row: int) -> Any:
    """What tells the forms of an ambiguous carrier apart: a float's bits, a text."""
    if not array[row].is_valid:
        return None
    if pa.types.is_floating(array.type):
        return struct.pack("<d", float(array[row].as_py()))
    try:
        return array[row].as_py()
    except UnicodeDecodeError:  # a dead letter, which is no key
        return None


def raw_keys(profile: Profile, batch: pa.RecordBatch) -> list[Raw]:
    """The raw key of every row of a batch, as far as it has several forms for one canonical value."""
    columns = [batch.column(name) for name in profile.key]
    several = [ambiguous(array, profile.columns[name]) for name, array in zip(profile.key, columns, strict=True)]
    if not any(several):
        return [()] * batch.num_rows
    return [
        tuple(raw_form(array, row) if many else None for array, many in zip(columns, several, strict=True))
        for row in range(batch.num_rows)
    ]
