"""The order of a run: by key digest, then row digest, as bytes. The plain form of what a faster sort must equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from paritree.core.leaves import U8


def run_order(key_digests: U8, row_digests: U8) -> NDArray[np.int64]:
    """The permutation that sorts rows by key digest and then row digest; both of shape (n, 16), uint8."""
    both = np.concatenate([key_digests, row_digests], axis=1)
    words = np.ascontiguousarray(both).view(">u8")
    return np.lexsort([words[:, column] for column in range(3, -1, -1)]).astype(np.int64)
