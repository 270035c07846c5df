"""Every row of types.toml on the real server: what a value becomes in a scan, and the same in a look-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from connectors.pg_case import PgCase, bound, rows

from edge_agent.connectors.contract import REJECTS
from edge_agent.connectors.postgresql.types import translation
from paritree.core.errors import ConfigError

pytestmark = pytest.mark.servers

MAX, MIN = (1 << 63) - 1, -(1 << 63)
DAY = 86_400_000_000
Y2K_DAYS = 10_957
Y2K = Y2K_DAYS * DAY


@dataclass(frozen=True)
class Sample:
    """A column type, and its values as SQL literals with the carrier's value of each (None is NULL)."""

    declared: str
    logical: str
    values: dict[str, Any]
    precision: str | None = None
    lost: bool = False
    padded: bool = False
    caseless: bool = False
    setup: str = ""


SAMPLES: dict[str, Sample] = {
    "bool": Sample("bool", "bool", {"true": True, "false": False}),
    "int2": Sample("int2", "int", {"-32768": -32768, "32767": 32767, "0": 0}),
    "int4": Sample("int4", "int", {"-2147483648": -2147483648, "2147483647": 2147483647, "1": 1}),
    "int8": Sample("int8", "int", {"-9223372036854775808": MIN, "9223372036854775807": MAX, "-1": -1}),
    "oid": Sample("oid", "int", {"0": 0, "4294967295": 4294967295, "2147483648": 2147483648}),
    "numeric": Sample(
        "numeric",
        "decimal",
        {
            "'0'": "0",
            "'-0.00'": "0.00",
            "'1.10'": "1.10",
            "'-12345678.90'": "-12345678.90",
            "'10000'": "10000",
            "'100000000.0001'": "100000000.0001",
            "'0.00010000'": "0.00010000",
            "'1e-20'": "0.00000000000000000001",
            "'1e20'": "100000000000000000000",
            "'-0.000000001'": "-0.000000001",
            "'NaN'": "NaN",
            "'Infinity'": "Infinity",
            "'-Infinity'": "-Infinity",
            f"'{'9' * 1000}.{'1' * 1000}'": f"{'9' * 1000}.{'1' * 1000}",
            "(10::numeric ^ 131071)": None,  # set below: 131,072 digits
        },
    ),
    "float4": Sample("float4", "float", {"1.5": 1.5, "'-Infinity'": float("-inf"), "'1e-45'": 2.0**-149, "0.25": 0.25}),
    "float8": Sample("float8", "float", {"0.1": 0.1, "'Infinity'": float("inf"), "'5e-324'": 5e-324, "-2.5": -2.5}),
    "text": Sample(
        "text", "text", {"''": "", "'a'": "a", "'Zoë ☃ 🜚'": "Zoë ☃ 🜚", "repeat('x', 100000)": "x" * 100_000}
    ),
    "varchar": Sample("varchar(5)", "text", {"'ab '": "ab ", "'abcde'": "abcde"}),
    "bpchar": Sample("char(5)", "text", {"'ab'": "ab   ", "'abcde'": "abcde"}, padded=True),
    "name": Sample("name", "text", {"'ab'": "ab", "''": ""}),
    "char": Sample('"char"', "text", {"'a'": "a", "''": ""}),
    "citext": Sample("citext", "text", {"'AbC'": "AbC"}, caseless=True, setup="CREATE EXTENSION citext"),
    "bytea": Sample("bytea", "bytes", {"''": b"", r"'\x00ff0a'": b"\x00\xff\n"}),
    "date": Sample(
        "date",
        "date",
        {
            "'1970-01-01'": 0,
            "'2000-02-29'": Y2K_DAYS + 59,
            "'infinity'": MAX,
            "'-infinity'": MIN,
            "'4714-11-24 BC'": -2440588,
            "'5874897-12-31'": 2145031948 + Y2K_DAYS,
        },
    ),
    "time": Sample("time", "time", {"'00:00'": 0, "'24:00'": DAY, "'12:34:56.789012'": 45296789012}, precision="us"),
    "timestamp": Sample(
        "timestamp",
        "datetime",
        {
            "'1970-01-01'": 0,
            "'1999-12-31 23:59:59.999999'": Y2K - 1,
            "'infinity'": MAX,
            "'-infinity'": MIN,
            "'4714-11-24 00:00 BC'": -210866803200000000,
            "'294247-01-10 04:00:54.775806'": MAX - 1,
        },
        precision="us",
    ),
    "timestamptz": Sample(
        "timestamptz",
        "timestamp",
        {"'1970-01-01 01:00+01'": 0, "'infinity'": MAX, "'-infinity'": MIN, "'2000-01-01 00:00:00.000001Z'": Y2K + 1},
        precision="us",
    ),
    "interval": Sample(
        "interval",
        "duration",
        {
            "'14 months 3 days 1.5 s'": (14).to_bytes(4) + (3).to_bytes(4) + (1_500_000).to_bytes(8),
            "'-1 mon +30 days -0.000001 s'": b"\xff" * 4 + (30).to_bytes(4) + b"\xff" * 8,
        },
    ),
    "uuid": Sample(
        "uuid", "uuid", {"'00112233-4455-6677-8899-aabbccddeeff'": bytes.fromhex("00112233445566778899aabbccddeeff")}
    ),
    "inet": Sample(
        "inet",
        "inet",
        {
            "'10.1.2.3'": "10.1.2.3",
            "'10.1.2.3/24'": "10.1.2.3/24",
            "'::1'": "0:0:0:0:0:0:0:1",
            "'fe80::1/64'": "fe80:0:0:0:0:0:0:1/64",
        },
    ),
    "cidr": Sample(
        "cidr",
        "inet",
        {"'10.0.0.0/8'": "10.0.0.0/8", "'10.1.2.3/32'": "10.1.2.3", "'::/0'": "0:0:0:0:0:0:0:0/0"},
        lost=True,
    ),
    "json": Sample("json", "json", {'\'{"b": 1, "a":  2, "a": 3}\'': '{"b": 1, "a":  2, "a": 3}'}, lost=True),
    "jsonb": Sample("jsonb", "json", {'\'{"b":1,"aa":[null]}\'': '{"b": 1, "aa": [null]}', "'null'": "null"}),
    "hstore": Sample(
        "hstore",
        "map<text, text>",
        {"'b=>1, a=>NULL'": [("a", None), ("b", "1")], "''": []},
        setup="CREATE EXTENSION hstore",
    ),
}
SAMPLES["numeric"].values["(10::numeric ^ 131071)"] = "1" + "0" * 131071 + "." + "0" * 16
REFUSED = {
    "timetz": "timetz", "money": "money", "bit": "bit(3)", "varbit": "varbit", "xml": "xml", "macaddr": "macaddr",
    "macaddr8": "macaddr8", "point": "point", "line": "line", "lseg": "lseg", "box": "box", "path": "path",
    "polygon": "polygon", "circle": "circle", "tsvector": "tsvector", "tsquery": "tsquery", "jsonpath": "jsonpath",
    "regclass": "regclass", "regtype": "regtype", "regproc": "regproc", "pg_lsn": "pg_lsn", "xid": "xid",
    "xid8": "xid8", "tid": "tid", "int2vector": "int2vector", "oidvector": "oidvector",
}  # fmt: skip


