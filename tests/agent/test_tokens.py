"""The token book finds every key again, also after a disk was full in the middle of a line."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from edge_agent.index.rest import RestKey
from edge_agent.tokens import TokenBook
from paritree.core.digest import token
from paritree.core.errors import ConfigError, SourceError


def digest(n: int) -> bytes:
    return bytes([n]) * 16


def test_a_line_that_a_full_disk_cut_off_takes_no_other_key_with_it(tmp_path: Path) -> None:
    book = TokenBook(tmp_path / "orders" / "tokens")
    book.add({digest(1): b"one"})
    size = (tmp_path / "orders" / "tokens").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 35, hard))
    try:
        with pytest.raises(SourceError, match="token book cannot be written"):
            book.add({digest(2): b"two"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "orders" / "tokens").stat().st_size == size + 35
    assert book.find([token(digest(2))]) == {}
    book.add({digest(3): b"three"})
    assert book.find([token(digest(2))]) == {}
    book.add({digest(2): b"two"})
    found = book.find([token(digest(n)) for n in (1, 2, 3)])
    assert set(found.values()) == {b"one", b"two", b"three"}


def test_locators_are_encrypted_where_there_is_a_key(tmp_path: Path) -> None:
    path, locator = tmp_path / "orders" / "tokens", b"\x91\xa5alice"
    TokenBook(path).add({b"p" * 16: b"plain"})
    TokenBook(path, RestKey(b"k" * 32)).add({b"d" * 16: locator})
    assert locator.hex() not in path.read_text()
    tokens = [token(b"d" * 16), token(b"p" * 16)]
    assert sorted(TokenBook(path, RestKey(b"k" * 32)).find(tokens).values()) == [b"plain", locator]
    for key in (None, RestKey(b"x" * 32)):
        with pytest.raises(ConfigError, match="key"):
            TokenBook(path, key).find(tokens)
