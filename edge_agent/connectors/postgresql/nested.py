"""Values made of values (arrays, composite types, hstore): where their parts lie, and the Arrow array of the whole."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from edge_agent.connectors.postgresql.tuples import Places, malformed
from edge_agent.connectors.postgresql.types import EngineType
from paritree.core.types import LogicalType

TEXT: Final = EngineType(25, "text", "text", LogicalType("text"))
Child = tuple[EngineType, list[int], list[int]]
"""The type of a part, and the places and sizes of its values in the same data as the whole's."""


@dataclass(slots=True)
class Parts:
    """The parts of a column of nested values.

    ``build`` makes the array from the children's arrays and a mask (True: null). ``offsets`` delimits the children of
    each row; None where every row has one value of each child. ``rejects`` gives the reason of rows left out.
    """

    children: list[Child]
    build: Callable[[list[pa.Array], pa.Array], pa.Array]
    offsets: list[int] | None = None
    rejects: dict[int, str] = field(default_factory=dict)

    def parent(self, child: int) -> int:
        """The row that a child's value belongs to."""
        return child if self.offsets is None else bisect.bisect_right(self.offsets, child) - 1


class _Cursor:
    """Reads one value, never beyond its end."""

    def __init__(self, value: bytes, what: str) -> None:
        self.value, self.place, self.what = value, 0, what

    def int32(self) -> int:
        if self.place + 4 > len(self.value):
            raise malformed(f"{self.what} that ends too early")
        (number,) = struct.unpack_from(">i", self.value, self.place)
        self.place += 4
        return int(number)

    def item(self) -> tuple[int, int]:
        """Place within the value and size of a length-prefixed item; size -1 for NULL."""
        size = self.int32()
        place = self.place
        if size < -1 or size > len(self.value) - place:
            raise malformed(f"{self.what} with an item of impossible size")
        self.place += max(size, 0)
        return place, size

    def end(self) -> None:
        if self.place != len(self.value):
            raise malformed(f"{self.what} with bytes left over")


def arrays(kind: EngineType, values: Sequence[bytes | None], at: Places) -> Parts:
    """Arrays: int32 dimensions, flags, element type, then size and lower bound of each dimension, then the items."""
    assert kind.element is not None
    places: list[int] = []
    sizes: list[int] = []
    offsets = [0]
    rejects: dict[int, str] = {}
    for row, value in enumerate(values):
        if value is not None:
            cursor = _Cursor(value, "an array")
            dimensions, _flags, _type = cursor.int32(), cursor.int32(), cursor.int32()
            if not 0 <= dimensions <= 6:
                raise malformed("an array of impossible dimensions")
            if dimensions > 1:
                rejects[row] = "an array of more than one dimension"
            else:
                base = int(at[row])
                for place, size in _items(cursor, dimensions):
                    places.append(base + place)
                    sizes.append(size)
        offsets.append(len(places))
    build = lambda children, mask: pa.ListArray.from_arrays(_int32(offsets), children[0], mask=mask)  # noqa: E731
    return Parts([(kind.element, places, sizes)], build, offsets, rejects)


def _items(cursor: _Cursor, dimensions: int) -> list[tuple[int, int]]:
    items: list[tuple[int, int]] = []
    if dimensions:
        count, _lower_bound = cursor.int32(), cursor.int32()
        if count < 0 or 4 * count > len(cursor.value):
            raise malformed("an array of impossible size")
        items = [cursor.item() for _ in range(count)]
    cursor.end()
    return items


def composites(kind: EngineType, values: Sequence[bytes | None], at: Places) -> Parts:
    """Composite values: int32 number of fields, then the type and the item of each."""
    children: list[Child] = [(part, [], []) for _, part in kind.fields]
    for row, value in enumerate(values):
        items = [(0, -1)] * len(children)
        if value is not None:
            cursor = _Cursor(value, "a composite value")
            if cursor.int32() != len(children):
                raise malformed("a composite value with another number of fields than its type had at the start")
            items = []
            for _ in children:
                cursor.int32()
                items.append(cursor.item())
            cursor.end()
        for (_, places, sizes), (place, size) in zip(children, items, strict=True):
            places.append(int(at[row]) + place)
            sizes.append(size)
    names = [name for name, _ in kind.fields]
    return Parts(children, lambda parts, mask: pa.StructArray.from_arrays(parts, names=names, mask=mask))


def hstores(_kind: EngineType, values: Sequence[bytes | None], at: Places) -> Parts:
    """hstore: int32 number of pairs, then the items of key and value of each."""
    keys: Child = (TEXT, [], [])
    items: Child = (TEXT, [], [])
    offsets = [0]
    for row, value in enumerate(values):
        if value is not None:
            cursor = _Cursor(value, "an hstore")
            count = cursor.int32()
            if not 0 <= 8 * count <= len(value):
                raise malformed("an hstore of impossible size")
            for _ in range(count):
                for _type, places, sizes in (keys, items):
                    place, size = cursor.item()
                    places.append(int(at[row]) + place)
                    sizes.append(size)
            cursor.end()
        offsets.append(len(keys[1]))
    if -1 in keys[2]:
        raise malformed("an hstore with a null key")
    return Parts(
        [keys, items], lambda parts, mask: pa.MapArray.from_arrays(_int32(offsets), *parts, mask=mask), offsets
    )


def _int32(offsets: list[int]) -> pa.Array:
    return pa.array(offsets, pa.int32())


DECODERS: Final[dict[str, Callable[[EngineType, Sequence[bytes | None], Places], Parts]]] = {
    "array": arrays,
    "composite": composites,
    "hstore": hstores,
}
