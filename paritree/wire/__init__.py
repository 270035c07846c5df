"""Between a domain message and the network: links, the codec, the generated protobuf modules."""

import os

# gRPC reads this when it is first imported; its own lines on stderr repeat, worse, what our errors say.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
