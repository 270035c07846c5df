"""What the digester costs: microseconds of processor time a row and stage, on the ten columns of the bench table.

    python tests/bench/digest.py [--rows 250000] [--plain]

Rows are made in memory as a connector hands them out; batches have 16,384 rows, a run 250,000. Every figure is the
median of repetitions of process time on one thread. ``--plain`` measures the plain digester beside it (slow).
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from tables import KINDS

from paritree.core.digest import DatasetKeys
from paritree.core.digester import PlainDigester
from paritree.core.fast import layout as at
from paritree.core.fast import warming
from paritree.core.fast.digester import CompiledDigester
from paritree.core.fast.sort import sort_run
from paritree.core.profile import Profile
from paritree.core.types import parse_type

BATCH_ROWS = 16_384
REPETITIONS = 3
KEYS = DatasetKeys.of(bytes(32), "orders")


def orders(rows: int) -> pa.RecordBatch:
    """Columns with the distributions of ``tables.py``."""
    chance = np.random.default_rng(1)

    def some(values: Any, null: float) -> pa.Array:
        return pa.array(values, mask=chance.random(rows) < null)

    words = np.array(["new", "paid", "packed", "shipped", "delivered", "returned"], object)
    cents = np.stack([chance.integers(0, 10**8, rows), np.zeros(rows, np.int64)], axis=1)
    letters = chance.bytes(rows * 20).hex()
    lengths = chance.integers(0, 40, rows).tolist()
    notes = ["note " + letters[40 * i : 40 * i + length] for i, length in enumerate(lengths)]
    created = 1_577_836_800_000_000 + np.arange(rows) * 37_000_000 + chance.integers(0, 10**6, rows)
    updated = 1_704_067_200_000_000 + chance.integers(0, 31_536_000, rows) * 1_000_000 + chance.integers(0, 10**6, rows)
    amounts = pa.Array.from_buffers(pa.decimal128(12, 2), rows, [None, pa.py_buffer(cents)])
    uuids = pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(chance.bytes(16 * rows))])
    arrays = {
        "id": pa.array(np.arange(1, rows + 1)),
        "customer": uuids,
        "status": pa.array(words[chance.integers(0, 6, rows)], pa.utf8()),
        "amount": amounts,
        "qty": pa.array(chance.integers(1, 51, rows).astype(np.int32)),
        "paid": pa.array(chance.random(rows) < 2 / 3),
        "weight": some(chance.integers(0, 10**6, rows) / 1024, 0.05),
        "note": some(np.array(notes, object), 0.1),
        "created_at": pa.array(created),
        "updated_at": some(updated, 0.2),
    }
    return pa.RecordBatch.from_pydict(arrays)


def cost(work: Callable[[], Any], rows: int) -> float:
    """Microseconds of process time a row; each repetition lasts long enough for the clock."""
    work()
    figures = []
    for _ in range(REPETITIONS):
        rounds, began = 0, time.process_time()
        while time.process_time() - began < 0.3:
            work()
            rounds += 1
        figures.append((time.process_time() - began) / rounds / rows * 1e6)
    return statistics.median(figures)


def stages(digester: CompiledDigester, batch: pa.RecordBatch) -> dict[str, float]:
    """The stages of one batch. The kernel is run without hashing to tell the two apart."""
    key, row = digester._strings
    rows = batch.num_rows

    def columns(strings: Any) -> list[Any]:
        state, flags = np.zeros(rows, np.uint8), np.zeros(len(KINDS), np.uint8)
        return [digester._column(batch, n, kind, encode, False, state, flags) for n, kind, encode in strings.columns]

    def run(strings: Any, described: Any) -> Callable[[], Any]:
        state, flags = np.zeros(rows, np.uint8), np.zeros(len(KINDS), np.uint8)
        return lambda: digester._run(strings, described, state, flags)

    key_columns, row_columns = columns(key), columns(row)
    encoded = cost(run(replace(row, options=0), row_columns), rows)
    figures = {"buffers to descriptions": cost(lambda: (columns(key), columns(row)), rows)}
    figures["key bytes, key digests, locators"] = cost(run(key, key_columns), rows)
    figures["row bytes"] = encoded
    figures["row digests"] = cost(run(row, row_columns), rows) - encoded
    figures["digest, all together"] = cost(lambda: digester.digest(batch), rows)
    for column, (name, kind, encode) in zip(row_columns, row.columns, strict=True):
        alone = replace(row, columns=((name, kind, encode),), options=0)
        figures[f"  {name} alone ({kind} in {batch.column(name).type})"] = cost(run(alone, [column]), rows)
    return figures


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=250_000)
    options.add_argument("--plain", action="store_true")
    chosen = options.parse_args()
    began = time.process_time()
    compiled = warming.warm(print)
    print(f"kernels {'compiled' if compiled else 'loaded from the cache'} in {time.process_time() - began:.2f} s")
    profile = Profile("orders", ("id",), {name: parse_type(kind) for name, kind in KINDS.items()})
    table = orders(chosen.rows)
    batch = table.slice(0, BATCH_ROWS)
    digester = CompiledDigester(profile, KEYS, secrets.token_bytes)
    figures = stages(digester, batch)
    run = digester.digest(table)
    figures["sort of a run, digests and locators"] = cost(
        lambda: sort_run(run.key_digests, run.row_digests, run.locators), len(run)
    )
    if chosen.plain:
        plain = PlainDigester(profile, KEYS, secrets.token_bytes)
        figures["plain digester"] = cost(lambda: plain.digest(batch), batch.num_rows)
    row = digester._strings[1]
    assert row.options == at.HASH
    for name, figure in figures.items():
        print(f"{figure:9.4f} us a row  {name}")


if __name__ == "__main__":
    main()
