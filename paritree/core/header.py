"""What every answer about rows begins with: what it is about, so that only like is compared with like."""

from __future__ import annotations

from dataclasses import dataclass

Comparable = tuple[str, bytes, int, bytes, str, bytes, bytes]
"""Dataset, profile id, canonical version, key id, scope, scope id, bucket."""


@dataclass(frozen=True, slots=True)
class Header:
    """What two answers must share to be compared; ``position`` is each region's own.

    Where one bucket is swept, ``scope`` is the name of what cuts the dataset, ``scope_id`` (8 bytes) what that name
    stands for, and ``bucket`` an id that only agents can read; else they are empty.
    """

    dataset: str
    profile_id: bytes
    canonical_version: int
    key_id: bytes
    sweep_id: str
    position: str = ""
    scope: str = ""
    scope_id: bytes = b""
    bucket: bytes = b""

    @property
    def comparable(self) -> Comparable:
        """The part that has to be equal in two regions."""
        whole = self.dataset, self.profile_id, self.canonical_version, self.key_id
        return *whole, self.scope, self.scope_id, self.bucket
