"""Tables for benches: deterministic rows, made inside the server, ids in key order.

The bench table ``orders`` has ten columns: bigint key, uuid, two texts, numeric(12,2), int, boolean, double and two
timestamptz; 3,000,000 rows are about 400 MB of heap.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

KINDS = {
    "id": "int",
    "customer": "uuid",
    "status": "text",
    "amount": "decimal",
    "qty": "int",
    "paid": "bool",
    "weight": "float",
    "note": "text",
    "created_at": "timestamp",
    "updated_at": "timestamp",
}
"""The columns of the bench table, by their types in a profile."""
TABLE = "orders"
SEED = 1

_CREATE = """
CREATE TABLE {table} (
    id bigint PRIMARY KEY,
    customer uuid NOT NULL,
    status text NOT NULL,
    amount numeric(12,2) NOT NULL,
    qty int NOT NULL,
    paid boolean NOT NULL,
    weight double precision,
    note text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz
)
"""

# Every value comes from a 32-digit hash of (seed, id); a, b, c and d are its eight-digit parts as bigints. OFFSET 0
# keeps the planner from folding the levels, which would compute the hash once for every use of it.
_FILL = """
INSERT INTO {table}
SELECT id,
       h::uuid,
       (ARRAY['new','paid','packed','shipped','delivered','returned'])[1 + a % 6],
       (b % 100000000)::numeric / 100,
       (c % 50)::int + 1,
       d % 3 <> 0,
       CASE WHEN a % 20 = 0 THEN NULL ELSE (c % 1000000) / 1024.0::double precision END,
       CASE WHEN b % 10 = 0 THEN NULL ELSE 'note ' || left(repeat(h, 2), (d % 40)::int) END,
       timestamptz '2020-01-01 00:00:00+00' + (id * 37 + a % 37) * interval '1 s' + (b % 1000000) * interval '1 us',
       CASE WHEN d % 5 <> 0 THEN
            timestamptz '2024-01-01 00:00:00+00' + (c % 31536000) * interval '1 s' + (a % 1000000) * interval '1 us' END
  FROM (SELECT id, h, part(h, 1) AS a, part(h, 9) AS b, part(h, 17) AS c, part(h, 25) AS d
          FROM (SELECT id, md5({seed} || '/' || id) AS h FROM generate_series({first}, {last}) AS id OFFSET 0) AS hashed
         OFFSET 0) AS row
"""

_PART = """
CREATE FUNCTION pg_temp.part(text, int) RETURNS bigint IMMUTABLE LANGUAGE sql
RETURN ('x00000000' || substr($1, $2, 8))::bit(64)::bigint
"""


def load_postgresql(url: str, rows: int, seed: int = SEED, table: str = TABLE) -> None:
    """Create and fill ``table`` (replaced if present) with ids 1..``rows``; ends with VACUUM ANALYZE.

    Equal ``rows`` and ``seed`` give equal rows in every database.
    """
    name = sql.Identifier(table)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {table}").format(table=name))
        connection.execute(sql.SQL(_CREATE).format(table=name))
        connection.execute(_PART)
        for first in range(1, rows + 1, 500_000):
            fill = sql.SQL(_FILL.replace("part(h", "pg_temp.part(h"))
            bounds = {"seed": sql.Literal(str(seed)), "first": first, "last": min(rows, first + 499_999)}
            connection.execute(fill.format(table=name, **bounds))
        connection.execute(sql.SQL("VACUUM ANALYZE {table}").format(table=name))


def write_parquet(folder: Path, rows: int, files: int = 8) -> None:
    """The bench table's columns in ``files`` Parquet files of several row groups; other values than in PostgreSQL."""
    each = -(-rows // files)
    for number in range(files):
        ids = np.arange(number * each, min(rows, (number + 1) * each), dtype=np.int64)
        mixed = (ids * 2_654_435_761) % (1 << 32)
        status = np.array(["new", "paid", "packed", "shipped", "delivered", "returned"])[mixed % 6]
        notes = [f"note {value:x}" * (value % 4) for value in mixed.tolist()]
        columns = {
            "id": pa.array(ids),
            "customer": pa.array([int(v).to_bytes(16, "big") for v in mixed.tolist()], pa.binary(16)),
            "status": pa.array(status),
            "amount": pa.array(mixed % 100_000_000, pa.int64()).cast(pa.decimal128(20, 0)),
            "qty": pa.array((mixed % 50).astype(np.int32)),
            "paid": pa.array(mixed % 3 != 0),
            "weight": pa.array((mixed % 1_000_000) / 1024.0),
            "note": pa.array(notes),
            "created_at": pa.array(ids * 37_000_000 + 1_577_836_800_000_000, pa.timestamp("us", "UTC")),
            "updated_at": pa.array(mixed * 1000 + 1_704_067_200_000_000, pa.timestamp("us", "UTC")),
        }
        pq.write_table(pa.table(columns), folder / f"{number:03d}.parquet", row_group_size=125_000)
