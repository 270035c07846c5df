"""Buckets under ids that only agents of the dataset can make and read.

An id is the bucket's bytes under AES-SIV (RFC 5297: deterministic and authenticated), with keys derived from the
dataset key: the coordinator can tell equal ids from others and see their length in steps of 16 bytes, no more. An id
that was not made for this scope, declared alike, opens nowhere. So a region needs no list of buckets to know which one
is meant, also where it has no row of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from edge_agent.build import Copy
from paritree.core.digest import DatasetKeys
from paritree.core.errors import ConfigError
from paritree.core.messages import Begin, Header, Refusal, RefusalCode
from paritree.core.profile import Profile
from paritree.core.scope import Bucket, Cut, Scope

SCOPE_ID_BYTES: Final = 8
CONTENT_BYTES_MAX: Final = 512
"""Longest bucket bytes that get an id: names of tenants, not texts."""
_STEP: Final = 16


class NoBucket(ConfigError):
    """An id that stands for no bucket here."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """One scope of a dataset with the keys that hide its buckets."""

    cut: Cut
    scope_id: bytes
    _cipher: AESSIV

    @classmethod
    def of(cls, scope: Scope, profile: Profile, keys: DatasetKeys) -> Hidden:
        """A scope of the dataset that has the keys."""
        name = scope.name.encode()
        definition = scope.definition(profile)
        scope_id = blake2b(definition, key=keys.derive(b"scope-id"), digest_size=SCOPE_ID_BYTES).digest()
        cipher = AESSIV(keys.derive(b"scope:" + name) + keys.derive(b"scope-mac:" + name))
        return cls(Cut.of(scope, profile, keys.derive(b"scope-hash:" + name)), scope_id, cipher)

    def bucket_id(self, content: bytes) -> bytes:
        """The id of the bucket of those bytes. Raises NoBucket for one that is too long to have an id."""
        if len(content) > CONTENT_BYTES_MAX:
            raise NoBucket(
                f"scope {self.cut.scope.name} has ids for up to {CONTENT_BYTES_MAX} bytes, not for {len(content)}",
                next_step="declare a scope with kind = 'hash' over the column",
            )
        padding = b"\0" * (-(len(content) + 2) % _STEP)
        return self._cipher.encrypt(len(content).to_bytes(2, "big") + content + padding, [self.scope_id])

    def opened(self, bucket_id: bytes) -> Bucket:
        """The bucket of an id. Raises NoBucket for what :meth:`bucket_id` has not made."""
        try:
            plain = self._cipher.decrypt(bucket_id, [self.scope_id])
        except (InvalidTag, ValueError):
            raise NoBucket(
                f"no bucket of scope {self.cut.scope.name} has that id here: it was made for another dataset, key or "
                "scope, or in a region that declares this scope otherwise",
                next_step="'paritree agent buckets' in a region says the ids; declare the scope alike in all regions",
            ) from None
        return Bucket(self.cut, plain[2 : 2 + int.from_bytes(plain[:2], "big")])


def narrowed(copy: Copy, header: Header, scopes: Mapping[str, Scope], begin: Begin) -> tuple[Copy, Header] | Refusal:
    """The copy and header of a sweep: of one bucket, where that is asked for."""
    if not begin.scope:
        return copy, header
    if begin.scope not in scopes:
        known = f"; it has {', '.join(scopes)}" if scopes else ""
        return Refusal(
            RefusalCode.UNKNOWN_SCOPE, f"this agent declares no scope '{begin.scope}' of {begin.dataset}{known}"
        )
    hidden = Hidden.of(scopes[begin.scope], copy.profile, copy.keys)
    try:
        bucket = hidden.opened(begin.bucket)
    except NoBucket as error:
        return Refusal(RefusalCode.UNKNOWN_BUCKET, str(error))
    binding = replace(copy.binding, bucket=bucket)
    part = replace(header, scope=begin.scope, scope_id=hidden.scope_id, bucket=begin.bucket)
    return replace(copy, binding=binding), part
