"""paritree: keyed Merkle parity for tables that live in several regions and engines."""

import os

__version__ = "0.1.0"

# gRPC reads this when it is first imported, which is after this package in every process of ours. Its own lines on
# stderr would repeat, worse, what our errors and logs say.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
