"""Loading Cassandra for tests and benches, and the bench table ``orders`` with the rows that PostgreSQL gets.

Prepared single inserts reach about 4,000 rows a second from Python, unlogged batches over many partitions about 20,000
(one node; the test server lifts the thresholds that forbid such batches in production).
"""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent
from cassandra.query import BatchStatement, BatchType

BATCH_ROWS = 100
CONCURRENCY = 8
SEED = 1
STATUSES = ("new", "paid", "packed", "shipped", "delivered", "returned")
ORDERS = {
    "id": "bigint",
    "customer": "uuid",
    "status": "text",
    "amount": "decimal",
    "qty": "int",
    "paid": "boolean",
    "weight": "double",
    "note": "text",
    "created_at": "timestamp",
    "updated_at": "timestamp",
}
_2020_US = 1_577_836_800_000_000
_2024_US = 1_704_067_200_000_000


def load_cassandra(
    session: Session,
    keyspace: str,
    table: str,
    rows: Iterable[Sequence[Any]],
    columns: Sequence[str],
    batch_rows: int = BATCH_ROWS,
) -> int:
    """Insert ``rows`` (values in the order of ``columns``) and return their number. Names are taken as they are.

    Large rows want a smaller ``batch_rows``: the driver refuses to queue more than its socket takes.
    """
    names = ", ".join(f'"{name}"' for name in columns)
    marks = ", ".join("?" for _ in columns)
    insert = session.prepare(f'INSERT INTO "{keyspace}"."{table}" ({names}) VALUES ({marks})')
    count = 0

    def batches() -> Iterator[tuple[BatchStatement, None]]:
        nonlocal count
        source = iter(rows)
        while chunk := list(itertools.islice(source, batch_rows)):
            batch = BatchStatement(BatchType.UNLOGGED)
            for row in chunk:
                batch.add(insert, row)
            count += len(chunk)
            yield batch, None

    execute_concurrent(session, batches(), concurrency=CONCURRENCY)
    return count


def create_orders(session: Session, keyspace: str, table: str = "orders") -> None:
    """The keyspace and the empty bench table."""
    session.execute(
        f'CREATE KEYSPACE IF NOT EXISTS "{keyspace}" WITH replication = '
        "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    session.execute(f'DROP TABLE IF EXISTS "{keyspace}"."{table}"')
    columns = ", ".join(f"{name} {kind}" for name, kind in ORDERS.items())
    session.execute(f'CREATE TABLE "{keyspace}"."{table}" ({columns}, PRIMARY KEY (id))')


def load_orders(session: Session, keyspace: str, rows: int, seed: int = SEED, table: str = "orders") -> int:
    """Create and fill the bench table with ids 1..``rows``: the rows of ``load_postgresql``, times floored to ms."""
    create_orders(session, keyspace, table)
    return load_cassandra(session, keyspace, table, (order(i, seed) for i in range(1, rows + 1)), list(ORDERS))


def order(number: int, seed: int = SEED) -> tuple[Any, ...]:
    """One row of the bench table. Times are milliseconds since 1970, which the driver takes as they are."""
    digest = hashlib.md5(f"{seed}/{number}".encode(), usedforsecurity=False).hexdigest()
    a, b, c, d = (int(digest[i : i + 8], 16) for i in range(0, 32, 8))
    created = _2020_US + (number * 37 + a % 37) * 1_000_000 + b % 1_000_000
    updated = _2024_US + (c % 31_536_000) * 1_000_000 + a % 1_000_000
    return (
        number,
        uuid.UUID(digest),
        STATUSES[a % 6],
        Decimal(b % 100_000_000).scaleb(-2),
        c % 50 + 1,
        d % 3 != 0,
        None if a % 20 == 0 else (c % 1_000_000) / 1024,
        None if b % 10 == 0 else "note " + (digest * 2)[: d % 40],
        created // 1_000,
        updated // 1_000 if d % 5 else None,
    )
