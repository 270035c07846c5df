"""Files: runs and their letters on the spool, configuration."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from parser import Parser

from edge_agent.index.index import Index
from edge_agent.index.rest import RestKey, is_sealed
from edge_agent.index.run import Run, RunRows, write_run
from edge_agent.letters.found import Found
from edge_agent.letters.shardfile import take_letters, write_letters
from paritree.config.agent import load_agent
from paritree.config.coordinator import load_client, load_coordinator
from paritree.config.datasets import load_datasets
from paritree.config.scopes import scopes_of
from paritree.core.deadletters import LetterKind
from paritree.core.errors import ConfigError, SourceError
from paritree.core.leaves import LeafSums
from paritree.core.profile import Profile
from paritree.core.sketch import empty_probe, empty_sketch
from paritree.core.types import parse_type

FOLDER: Final = Path(tempfile.mkdtemp(prefix="paritree-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
"""In memory: a file is written for every input."""
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
REST: Final = RestKey.of("5a" * 32, "fuzzing")


# --- runs -------------------------------------------------------------------------------------------------------------


def _rows(count: int, marked: bool) -> RunRows:
    rng = np.random.default_rng(count)
    keys = rng.integers(0, 256, (count, 16), np.uint8)
    order = np.lexsort(keys.T[::-1])
    digests = rng.integers(0, 256, (count, 16), np.uint8)
    locators = pa.array([b"key %d" % number for number in range(count)], pa.large_binary())
    marks = np.arange(count, dtype=np.uint32) % 3 if marked else None
    return RunRows(keys[order], digests[order], locators, marks, ("not UTF-8", "NUL") if marked else ())


def runs() -> list[bytes]:
    """Plain ones, and one encrypted at rest."""
    made = []
    for count, marked, key in (
        (0, False, None),
        (1, False, None),
        (40, True, None),
        (300, False, None),
        (40, True, REST),
    ):
        write_run(FOLDER / "example.run", _rows(count, marked), key)
        made.append((FOLDER / "example.run").read_bytes())
    return made


def parse_runs(data: bytes) -> None:
    """Open, and read everything that an index reads, without the checksum's help."""
    path = FOLDER / "000001.run"
    path.write_bytes(data)
    run = Run(path, REST if is_sealed(path) else None)
    assert run.rows <= len(data) // 8
    rows = min(run.rows, 64)
    run.cuts(np.array([0, 1 << 40, 1 << 63], np.uint64))
    run.key_digests(0, rows)
    run.row_digests(0, rows)
    run.spans(np.array([0, 7 << 60], np.uint64))
    _ = run.reasons
    index = Index([run], LeafSums.zero(12), empty_probe(), "plain")
    index.rows_below(4, np.array([0, 15], np.uint64))
    index.children(0, 13, np.zeros(1, np.uint64))
    list(index.find([0, 1 << 63]))
    index.duplicates()
    list(index.add_to(empty_sketch(3, 1), 0, np.zeros(1, np.uint64)))
    if rows:
        run.locators(0, rows)
    run.verify()


# --- dead letters -----------------------------------------------------------------------------------------------------


def letters() -> list[bytes]:
    path = FOLDER / "example.letters"
    found = Found(LetterKind.ROW, b"i" * 16, "name: NUL in text", ("name",), True, b"k" * 8, b"sealed" * 5, 2)
    made = []
    for count, not_kept in ((0, 3), (1, 0), (3, 1)):
        write_letters(path, [found] * count, not_kept)
        made.append(path.read_bytes())
    return made


def parse_letters(data: bytes) -> None:
    path = FOLDER / "000001.letters"
    path.write_bytes(data)
    take_letters(path)


# --- configuration ----------------------------------------------------------------------------------------------------

