"""Canonical form v1: every value becomes MessagePack bytes in exactly one way (CANONICAL.md beside this file).

This is the plain implementation and therefore the specification; every faster path must give the same bytes.
"""

from paritree.core.canonical.row import RowEncoder
from paritree.core.canonical.values import NIL, Encoder, encode, encoder, shifted_encoder

__all__ = ["NIL", "Encoder", "RowEncoder", "encode", "encoder", "shifted_encoder"]
