"""Between a domain message and the network: links, the codec, the generated protobuf modules."""