def test_every_row_of_the_translation_table_has_a_sample() -> None:
    table = translation()
    assert {name for name, row in table.items() if "logical" in row} == set(SAMPLES)
    assert {name for name, row in table.items() if "refusal" in row} == {*REFUSED, "record"}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("decoder", ["plain", "fast"])
def test_type(pg: PgCase, name: str, decoder: str) -> None:
    sample = SAMPLES[name]
    if sample.setup:
        pg.run(sample.setup)
    pg.run(f"CREATE TABLE t (id int PRIMARY KEY, v {sample.declared})")
    expected: dict[int, Any] = {}
    for number, (literal, value) in enumerate([*sample.values.items(), ("NULL", None)]):
        pg.run(f"INSERT INTO t VALUES ({number}, {literal})")
        expected[number] = value

    column = pg.connector.describe("t").columns[1]
    assert (str(column.logical), column.precision) == (sample.logical, sample.precision)
    assert (bool(column.lost), column.padded, column.caseless) == (sample.lost, sample.padded, sample.caseless)

    binding = pg.bind("t")
    scanned = pg.scan(binding, connector=pg.connect(decoder=decoder))
    assert {row["id"]: row["v"] for row in scanned} == expected
    assert rows(pg.connector.lookup(binding, [(n,) for n in expected])) == scanned


