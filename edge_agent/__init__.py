"""The edge agent: one per region, reads its local tables and answers with keyed digests."""
