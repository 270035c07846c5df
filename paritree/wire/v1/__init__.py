"""Generated from proto/paritree/wire/v1 by ``python -m paritree.wire.regenerate``; do not edit."""
