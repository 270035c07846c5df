"""Keys sealed from agent to agent, and what a region seals for itself: ChaCha20-Poly1305 under keys of agents alone."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from paritree.core.digest import DatasetKeys
from paritree.core.errors import PeerError

_NONCE_BYTES = 12
_PURPOSE = b"seal-key"


def seal(keys: DatasetKeys, key_digest: bytes, locator: bytes, *, purpose: bytes = _PURPOSE) -> bytes:
    """Nonce and ciphertext of a locator, bound to its key digest; another ``purpose`` has another key."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + ChaCha20Poly1305(keys.derive(purpose)).encrypt(nonce, locator, key_digest)


def unseal(keys: DatasetKeys, key_digest: bytes, sealed: bytes, *, purpose: bytes = _PURPOSE) -> bytes:
    """The locator. Raises PeerError where it was not sealed by an agent with the same dataset key for this key."""
    try:
        cipher = ChaCha20Poly1305(keys.derive(purpose))
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], key_digest)
    except (InvalidTag, ValueError):
        raise PeerError("a sealed key cannot be opened: it was not made for this dataset's key") from None
