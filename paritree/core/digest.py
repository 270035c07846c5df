"""Keyed digests: what leaves a region instead of keys and values."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from hashlib import blake2b

from paritree.core.errors import ConfigError

MASTER_KEY_BYTES = 32
DIGEST_BYTES = 16
COLUMN_DIGEST_BYTES = 8
_DATASET_PERSON = b"paritree-dataset"
_DERIVE_PERSON = b"paritree-derive1"


@dataclass(frozen=True, slots=True, repr=False)
class DatasetKeys:
    """The keys of one dataset, all derived from the master key that the coordinator never has."""

    dataset_key: bytes
    key_id: bytes
    for_key: bytes
    for_row: bytes

    @classmethod
    def of(cls, master_key: bytes, dataset: str) -> DatasetKeys:
        """Derive the keys of a dataset. Raises ConfigError unless the master key has 32 bytes."""
        if len(master_key) != MASTER_KEY_BYTES:
            raise ConfigError(
                f"a master key has {MASTER_KEY_BYTES} bytes, not {len(master_key)}",
                next_step="make one with 'paritree pki dataset-key'",
            )
        key = blake2b(dataset.encode(), key=master_key, digest_size=32, person=_DATASET_PERSON).digest()
        return cls(
            dataset_key=key,
            key_id=blake2b(b"key-id", key=key, digest_size=8).digest(),
            for_key=derive(key, b"key"),
            for_row=derive(key, b"row"),
        )

    def derive(self, purpose: bytes) -> bytes:
        """A 32-byte key for another purpose."""
        return derive(self.dataset_key, purpose)

    def column(self, name: str) -> bytes:
        """The 32-byte key of a column's digests."""
        return derive(self.dataset_key, b"column:" + name.encode())

    def shifted(self, name: str) -> bytes:
        """The 32-byte key of the digests of a column's cells on the shifted grid (CANONICAL.md, "Tolerance")."""
        return derive(self.dataset_key, b"shifted:" + name.encode())

    def key_digest(self, key_bytes: bytes) -> bytes:
        return blake2b(key_bytes, key=self.for_key, digest_size=DIGEST_BYTES).digest()

    def row_digest(self, row_bytes: bytes) -> bytes:
        return blake2b(row_bytes, key=self.for_row, digest_size=DIGEST_BYTES).digest()

    def __repr__(self) -> str:
        return f"DatasetKeys(key_id={self.key_id.hex()})"


def derive(dataset_key: bytes, purpose: bytes) -> bytes:
    """BLAKE2b-256 of the purpose, keyed with the dataset key."""
    return blake2b(purpose, key=dataset_key, digest_size=32, person=_DERIVE_PERSON).digest()


def column_digest(column_key: bytes, key_bytes: bytes, value_bytes: bytes) -> bytes:
    """8 bytes, bound to the key: equal values in two rows do not show as equal."""
    return blake2b(key_bytes + value_bytes, key=column_key, digest_size=COLUMN_DIGEST_BYTES).digest()


def token(key_digest: bytes) -> str:
    """A key's name for people: base32 of the first 10 bytes of its key digest (16 characters, no padding)."""
    return base64.b32encode(key_digest[:10]).decode("ascii")
