"""Keys and digests from the definitions of CANONICAL: BLAKE2b itself stands in hashlib."""

from __future__ import annotations

import base64
import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.digest import DatasetKeys, column_digest, derive, token
from paritree.core.errors import ConfigError

MASTER = bytes(range(32))
KEYS = DatasetKeys.of(MASTER, "orders")


def blake2b(data: bytes, key: bytes, size: int, person: bytes = b"") -> bytes:
    return hashlib.blake2b(data, key=key, digest_size=size, person=person).digest()


@given(st.binary(min_size=32, max_size=32), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_every_key_is_derived_as_the_design_says(master: bytes, dataset: str) -> None:
    keys = DatasetKeys.of(master, dataset)
    dataset_key = blake2b(dataset.encode(), master, 32, b"paritree-dataset")
    assert keys.dataset_key == dataset_key
    assert keys.key_id == blake2b(b"key-id", dataset_key, 8)
    for_key = blake2b(b"key", dataset_key, 32, b"paritree-derive1")
    assert keys.key_digest(b"\x91\x01") == blake2b(b"\x91\x01", for_key, 16)
    for_row = blake2b(b"row", dataset_key, 32, b"paritree-derive1")
    assert keys.row_digest(b"\x91\x01") == blake2b(b"\x91\x01", for_row, 16)
    for_column = blake2b("column:größe".encode(), dataset_key, 32, b"paritree-derive1")
    assert keys.column("größe") == for_column
    assert column_digest(for_column, b"\x91\x01", b"\x02") == blake2b(b"\x91\x01\x02", for_column, 8)


def test_purposes_datasets_and_columns_have_keys_of_their_own() -> None:
    other = DatasetKeys.of(MASTER, "orders2")
    derived = [KEYS.for_key, KEYS.for_row, KEYS.column("key"), KEYS.column("row"), KEYS.derive(b"seal"), other.for_key]
    assert len(set(derived)) == len(derived)
    assert KEYS.key_digest(b"x") != KEYS.row_digest(b"x")
    assert KEYS.derive(b"seal") == derive(KEYS.dataset_key, b"seal")


def test_equal_values_in_two_rows_do_not_show_as_equal() -> None:
    key = KEYS.column("a")
    assert column_digest(key, b"\x91\x01", b"\x05") != column_digest(key, b"\x91\x02", b"\x05")


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_another_length_of_master_key_is_refused_without_showing_it(length: int) -> None:
    with pytest.raises(ConfigError, match="32 bytes") as caught:
        DatasetKeys.of(b"S" * length, "orders")
    assert "SSS" not in str(caught.value)


def test_keys_show_in_no_repr() -> None:
    for secret in (KEYS.dataset_key, KEYS.for_key, KEYS.for_row):
        assert secret.hex() not in repr(KEYS)
        assert repr(secret) not in repr(KEYS)
    assert KEYS.key_id.hex() in repr(KEYS)


def test_keys_travel_to_other_processes() -> None:
    assert pickle.loads(pickle.dumps(KEYS)) == KEYS


@given(st.binary(min_size=16, max_size=16))
def test_a_token_is_base32_of_ten_bytes(key_digest: bytes) -> None:
    assert base64.b32decode(token(key_digest)) == key_digest[:10]
    assert len(token(key_digest)) == 16