DATASETS: Final = b"""#d
[dataset.orders]
key = ["id", "region"]
owner = "shop"
criticality = "high"
lag_max_s = 2.5
empty_collection = "null"
[dataset.orders.columns]
id = "int"
region = { type = "text", rules = ["nfc", "casefold"] }
amount = { type = "decimal", scale = 2, rounding = "half_up", tolerance = "0.01" }
at = "timestamp(ms)"
tags = "set<text>"
more = { type = "map", key = "text", value = "list<struct{a: int, b: json}>" }
note = { ignore = true }
[dataset.orders.regions.eu]
connection = "main"
table = "public.orders"
options = { fetch = "10" }
[dataset.orders.regions.eu.columns]
id = "order_id"
region = { parts = ["a", "b"], joiner = "-" }
amount = { expression = "amount / 100" }
at = { constant = "2024-01-01T00:00:00Z" }
[dataset.orders.regions.us]
"""
AGENT: Final = b"""#a
region = "eu"
name = "eu-1"
datasets = "datasets.toml"
master_key = "file:master.key"
spool = "spool"
at_rest_key = "file:rest.key"
shard_rows = 250_000
executor = "threads"
statement_timeout_s = 30.5
[coordinator]
address = "coordinator.example.org:7443"
cert = "agent.pem"
key = "agent.key"
ca = "ca.pem"
ssh = "user@bastion:22"
[connections.main]
url = "postgresql://reader@db.internal/shop"
password = "env:PGPASSWORD"
options = { application_name = "x" }
[connections.main.throttle]
max_rate_rows_s = 1e5
[throttle]
chunk_target_s = 0.5
dataset_snapshot_max_s = { orders = 60 }
[policy]
disclosure = "keys"
purposes = ["audit"]
keys_max = 10
[refresh.orders]
changes = "topic"
interval_s = 2.5
check_interval_s = 0
[refresh.orders.topic]
url = "tls://nats.internal:4222"
user = "paritree"
password = "env:NATS_PASSWORD"
stream = "CDC"
subject = "shop.public.*"
marker_subject = "shop.markers"
format = "debezium"
columns = { id = "order_id", region = { field = "r", form = "base64" } }
settle_s = 1
[refresh.payments]
changes = "rescan"
max_age_s = 3600
rescan_rows_s = 20_000
[refresh.users]
changes = "slot"
[scopes.orders.month]
column = "at"
kind = "month"
[scopes.orders.slice]
columns = ["id", "region"]
kind = "hash"
buckets = 64
"""
COORDINATOR: Final = b"""#c
listen = "127.0.0.1:7443"
datasets = "datasets.toml"
cert = "c.pem"
key = "c.key"
ca = "ca.pem"
exchange_timeout_s = 60
[store]
url = "sqlite:///coordinator.db"
lease_s = 15
[rates]
sweeps_max = 2
[region_rates.eu]
bytes_per_s = 1e6
[client]
address = "localhost:7443"
cert = "o.pem"
key = "o.key"
ca = "ca.pem"
timeout_s = 10
[watch.orders]
window_s = 10
late_s = 5
idle_s = 60
"""
TOKENS: Final = (
    *(
        b'"',
        b"'",
        b'"""',
        b"[",
        b"]",
        b"[[",
        b"]]",
        b"{",
        b"}",
        b"=",
        b".",
        b",",
        b"\n",
        b"#",
        b"true",
        b"1e999",
        b"nan",
    ),
    *(b"-1", b"0x7fffffffffffffff", b"99999999999999999999", b"1979-05-27T07:32:00Z", b"07:32:00", b"\\u0000", b'""'),
    *(b'"int"', b'"decimal(99)"', b"list<", b"struct{", b"a.b.c", b"type", b"key", b"regions", b'"file:x"', b"\xff"),
    *(b'"slot"', b'"topic"', b'"hash"', b"refresh", b"scopes", b"watch"),
)


ORDERS: Final = Profile(
    "orders", ("id",), {n: parse_type(t) for n, t in (("id", "int"), ("region", "text"), ("at", "timestamp"))}
)


def configuration() -> list[bytes]:
    deep = b"#d\n" + b"x = " + b"[" * 400 + b"]" * 400
    nested = b'#d\n[dataset.o]\nkey=["a"]\ncolumns.a = "' + b"list<" * 200 + b"int" + b">" * 200 + b'"'
    return [DATASETS, AGENT, COORDINATOR, deep, nested]


def parse_configuration(data: bytes) -> None:
    """The first line says which file it is."""
    path = FOLDER / "file.toml"
    path.write_bytes(data)
    match data[:2]:
        case b"#a":
            config = load_agent(path)
            scopes_of(config.scopes, {"orders": ORDERS}, config.file)
        case b"#c":
            load_coordinator(path)
            load_client(path, {})
        case _:
            load_datasets(path)


PARSERS: Final = (
    Parser("runs", runs, parse_runs, (SourceError,)),
    Parser("letters", letters, parse_letters, (SourceError,), lines=True),
    Parser("configuration", configuration, parse_configuration, (ConfigError,), tokens=TOKENS, lines=True),
)
