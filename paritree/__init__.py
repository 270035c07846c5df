"""paritree: keyed Merkle parity for tables that live in several regions and engines."""

__version__ = "0.1.0"