def test_floats_keep_nan_and_the_sign_of_zero(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, f float4, d float8)",
        "INSERT INTO t VALUES (1, 'NaN', 'NaN'), (2, '-0', '-0'), (3, '3.4028235e38', '1.7976931348623157e308')",
    )
    found = {row["id"]: (repr(row["f"]), repr(row["d"])) for row in pg.scan(pg.bind("t"))}
    assert found == {
        1: ("nan", "nan"),
        2: ("-0.0", "-0.0"),
        3: ("3.4028234663852886e+38", "1.7976931348623157e+308"),
    }


@pytest.mark.parametrize("name", REFUSED)
def test_refused_type(pg: PgCase, name: str) -> None:
    pg.run(f"CREATE TABLE t (id int PRIMARY KEY, v {REFUSED[name]})")
    column = pg.connector.describe("t").columns[1]
    assert column.logical is None
    assert translation()[name]["refusal"] in column.refusal
    assert "::text" in column.refusal
    with pytest.raises(ConfigError, match=r"column v: v of public.t is .* not compared") as refused:
        pg.connector.plan(pg.bind("t"), 10)
    assert "expression" in refused.value.next_step


def test_refused_type_can_be_bound_as_text(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY, v point)", "INSERT INTO t VALUES (1, '(1,2)')")
    binding = pg.bind("t", columns=[bound("id", "int"), bound("v", expression="v::text")])
    assert pg.scan(binding) == [{"id": 1, "v": "(1,2)"}]


def test_unnamed_record_range_and_arrays_of_refused_types(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY, r int4range, m int4multirange, a point[])")
    refusals = [column.refusal for column in pg.connector.describe("t").columns]
    assert "ranges" in refusals[1]
    assert "multiranges" in refusals[2]
    assert "geometric" in refusals[3]
    binding = pg.bind("t", columns=[bound("id", "int"), bound("v", expression="ROW(1, 2)")])
    with pytest.raises(ConfigError, match="its fields have no names"):
        pg.connector.plan(binding, 10)


@pytest.mark.parametrize(("digits", "precision"), [(0, "s"), (1, "ms"), (3, "ms"), (4, "us"), (6, "us")])
def test_declared_precision_is_what_the_column_holds(pg: PgCase, digits: int, precision: str) -> None:
    pg.run(
        f"CREATE DOMAIN moment AS timestamptz({digits})",
        f"CREATE TABLE t (a timestamptz({digits}), b timestamp({digits}), c time({digits}), d moment)",
    )
    assert [column.precision for column in pg.connector.describe("t").columns] == [precision] * 4


@pytest.mark.parametrize("decoder", ["plain", "fast"])
def test_derived_types(pg: PgCase, decoder: str) -> None:
    pg.run(
        "CREATE TYPE mood AS ENUM ('ok', 'sad', 'Zoë')",
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
        "CREATE DOMAIN few AS positive[]",
        "CREATE TYPE pair AS (x int, y text, zs int[])",
        "CREATE TABLE t (id positive PRIMARY KEY, m mood, ms mood[], p pair, ps pair[], ns numeric[], f few, n int4[])",
        """INSERT INTO t VALUES
             (1, 'sad', '{ok,NULL}', ROW(1, 'a', '{1,NULL}'), ARRAY[ROW(2, NULL, NULL)::pair, NULL], '{1.50,NaN}',
              '{7}', '{}'),
             (2, NULL, NULL, NULL, '{}', '{}', NULL, NULL),
             (3, 'Zoë', '{}', ROW(NULL, NULL, NULL), NULL, NULL, '{}', '[5:6]={8,9}')""",
    )
    kinds = {column.name: str(column.logical) for column in pg.connector.describe("t").columns}
    pair = "struct{x: int, y: text, zs: list<int>}"
    assert kinds == {
        "id": "int", "m": "text", "ms": "list<text>", "p": pair, "ps": f"list<{pair}>", "ns": "list<decimal>",
        "f": "list<int>", "n": "list<int>",
    }  # fmt: skip
    found = pg.scan(pg.bind("t"), connector=pg.connect(decoder=decoder))
    assert found == [
        {
            "id": 1, "m": "sad", "ms": ["ok", None], "p": {"x": 1, "y": "a", "zs": [1, None]},
            "ps": [{"x": 2, "y": None, "zs": None}, None], "ns": ["1.50", "NaN"], "f": [7], "n": [],
        },
        {"id": 2, "m": None, "ms": None, "p": None, "ps": [], "ns": [], "f": None, "n": None},
        {
            "id": 3, "m": "Zoë", "ms": [], "p": {"x": None, "y": None, "zs": None}, "ps": None, "ns": None,
            "f": [], "n": [8, 9],
        },
    ]  # fmt: skip


