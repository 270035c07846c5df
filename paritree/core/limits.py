"""Bounds that both sides keep to, each with its reason; others stand beside what they bound.

One that is hit means more rounds or `unknown`, never "equal".
"""

from __future__ import annotations

from typing import Final

MESSAGE_BYTES_MAX: Final = 1 << 20
"""One message on the stream; gRPC receives at most 4 MiB by default, 1 MiB keeps other exchanges moving."""

PART_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 16_384
"""Payload of one part, leaving room for its header and framing."""

BULK_BYTES_MAX: Final = 1 << 18
"""Payload of a part that can be cut anywhere, and what may be on its way unread: 256 KiB pass in 20 s, the longest
that a ping may take (PINGS_S), over a line of 13 KB/s. Signs of life wait behind them."""

LEVEL_BITS_MAX: Final = 12
"""Depth of the first level of a descent by sums: 4096 nodes, 32 KiB: in simulations the best tree at three rounds."""

LEAF_ROWS: Final = 16
"""Rows a leaf has on average: L = 4 to 16 was measured best, 256 costs ten times the bytes."""

LEAF_BITS_MAX: Final = 40
"""Deepest leaf level: 2^40 leaves of 16 rows are 1.7e13 rows."""

NODES_A_REQUEST_MAX: Final = 65_536
"""Nodes named in one request: 512 KiB of prefixes."""

KEYS_A_DETAIL_MAX: Final = 16_384
"""Keys of one detail exchange: an answer stays below a few MiB even with 40 column digests of each."""

ENTRIES_MAX: Final = 1 << 16
"""Entries of one remembered answer: what KEYS_A_DETAIL_MAX names may have grown to, with room."""

COLUMNS_MAX: Final = 1 << 16
"""Columns of a dataset, those of shifted grids included: bounds the bitmaps that pick some of them."""

SKETCH_CELLS_MAX: Final = 1 << 20
"""Cells a table of one sketch: 96 MiB at either side, two million differences; beyond that nodes are listed."""

SUSPECTS_MAX: Final = 1 << 18
"""Differing keys of a sweep that are looked at one by one, which takes 1 KB each; beyond, a range is reported."""

SAMPLE_KEYS: Final = 1_024
"""Differing keys of a range that are looked at: a share of them is known to 3 %."""

SAMPLE_ROWS_MAX: Final = 1 << 18
"""Rows that are listed for a sample: 6 MiB, of which as many differ as do in the whole range."""

LISTED_ROWS_MAX: Final = 1 << 24
"""Rows that a region lists in one sweep: 400 MB at the coordinator. More are a range that is sampled."""

DETAIL_PARTS_MAX: Final = 256
"""Messages that answer one detail exchange: 64 MiB, of which 16,384 keys with the digests of 40 columns take 6 MiB."""

LOOKS_MAX: Final = 5
"""Looks at a suspect before it is called unsettled: two confirm, three more give a moving row time to rest."""

REGIONS_MIN: Final = 2
REGIONS_MAX: Final = 64
"""Regions of one sweep. Every region answers once a round, so this bounds the answers that a round keeps in memory."""

SHARD_ROWS: Final = 250_000
"""Rows of one shard's task: at least 250 ms of work, and about 20 MB of digests and keys in memory."""

SNAPSHOT_S_MAX: Final = 3_600.0
"""Longest time that a scan holds one snapshot unless told otherwise: what VACUUM cannot clear up meanwhile."""

REASON_CHARS_MAX: Final = 300
"""Reasons and messages are cut at this length on the wire; they never contain values."""

REASONS_LISTED: Final = 50
"""Distinct dead-letter reasons that a region lists; further ones count under "other"."""

EXCHANGE_TIMEOUT_S: Final = 60.0
"""Silence after which an exchange is given up; every part and every progress message starts it anew."""

HELLO_DATASETS_MAX: Final = 10_000
"""Datasets one agent may announce: bounds what a hostile agent can make the coordinator keep."""

NAME_CHARS_MAX: Final = 255
"""Names on the wire (regions, agents, datasets, engines, sweep ids): the longest that SPIFFE paths and engines use."""

POSITION_CHARS_MAX: Final = 4_096
"""A region's position, which may name several files or shards; also the bound of one note."""

NOTES_MAX: Final = 256
"""Notes of one region in its Ready."""

DESCENDANTS_A_REQUEST_MAX: Final = 1 << 27
"""Sums that one AskChildren may ask for: 1 GiB, the leaves of 2e9 rows; more is a mistake or an attack."""

TIMEOUT_S_MAX: Final = 86_400.0
"""Longest silence that a request may allow."""

EXCHANGES_OPEN_MAX: Final = 32
"""Exchanges that an agent works on at once; the next one is refused as busy. Each keeps a few parts in memory."""

PARTS_AHEAD_MAX: Final = 4
"""Full messages that an agent's handler may be ahead of its stream: 4 MiB an exchange."""

PARTS_WAITING_MAX: Final = 16
"""Parts that wait at the coordinator for a slow reader: 16 MiB an exchange, then the stream waits too."""

REPLAY_BYTES_MAX: Final = 16 << 20
"""Answers that an agent keeps for a repeated request. One that does not fit cannot be repeated, only asked anew."""

ANSWERS_KEPT_MAX: Final = 256
"""Answers that an agent keeps for a repeated request, however small."""

EXCHANGES_RESUMED_MAX: Final = 256
"""Cut exchanges a region that the coordinator remembers, to continue them under their number."""

HELLO_TIMEOUT_S: Final = 10.0
"""From the connection to the Hello, and from there to the Welcome."""

KEEPALIVE_S: Final = 10.0
"""A ping after this silence."""

PINGS_S: Final = 2.0
"""Times KEEPALIVE_S that a ping's answer may take: a half-open connection is found within 30 s, before a sweep's
patience (45 s) is at its end."""

DIAL_TIMEOUT_S: Final = 10.0
"""TCP and TLS handshake with the coordinator."""

RECONNECT_S_MIN: Final = 0.5
RECONNECT_S_MAX: Final = 30.0
"""Reconnecting waits a random time (full jitter) below a bound that doubles from the first to the second of these."""

SWEEPS_COUNTED_MAX: Final = 1_024
"""Sweeps whose bytes a ledger keeps apart; the oldest then counts in the total only."""

BUCKET_BYTES_MAX: Final = 1_024
"""A bucket's id, which holds what names the bucket: values of up to half of that."""

MERGED_MAX: Final = 64
"""Rules named for one key that is several in its source."""

LETTERS_MAX: Final = 10_000
"""Dead letters that a region keeps of one dataset, and lists; further ones are counted only."""

LETTERS_BYTES_MAX: Final = 64 << 20
"""Sealed payloads of one dataset's dead letters on the agent's disk."""

LETTER_BYTES_MAX: Final = 64 << 10
"""Payload of one dead letter; of larger rows and messages the beginning is kept."""

LETTER_COLUMNS_MAX: Final = 1_000
"""Columns that one dead letter names."""

TIME_US_MAX: Final = 253_402_300_799_999_999
"""Latest time on the wire: the end of the year 9999 in microseconds since 1970."""
