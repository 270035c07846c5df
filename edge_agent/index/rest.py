"""Encryption at rest: files in fixed blocks of AES-256-GCM, so that any slice is read without the rest.

    header    24 bytes: magic, salt (16 bytes, new for each file)
    blocks    64 KiB of content each (the last may be shorter, or empty), and 16 bytes that authenticate it

A file has a key of its own, BLAKE2b-256 of the salt under the configured key. A block's nonce is its number and whether
it is the last, so blocks cannot change places and a file cannot lose its end; the header is authenticated with each.
"""

from __future__ import annotations

import mmap
import os
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final, Protocol

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from paritree.core.errors import ConfigError, SourceError
from paritree.core.leaves import U8

MAGIC: Final = b"PTREST\x00\x01"
SALT_BYTES: Final = 16
HEADER_BYTES: Final = len(MAGIC) + SALT_BYTES
BLOCK_BYTES: Final = 1 << 16
TAG_BYTES: Final = 16
BLOCKS_KEPT: Final = 16
"""Opened blocks that a file keeps: 1 MiB. Neighbouring look-ups share blocks, and a file has eight sections."""
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_PERSON: Final = b"paritree-at-rest"
_ALONE: Final = b"no file"
"""In place of a file's salt, which is longer."""


@dataclass(frozen=True, slots=True, repr=False)
class RestKey:
    """The key of all files of an index; shows itself nowhere."""

    secret: bytes

    @classmethod
    def of(cls, digits: str, where: str) -> RestKey:
        """From 64 hex digits. Raises ConfigError, which does not repeat them."""
        try:
            secret = bytes.fromhex(digits.strip())
        except ValueError:
            secret = b""
        if len(secret) != KEY_BYTES:
            raise ConfigError(
                f"{where}: a key for encryption at rest is {2 * KEY_BYTES} hex digits",
                next_step="make one with 'paritree pki dataset-key'",
            )
        return cls(secret)

    def cipher(self, salt: bytes) -> AESGCM:
        """The cipher of one file."""
        return AESGCM(blake2b(salt, key=self.secret, digest_size=KEY_BYTES, person=_PERSON).digest())

    def sealed(self, content: bytes, about: bytes) -> bytes:
        """A few bytes by themselves, bound to what they are about: nonce and ciphertext."""
        nonce_ = os.urandom(NONCE_BYTES)
        return nonce_ + self.cipher(_ALONE).encrypt(nonce_, content, about)

    def opened(self, sealed: bytes, about: bytes, where: str) -> bytes:
        """What :meth:`sealed` made. Raises ConfigError."""
        try:
            return self.cipher(_ALONE).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except (InvalidTag, ValueError):
            raise ConfigError(
                f"{where} was encrypted under another key", next_step="name the at_rest_key that it was made under"
            ) from None

    def __repr__(self) -> str:
        return "RestKey(…)"


class Blob(Protocol):
    """The content of a file, read by slices."""

    @property
    def size(self) -> int:
        """Bytes of content."""

    def read(self, low: int, high: int) -> U8:
        """The bytes [low, high); read only. Raises SourceError."""

    def release(self) -> None:
        """Give back the memory of what was read; it may be read again."""


class MappedBlob:
    """A plain file, memory-mapped: slices are views."""

    def __init__(self, path: Path) -> None:
        self._map: mmap.mmap | None = None
        self._data: U8 = np.zeros(0, np.uint8)
        if path.stat().st_size:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._data = np.frombuffer(self._map, np.uint8)

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, low: int, high: int) -> U8:
        return self._data[low:high]

    def release(self) -> None:
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)


class SealedBlob:
    """An encrypted file: a slice opens the blocks that it touches."""

    def __init__(self, path: Path, key: RestKey) -> None:
        self._name = path.name
        self._file: BinaryIO = path.open("rb")
        self._header = self._file.read(HEADER_BYTES)
        sealed = path.stat().st_size - HEADER_BYTES
        self._blocks = max(1, -(-sealed // (BLOCK_BYTES + TAG_BYTES)))
        self.size = sealed - self._blocks * TAG_BYTES
        if self._header[: len(MAGIC)] != MAGIC or self.size < 0:
            raise damaged(self._name)
        self._cipher = key.cipher(self._header[len(MAGIC) :])
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

    def read(self, low: int, high: int) -> U8:
        if high <= low:
            return np.zeros(0, np.uint8)
        first, last = low // BLOCK_BYTES, (high - 1) // BLOCK_BYTES
        content = b"".join([self._block(number) for number in range(first, last + 1)])
        return np.frombuffer(content, np.uint8)[low - first * BLOCK_BYTES : high - first * BLOCK_BYTES]

    def release(self) -> None:
        """The few blocks that are kept stay."""

    def _block(self, number: int) -> bytes:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
            at = HEADER_BYTES + number * (BLOCK_BYTES + TAG_BYTES)
            sealed = os.pread(self._file.fileno(), BLOCK_BYTES + TAG_BYTES, at)
            try:
                content = self._cipher.decrypt(nonce(number, number == self._blocks - 1), sealed, self._header)
            except (InvalidTag, ValueError):
                raise damaged(self._name) from None
            self._kept[number] = content
            while len(self._kept) > BLOCKS_KEPT:
                self._kept.popitem(last=False)
            return content

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def open_blob(path: Path, key: RestKey | None) -> Blob:
    """The content of a file. Raises OSError, SourceError, and ConfigError where it is encrypted and no key is given."""
    if key is not None:
        return SealedBlob(path, key)
    blob = MappedBlob(path)
    if blob.read(0, len(MAGIC)).tobytes() == MAGIC:
        raise ConfigError(
            f"{path} is encrypted, and no key is named",
            next_step='name its key (at_rest_key = "file:…") in the agent file, or rebuild the index without one',
        )
    return blob


def is_sealed(path: Path) -> bool:
    """Whether a file is encrypted. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def nonce(number: int, last: bool) -> bytes:
    """Of a block: its number and whether nothing comes after it."""
    return number.to_bytes(11, "big") + bytes([last])


def damaged(name: str) -> SourceError:
    """What is said of a file that does not open under the key."""
    return SourceError(f"{name} was damaged, or encrypted under another key", next_step="rebuild the index")


class Sealer:
    """Cuts a stream into sealed blocks, in order: header first, then each ``add``, at last ``end``."""

    def __init__(self, key: RestKey) -> None:
        self.header = MAGIC + os.urandom(SALT_BYTES)
        self._cipher = key.cipher(self.header[len(MAGIC) :])
        self._waiting = b""
        self._number = 0

    def add(self, content: bytes | memoryview) -> bytes:
        """Content to append; the blocks that are certain not to be the last."""
        whole = b"".join((self._waiting, content))
        blocks = max(0, len(whole) - 1) // BLOCK_BYTES
        sealed = [self._seal(whole[i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES], last=False) for i in range(blocks)]
        self._waiting = whole[blocks * BLOCK_BYTES :]
        return b"".join(sealed)

    def end(self) -> bytes:
        """The last block."""
        return self._seal(self._waiting, last=True)

    def _seal(self, content: bytes, *, last: bool) -> bytes:
        self._number += 1
        return self._cipher.encrypt(nonce(self._number - 1, last), content, self.header)