@pytest.mark.parametrize("decoder", ["plain", "fast"])
def test_values_without_a_carrier_are_rejected_and_named(pg: PgCase, decoder: str) -> None:
    pg.run(
        "CREATE TYPE box_of AS (t timestamp)",
        'CREATE TABLE t (id int PRIMARY KEY, a int[], t timestamp, c "char", s box_of, l timestamp[])',
        "INSERT INTO t VALUES (1, '{{1,2},{3,4}}', '294276-12-31', (-1)::\"char\", ROW('294276-12-31'), NULL)",
        "INSERT INTO t VALUES (2, '{1}', '294247-01-10 04:00:54.775807', 'x', NULL, '{2000-01-01,294276-12-31}')",
        "INSERT INTO t VALUES (3, '{}', '2000-01-01', NULL, NULL, '{}')",
    )
    found = pg.scan(pg.bind("t"), connector=pg.connect(decoder=decoder))
    reasons = [{reject["column"]: reject["reason"] for reject in row.pop(REJECTS) or ()} for row in found]
    late = "a time beyond the year 294247"
    assert reasons == [
        {"a": "an array of more than one dimension", "t": late, "c": 'a "char" that is not ASCII', "s": late},
        {"t": late, "l": late},
        {},
    ]
    assert found == [
        {"id": 1, "a": None, "t": None, "c": None, "s": None, "l": None},
        {"id": 2, "a": [1], "t": None, "c": "x", "s": None, "l": None},
        {"id": 3, "a": [], "t": Y2K, "c": None, "s": None, "l": []},
    ]


def test_no_rejects_column_without_rejects(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    assert pg.scan(pg.bind("t")) == [{"id": 1}]


def test_generated_dropped_and_identity_columns(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (gone int, id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int)",
        "ALTER TABLE t ADD COLUMN b int GENERATED ALWAYS AS (a * 2) STORED",
        "ALTER TABLE t DROP COLUMN gone",
        "INSERT INTO t (a) VALUES (21)",
        "ALTER TABLE t ADD COLUMN late text DEFAULT 'x'",
    )
    assert [column.name for column in pg.connector.describe("t").columns] == ["id", "a", "b", "late"]
    assert pg.scan(pg.bind("t")) == [{"id": 1, "a": 21, "b": 42, "late": "x"}]


def test_a_composite_type_that_gained_a_field_is_read_anew(pg: PgCase) -> None:
    pg.run("CREATE TYPE pair AS (x int, gone int)", "ALTER TYPE pair DROP ATTRIBUTE gone")
    pg.run("CREATE TABLE t (id int PRIMARY KEY, p pair)", "INSERT INTO t VALUES (1, ROW(5))")
    assert pg.scan(pg.bind("t")) == [{"id": 1, "p": {"x": 5}}]
    pg.run("ALTER TYPE pair ADD ATTRIBUTE y text")
    assert pg.scan(pg.bind("t")) == [{"id": 1, "p": {"x": 5, "y": None}}]


def test_nondeterministic_collation_is_caseless(pg: PgCase) -> None:
    pg.run(
        "CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        "CREATE TABLE t (id text COLLATE anycase PRIMARY KEY, v text)",
        "INSERT INTO t VALUES ('Abc', 'x')",
    )
    assert [column.caseless for column in pg.connector.describe("t").columns] == [True, False]
    assert pg.lookup(pg.bind("t"), ("aBC",)) == [{"id": "Abc", "v": "x"}]


def test_user_types_with_names_of_the_table_are_not_taken_for_them(pg: PgCase) -> None:
    pg.run("CREATE TYPE citext AS (x int)", "CREATE DOMAIN hstore AS text", "CREATE TABLE t (a citext, b hstore)")
    assert [str(column.logical) for column in pg.connector.describe("t").columns] == ["struct{x: int}", "text"]
