"""The golden vectors of PROTOCOL.md are what the code gives."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import numpy as np

from paritree.core import sketch
from paritree.core.leaves import leaf_sums
from paritree.core.messages import Children, Header, Reply
from paritree.wire import codec


def vectors() -> Any:
    text = resources.files("paritree.wire").joinpath("PROTOCOL.md").read_text(encoding="utf-8")
    return json.loads(text.partition("```json\n")[2].partition("```")[0])


def words(rows: list[list[str]]) -> list[np.ndarray]:
    return [np.array([int(row[part], 16) for row in rows], np.uint64) for part in range(3)]


def hexed(values: Any) -> Any:
    return [hexed(v) for v in values] if isinstance(values, list) else f"{values:016x}"


def test_node_sums():
    golden = vectors()
    for bits, nodes in golden["sums"].items():
        sums = leaf_sums(*words(golden["rows"]), int(bits))
        given = zip(sums.counts.tolist(), hexed(sums.r.tolist()), hexed(sums.r2.tolist()), strict=True)
        assert [list(node) for node in given] == nodes


def test_sketch_cells_and_pulls():
    golden = vectors()
    k, r, _ = words(golden["rows"])
    for salt, seeds in golden["seeds"].items():
        assert hexed(list(sketch.seeds(int(salt)))) == seeds
    asked = golden["sketch"]
    assert hexed(sketch.sketch_of(k, r, asked["cells"], asked["salt"]).sums.tolist()) == asked["tables"]
    pulled = golden["pulls"]
    assert sketch.probe_of(k, r, pulled["cells"], pulled["salt"]).pulls.tolist() == pulled["tables"]


def test_the_header():
    golden = vectors()
    fields = dict(golden["header"])
    for name in ("profile_id", "key_id"):
        fields[name] = bytes.fromhex(fields[name])
    header = Header(**fields)
    data = codec.encode_from_agent(Reply(0, header.sweep_id, 0, True, Children(header, np.zeros(0, np.uint64))))
    assert bytes.fromhex(golden["header_bytes"]) in data
