"""How a node that differs is resolved at the least bytes: by a sized sketch, by a list, or by sums and then lists.

    SKETCH  four tables of cells, 24 bytes each, 1.6 to 1.7 cells a differing key, whatever the number of rows
    LIST    24 bytes for every row
    TREE    Σr of a level and of the leaves below its differing nodes, then lists of the differing leaves

A descent never costs a region more than 2 × 24 bytes a row and 16 KiB. TREE and LIST cost at most 28 bytes a row; so
sketches may take SKETCH_ROW_BYTES a row, and may fail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from paritree.core import limits
from paritree.core.leaves import leaf_bits
from paritree.core.sketch import CELL_BYTES, TABLES, size_for

ROW_BYTES: Final = 24
"""k, r and r′ of one listed row."""
SKETCH_ROW_BYTES: Final = 18
"""What all sized sketches of a descent may cost a row, so that lists still fit after a sketch that did not decode."""
_SUM_BYTES: Final = 8
_NODE_BYTES: Final = 12
"""Naming one node in a request, and its row count in the answer."""
_ROUND_BYTES: Final = 65_536
"""What one more round may save at least: 100 ms of a line with 5 Mbit/s."""
_DIFFERENCES_MIN: Final = 16
"""Estimates below this are noise: the probe alone would have decoded so few."""


class Form(StrEnum):
    SKETCH = "sketch"
    TREE = "tree"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Plan:
    """The form to ask for; ``cells`` a table for a sketch."""

    form: Form
    cells: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """The depths of a descent by sums: of its first level and of its leaves."""

    level_bits: int
    leaf_bits: int

    @classmethod
    def of(cls, rows: int) -> Shape:
        """For the largest region's rows."""
        leaves = leaf_bits(rows, limits.LEAF_ROWS, limits.LEAF_BITS_MAX)
        return cls(min(leaves, limits.LEVEL_BITS_MAX), leaves)


def sketch_bytes(cells: int) -> int:
    """Bytes of a sketch on the wire."""
    return cells * TABLES * CELL_BYTES


def plan(differences: float, at_most: float, rows: Sequence[int], spent: int, *, may_sketch: bool) -> Plan:
    """The cheapest form for about so many differing keys among regions of so many rows.

    A sketch is to solve for ``at_most`` keys. ``spent`` bytes went into sized sketches already.
    """
    apart, together = max(rows) - min(rows), max(rows) + min(rows)
    expected = min(max(differences, apart, _DIFFERENCES_MIN), together)
    costs = {Form.LIST: float(ROW_BYTES * max(rows)), Form.TREE: _tree_bytes(expected, max(rows))}
    cells = size_for(min(max(at_most, apart, _DIFFERENCES_MIN), together))
    fits = spent + sketch_bytes(cells) <= SKETCH_ROW_BYTES * min(rows) and cells <= limits.SKETCH_CELLS_MAX
    if may_sketch and fits:
        costs[Form.SKETCH] = float(sketch_bytes(cells))
    form = min(costs, key=costs.__getitem__)
    return Plan(form, cells if form is Form.SKETCH else 0)


def _tree_bytes(differences: float, rows: int) -> float:
    """On average, with a price for the rounds that it takes more than the other forms."""
    shape = Shape.of(rows)
    if shape.leaf_bits == 0:
        return math.inf
    total = _SUM_BYTES * float(1 << shape.level_bits) + _ROUND_BYTES
    if shape.leaf_bits > shape.level_bits:
        total += _ROUND_BYTES
        nodes = _touched(1 << shape.level_bits, differences)
        total += nodes * (_NODE_BYTES + _SUM_BYTES * (1 << (shape.leaf_bits - shape.level_bits)))
    leaves = 1 << shape.leaf_bits
    return total + _touched(leaves, differences) * (_NODE_BYTES + ROW_BYTES * rows / leaves)


def _touched(nodes: int, differences: float) -> float:
    """How many of the nodes hold a difference, on average."""
    return nodes * -math.expm1(-differences / nodes)
