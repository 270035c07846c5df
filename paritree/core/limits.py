"""Every bound in one place, each with its reason. A limit that is hit means more rounds or `unknown`, never "equal"."""

from __future__ import annotations

from typing import Final

MESSAGE_BYTES_MAX: Final = 1 << 20
"""One message on the stream; gRPC receives at most 4 MiB by default, 1 MiB keeps other exchanges moving."""

PART_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 16_384
"""Payload of one part, leaving room for its header and framing."""

LEVEL_BITS_MAX: Final = 12
"""Depth of the level that comes with the root: 4096 nodes, 32 KiB (research: the best tree at three rounds)."""

LEAF_ROWS: Final = 16
"""Rows a leaf has on average: L = 4 to 16 was measured best, 256 costs ten times the bytes."""

LEAF_BITS_MAX: Final = 40
"""Deepest leaf level: 2^40 leaves of 16 rows are 1.7e13 rows."""

NODES_A_REQUEST_MAX: Final = 65_536
"""Nodes named in one request: 512 KiB of prefixes."""

KEYS_A_DETAIL_MAX: Final = 8_192
"""Keys of one detail exchange: with 16-byte digests and 40 column digests an answer stays below a few MiB."""

DUPLICATES_LISTED: Final = 1_000
"""Duplicate keys that a region names; the rest is only counted."""

LOOKS_MAX: Final = 5
"""Looks at a suspect before it is called unsettled: two confirm, three more give a moving row time to rest."""

REGIONS_MIN: Final = 2
REGIONS_MAX: Final = 64
"""Regions of one sweep. Every region answers once a round, so this bounds the answers that a round keeps in memory."""

SHARD_ROWS: Final = 250_000
"""Rows of one shard's task: at least 250 ms of work, and about 20 MB of digests and keys in memory."""

REASON_CHARS_MAX: Final = 300
"""Reasons and messages are cut at this length on the wire; they never contain values."""

REASONS_LISTED: Final = 50
"""Distinct dead-letter reasons that a region lists; further ones count under "other"."""

EXCHANGE_TIMEOUT_S: Final = 60.0
"""Silence after which an exchange is given up; every part and every progress message starts it anew."""

HELLO_DATASETS_MAX: Final = 10_000
"""Datasets one agent may announce: bounds what a hostile agent can make the coordinator keep."""
