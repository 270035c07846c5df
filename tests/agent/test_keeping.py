"""Files of a range's keys: complete, the owner's alone, sealed where the spool is, not to be read without its key."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import pytest

from edge_agent.build import Copy
from edge_agent.connectors.contract import Source
from edge_agent.index.index import Index
from edge_agent.index.rest import RestKey
from edge_agent.index.run import Run, RunRows, write_run
from edge_agent.keeping import keep_parts, kept_keys
from paritree.core.digest import DatasetKeys, token
from paritree.core.errors import ConfigError, SourceError
from paritree.core.leaves import key_words, leaf_sums, row_words
from paritree.core.messages import AskKeep, Header, Kept
from paritree.core.order import run_order
from paritree.core.profile import Binding, Profile
from paritree.core.sketch import empty_probe
from paritree.core.types import parse_type

PROFILE = Profile("orders", ("id",), {"id": parse_type("int")})
COPY = Copy(
    Source("memory://x"), PROFILE, Binding("orders", "orders", ("id",), ()), DatasetKeys.of(bytes(32), "orders")
)
HEADER = Header("orders", PROFILE.profile_id, 1, b"k" * 8, "s-1")
KEY = RestKey(b"r" * 32)


@pytest.fixture
def held(tmp_path: Path) -> tuple[Index, dict[str, int]]:
    """An index of forty rows, and their ids by token."""
    digests = {number: COPY.keys.key_digest(msgpack.packb([number])) for number in range(40)}
    keys = np.frombuffer(b"".join(digests.values()), np.uint8).reshape(-1, 16)
    order = run_order(keys, keys)
    locators = pa.array([msgpack.packb([int(i)]) for i in order], pa.large_binary())
    write_run(tmp_path / "1.run", RunRows(keys[order], keys[order], locators))
    sums = leaf_sums(key_words(keys[order]), *row_words(keys[order]), 12)
    return Index([Run(tmp_path / "1.run")], sums, empty_probe(), "plain"), {token(d): n for n, d in digests.items()}


def kept(index: Index, folder: Path, copy: Copy = COPY, *, bits: int = 0, prefix: int = 0) -> Kept:
    (answer,) = keep_parts(HEADER, index, copy, folder, AskKeep(bits, prefix))
    assert isinstance(answer, Kept)
    return answer


@pytest.mark.parametrize("copy", [COPY, replace(COPY, rest_key=KEY)], ids=["plain", "sealed"])
def test_what_was_kept_is_read_again(held: Any, tmp_path: Path, copy: Copy) -> None:
    index, ids = held
    answer = kept(index, tmp_path / "kept", copy)
    assert (answer.name, answer.keys) == ("s-1-all-0.ndjson", 40)
    path = tmp_path / "kept" / answer.name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    found = list(kept_keys(path.parent, answer.name, copy))
    assert {line["token"]: line["key"]["id"] for line in found} == ids
    assert ('"key"' in path.read_text()) == (copy.rest_key is None)


def test_a_node_has_its_own_keys_only(held: Any, tmp_path: Path) -> None:
    index, _ = held
    folder = tmp_path / "kept"
    names = [kept(index, folder, bits=1, prefix=prefix).name for prefix in (0, 1)]
    assert names == ["s-1-0-1.ndjson", "s-1-8-1.ndjson"]
    lines = [[json.loads(line) for line in (folder / name).read_text().splitlines()] for name in names]
    assert sum(map(len, lines)) == 40
    assert min(map(len, lines)) > 5


@pytest.mark.parametrize(("key", "reason"), [(None, "no key is named"), (RestKey(b"x" * 32), "another key")])
def test_sealed_keys_need_their_key(held: Any, tmp_path: Path, key: RestKey | None, reason: str) -> None:
    answer = kept(held[0], tmp_path / "kept", replace(COPY, rest_key=KEY))
    with pytest.raises(ConfigError, match=reason):
        list(kept_keys(tmp_path / "kept", answer.name, replace(COPY, rest_key=key)))


@pytest.mark.parametrize("name", ["", "other.ndjson", "../1.run", "/etc/hostname", "."])
def test_no_other_file_is_read(held: Any, tmp_path: Path, name: str) -> None:
    kept(held[0], tmp_path / "kept")
    with pytest.raises(ConfigError, match="no file of keys") as caught:
        list(kept_keys(tmp_path / "kept", name, COPY))
    assert "s-1-all-0.ndjson" in caught.value.next_step


def test_a_folder_that_cannot_be_written_is_told_and_nothing_is_left(held: Any, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("in the way")
    with pytest.raises(SourceError, match="cannot be written"):
        kept(held[0], tmp_path / "kept")
    with pytest.raises(ConfigError, match="no files of keys"):
        list(keep_parts(HEADER, held[0], COPY, None, AskKeep(0, 0)))
