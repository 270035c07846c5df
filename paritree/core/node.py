"""A node of the tree by its place, and how it is named."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the tree by its prefix of k and its depth in bits."""

    prefix: int = 0
    bits: int = 0

    @property
    def text(self) -> str:
        """The prefix in hexadecimal, padded with zero bits to whole digits; "" for the root."""
        digits = -(-self.bits // 4)
        return f"{self.prefix << (4 * digits - self.bits):0{digits}x}" if digits else ""

    @property
    def said(self) -> str:
        """The node for people."""
        return f"the keys below {self.text} ({self.bits} bits)" if self.bits else "all keys"


def common(nodes: Collection[int], bits: int) -> Node:
    """The deepest node above all of the given nodes of depth ``bits``."""
    low, high = min(nodes), max(nodes)
    up = (low ^ high).bit_length()
    return Node(low >> up, bits - up)
