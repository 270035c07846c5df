"""What the coordinator gets: no raw key, no raw value, and nothing that a dictionary of unkeyed hashes finds.

The capture is every message of every agent as it came out of TLS in the coordinator's process, and its database.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.fleet import Fleet
from servers.flights import COLUMNS, DATASET_COLUMNS, KEY, Row, flights, load_sqlite

from paritree.core.canonical import RowEncoder, encode
from paritree.core.digest import DatasetKeys
from paritree.core.profile import Profile
from paritree.core.types import parse_type

ROWS = 20_000
WINDOW = 8
"""Bytes that a hash must share with the capture to count as found; chance finds one in 2^64."""


def profile() -> Profile:
    types = {name: "int" if '"int"' in said else "text" for name, said in DATASET_COLUMNS.items()}
    kinds = {name: parse_type(kind) for name, kind in types.items()}
    kinds["time_hour"] = parse_type({"type": "timestamp", "precision": "ms"})
    return Profile("flights", KEY, kinds)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return flights(ROWS)


@pytest.fixture(scope="module")
def capture(rows: list[Row], pki_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("residency")
    changed = [*rows[50:], *[("ZZ", 90_000 + i, *r[2:]) for i, r in enumerate(rows[:50])]]
    at = COLUMNS.index("tailnum")
    changed[100:200] = [(*r[:at], "SECRET7", *r[at + 1 :]) for r in changed[100:200]]
    load_sqlite(folder / "eu.db", rows)
    load_sqlite(folder / "us.db", changed)
    with Fleet(folder, pki_dir) as fleet:
        columns = "\n".join(f"{n} = {t}" for n, t in DATASET_COLUMNS.items())
        regions = "\n".join(
            f'[dataset.flights.regions.{r}]\nconnection = "main"\ntable = "flights"' for r in ("eu", "us")
        )
        key = ", ".join(f'"{n}"' for n in KEY)
        fleet.datasets(
            f"[dataset.flights]\nkey = [{key}]\nlag_max_s = 0\n[dataset.flights.columns]\n{columns}\n{regions}"
        )
        fleet.start_coordinator(record=folder / "capture")
        for region in ("eu", "us"):
            extra = "policy = { sealed_keys = true }" if region == "eu" else ""
            fleet.start_agent(region, f"sqlite:///{folder}/{region}.db", extra=extra)
        fleet.wait_connected(("eu", "us"))
        report, _ = fleet.sweep("flights", "--purpose", "please show me everything")
        assert report["findings_total"] == 200
        fleet.stop("coordinator")
        database = b"".join(path.read_bytes() for path in sorted(folder.glob("coordinator.db*")))
        log = fleet.log("coordinator").encode()
    messages = (folder / "capture").read_bytes()
    assert len(messages) > 20_000
    assert b"flights" in database
    return messages + database + log


def windows(data: bytes) -> set[bytes]:
    return {data[i : i + WINDOW] for i in range(len(data) - WINDOW + 1)}


def test_no_raw_key_or_value_reaches_the_coordinator(capture, rows):
    encoder = RowEncoder(profile())
    present = windows(capture)
    for row in rows:
        values = dict(zip(COLUMNS, row, strict=True))
        values["time_hour"] = int(values["time_hour"].timestamp()) * 1_000_000
        packed = {name: encoder.value_bytes(name, value) for name, value in values.items()}
        assert not windows(encoder.key_bytes(packed)) & present
        assert not windows(encoder.row_bytes(packed)) & present
    for text in {value for row in rows for value in row if isinstance(value, str) and len(value) >= 5} | {"SECRET7"}:
        assert text.encode() not in capture


def hashes(data: bytes) -> Iterator[bytes]:
    """What a curious coordinator would try for each value that it can think of."""
    yield hashlib.blake2b(data, digest_size=16).digest()
    yield hashlib.blake2b(data, digest_size=8).digest()
    yield hashlib.blake2b(data).digest()
    yield hashlib.blake2s(data).digest()
    yield hashlib.md5(data).digest()
    yield hashlib.sha1(data).digest()
    yield hashlib.sha256(data).digest()
    yield hashlib.sha3_256(data).digest()
    yield hashlib.blake2b(data, digest_size=16, key=b"flights").digest()
    yield hashlib.blake2b(data, digest_size=16, person=b"paritree-dataset").digest()


def dictionary(rows: list[Row]) -> set[bytes]:
    """Every value, key and row in plain and in canonical form."""
    encoder = RowEncoder(profile())
    found: set[bytes] = set()
    for row in rows:
        values = dict(zip(COLUMNS, row, strict=True))
        values["time_hour"] = int(values["time_hour"].timestamp()) * 1_000_000
        packed = {name: encoder.value_bytes(name, value) for name, value in values.items()}
        found |= {encoder.key_bytes(packed), encoder.row_bytes(packed), *packed.values()}
        found |= {str(value).encode() for value in values.values()}
    return found


def attack(capture: bytes, words: set[bytes]) -> int:
    present = windows(capture)
    found = 0
    for word in words:
        for digest in hashes(word):
            halves = (digest[:8], digest[8:16], digest[:8][::-1], digest[8:16][::-1])
            found += any(half in present for half in halves)
    return found


def test_a_dictionary_attack_with_unkeyed_hashes_finds_nothing(capture, rows):
    assert attack(capture, dictionary(rows)) == 0


def test_the_attack_would_find_unkeyed_digests(capture, rows):
    """The control: digests without a key, or the real ones to somebody who has the key, are found at once."""
    word = encode("SECRET7", parse_type("text"))
    unkeyed = struct.pack("<16s", hashlib.blake2b(word, digest_size=16).digest())
    assert attack(capture + unkeyed, {word}) == 1
    encoder, keys = RowEncoder(profile()), DatasetKeys.of(bytes(range(32)), "flights")
    missing = dict(zip(COLUMNS, rows[0], strict=True))
    missing["time_hour"] = int(missing["time_hour"].timestamp()) * 1_000_000
    packed = {name: encoder.value_bytes(name, value) for name, value in missing.items()}
    assert keys.key_digest(encoder.key_bytes(packed)) in capture
