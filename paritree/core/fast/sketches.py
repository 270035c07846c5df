"""Sketches and probes by kernels: the same words as :func:`paritree.core.sketch.sketch_of` and ``probe_of``."""

from __future__ import annotations

import numpy as np

from paritree.core.errors import InvariantBroken
from paritree.core.fast.warming import SKETCHING
from paritree.core.leaves import U64
from paritree.core.sketch import PROBE_CELLS, Probe, Sketch, empty_probe, seeds


def add_rows(sketch: Sketch, k: U64, r: U64) -> None:
    """Add rows to a sketch in place; k and r of shape (n,). Raises InvariantBroken, ConfigError without kernels."""
    k, r = _checked(k, r)
    words = np.array(seeds(sketch.salt), np.uint64)
    SKETCHING.sketch_rows(k.ctypes.data, r.ctypes.data, len(k), words, sketch.sums)


def probe_of(k: U64, r: U64, cells: int = PROBE_CELLS, salt: int = 0) -> Probe:
    """The probe of rows; k and r of shape (n,). Raises InvariantBroken, ConfigError without kernels."""
    k, r = _checked(k, r)
    probe = empty_probe(cells, salt)
    words = np.array(seeds(salt), np.uint64)
    SKETCHING.probe_rows(k.ctypes.data, r.ctypes.data, len(k), words, probe.sketch.sums, probe.pulls)
    return probe


def _checked(k: U64, r: U64) -> tuple[U64, U64]:
    if k.ndim != 1 or k.shape != r.shape or k.dtype != np.uint64 or r.dtype != np.uint64:
        raise InvariantBroken(f"k {k.dtype}{k.shape} and r {r.dtype}{r.shape} are not words of the same rows")
    return np.ascontiguousarray(k), np.ascontiguousarray(r)
