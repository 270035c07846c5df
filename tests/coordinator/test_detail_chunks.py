"""Requests for looks are cut by size as well as by number: each fits into a message, together they are the request."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.exchanges import detail_chunks
from paritree.core import limits
from paritree.core.messages import AskDetail
from paritree.wire import codec


def ask(count: int, sealed_bytes: int) -> AskDetail:
    digests = tuple((number << 64).to_bytes(16, "big") for number in range(count))
    sealed = {digest: bytes(sealed_bytes) for digest in digests} if sealed_bytes else {}
    return AskDetail(np.arange(count, dtype=np.uint64), digests, sealed, columns=True)


@pytest.mark.parametrize(
    ("count", "sealed_bytes"), [(0, 0), (1, 40), (20_000, 0), (20_000, 100), (30, 200_000), (3, 500_000)]
)
def test_chunks_fit_and_are_the_request(count: int, sealed_bytes: int) -> None:
    whole = ask(count, sealed_bytes)
    chunks = detail_chunks(whole)
    assert all(codec.fits(chunk) for chunk in chunks)
    assert all(len(chunk.ks) <= limits.KEYS_A_DETAIL_MAX for chunk in chunks)
    assert all(chunk.columns for chunk in chunks)
    assert [int(k) for chunk in chunks for k in chunk.ks] == list(range(count))
    assert tuple(digest for chunk in chunks for digest in chunk.key_digests) == whole.key_digests
    sealed: dict[bytes, bytes] = {}
    for chunk in chunks:
        assert set(chunk.sealed) <= set(chunk.key_digests)
        sealed |= chunk.sealed
    assert sealed == whole.sealed


def test_a_sealed_key_that_fits_into_no_message_is_searched_for() -> None:
    (chunk,) = detail_chunks(ask(2, limits.MESSAGE_BYTES_MAX))
    assert codec.fits(chunk)
    assert len(chunk.key_digests) == 2
    assert chunk.sealed == {}
