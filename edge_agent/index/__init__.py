"""The agent's index: sorted runs of digests on disk and the sums over them."""
