"""The primitives with compiled loops: the same results and errors, about fifty times as fast.

They define nothing: a property test demands equality with ``PlainPrimitives``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.connectors.postgresql.primitives import COLUMN_BYTES_MAX, Fields, Primitives, TooLarge
from edge_agent.connectors.postgresql.tuples import Bytes, Places, malformed
from paritree.core.fast.warming import Kernels

KERNELS: Final = Kernels(
    "edge_agent.connectors.postgresql.kernels",
    *("locate", "words8", "words4", "blocks", "text_offsets", "text_bytes", "decimal_room", "decimals"),
)


class FastPrimitives:
    """See :class:`Primitives`. ``data`` must be writable memory: the kernels' argument types are pinned to that."""

    def locate(
        self, data: Bytes, start: int, stop: int, framed: bool, at: Places, size: Places
    ) -> tuple[int, int, int]:
        rows, position, why = KERNELS.locate(data, start, stop, framed, at, size)
        return int(rows), int(position), int(why)

    def words(self, fields: Fields, width: int) -> NDArray[np.unsignedinteger]:
        out = np.empty(len(fields), f"u{width}")
        if width == 8:
            right = KERNELS.words8(fields.data, fields.at, fields.size, out)
        elif width == 4:
            right = KERNELS.words4(fields.data, fields.at, fields.size, out)
        else:
            right = KERNELS.blocks(fields.data, fields.at, fields.size, out.view(np.uint8), width)
            out = out.byteswap()
        if not right:
            raise malformed(f"a value that should have {width} bytes")
        return out

    def blocks(self, fields: Fields) -> NDArray[np.uint8]:
        out = np.empty((len(fields), 16), np.uint8)
        if not KERNELS.blocks(fields.data, fields.at, fields.size, out.reshape(-1), 16):
            raise malformed("a value that should have 16 bytes")
        return out

    def texts(self, fields: Fields) -> tuple[Places, Bytes]:
        offsets = np.empty(len(fields) + 1, np.int32)
        total = KERNELS.text_offsets(fields.data, fields.at, fields.size, offsets)
        if total < 0:
            raise malformed("a value outside its message")
        out = np.empty(total, np.uint8)
        KERNELS.text_bytes(fields.data, fields.at, offsets, out)
        return offsets, out

    def decimals(self, fields: Fields) -> tuple[Places, Bytes]:
        room = KERNELS.decimal_room(fields.data, fields.at, fields.size)
        if room < 0:
            raise malformed("a numeric of another length than its digits")
        if room > COLUMN_BYTES_MAX and len(fields) > 1:
            raise TooLarge
        offsets = np.empty(len(fields) + 1, np.int32)
        out = np.empty(room, np.uint8)
        total = KERNELS.decimals(fields.data, fields.at, fields.size, offsets, out)
        if total < 0:
            raise malformed("a numeric with a sign, scale or digit out of range, or digits beyond its scale")
        return offsets, out[:total]


FAST: Final[Primitives] = FastPrimitives()
