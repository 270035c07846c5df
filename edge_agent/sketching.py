"""Sketches by the digester that the agent was told to use: "compiled" and "plain" give the same words."""

from __future__ import annotations

from paritree.core import sketch
from paritree.core.fast import sketches
from paritree.core.leaves import U64
from paritree.core.sketch import Probe, Sketch


def probe_of(k: U64, r: U64, digester: str) -> Probe:
    """The probe of rows; k and r of shape (n,)."""
    if digester == "compiled":
        return sketches.probe_of(k, r)
    return sketch.probe_of(k, r)


def add_rows(target: Sketch, k: U64, r: U64, digester: str) -> None:
    """Add rows to a sketch in place; k and r of shape (n,)."""
    if digester == "compiled":
        sketches.add_rows(target, k, r)
    else:
        sketch.add_rows(target, k, r)
