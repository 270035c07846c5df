"""Text, bytes, uuid and inet."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Sequence

from paritree.core.canonical.pack import ext, pack
from paritree.core.errors import DeadLetter

EXT_UUID, EXT_INET = 6, 8
_PREFIX = re.compile(r"[0-9]{1,3}")


def encode_text(value: object, rules: Sequence[str] = ()) -> bytes:
    """Canonical bytes of text after its rules, in the order nfc, rtrim, casefold. Raises DeadLetter."""
    if not isinstance(value, str):
        raise DeadLetter(f"a {type(value).__name__} where text belongs")
    if "nfc" in rules:
        value = unicodedata.normalize("NFC", value)
    if "rtrim" in rules:
        value = value.rstrip(" ")
    if "casefold" in rules:
        value = value.casefold()
    if "\0" in value:
        raise DeadLetter("text with NUL")
    return pack(value)


def encode_bytes(value: object) -> bytes:
    """Canonical bytes of a byte string. Raises DeadLetter."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise DeadLetter(f"a {type(value).__name__} where bytes belong")
    return pack(bytes(value))


def encode_uuid(value: object) -> bytes:
    """Canonical bytes of the 16 bytes of a uuid. Raises DeadLetter."""
    if not isinstance(value, bytes) or len(value) != 16:
        raise DeadLetter("a uuid is 16 bytes")
    return ext(EXT_UUID, value)


def encode_inet(value: object) -> bytes:
    """Canonical bytes of an address with optional prefix, by RFC 5952; host bits are kept. Raises DeadLetter."""
    if not isinstance(value, str):
        raise DeadLetter(f"a {type(value).__name__} where an inet belongs")
    return ext(EXT_INET, inet_text(value).encode("ascii"))


def inet_text(value: str) -> str:
    """The one text of an address. ``str(ipaddress)`` differs between Python versions, so it is not used for IPv6."""
    address_text, slash, prefix_text = value.partition("/")
    try:
        address = ipaddress.ip_address(address_text)
    except ValueError:
        raise DeadLetter("not an address") from None
    bits = address.max_prefixlen
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise DeadLetter("an address with a zone")
        text = _ipv6_text(int(address))
    else:
        text = str(address)
    if not slash:
        return text
    if _PREFIX.fullmatch(prefix_text) is None or (prefix := int(prefix_text)) > bits:
        raise DeadLetter("not an address prefix")
    return text if prefix == bits else f"{text}/{prefix}"


def _ipv6_text(number: int) -> str:
    if number >> 32 == 0xFFFF:  # ::ffff:0:0/96 is the one block written in mixed form
        return f"::ffff:{ipaddress.IPv4Address(number & 0xFFFFFFFF)}"
    groups = [number >> (112 - 16 * i) & 0xFFFF for i in range(8)]
    start, length = _longest_zero_run(groups)
    if length < 2:
        return ":".join(f"{g:x}" for g in groups)
    head = ":".join(f"{g:x}" for g in groups[:start])
    tail = ":".join(f"{g:x}" for g in groups[start + length :])
    return f"{head}::{tail}"


def _longest_zero_run(groups: Sequence[int]) -> tuple[int, int]:
    best = (0, 0)
    start = 0
    for index, group in enumerate([*groups, 1]):
        if group:
            if index - start > best[1]:
                best = (start, index - start)
            start = index + 1
    return best
