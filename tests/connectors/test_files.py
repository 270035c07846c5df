"""Traps of Parquet and CSV: files that do not agree, change or break, and text that no parser should pass over."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import INT, binding, looked_up, scanned, types, values

from edge_agent.connectors.contract import BATCH_ROWS, Connector, Source
from edge_agent.connectors.files import parquet
from edge_agent.connectors.files.schema import table_name
from edge_agent.connectors.keyfilter import KeyFilter
from edge_agent.connectors.registry import connect
from paritree.core.errors import ConfigError, ParitreeError, SourceError
from paritree.core.profile import Binding

PAIR = types(a="int", b="text")


def csv(tmp_path: Path, data: bytes, **options: str) -> Connector:
    (tmp_path / "x.csv").write_bytes(data)
    return connect(Source(f"csv:///{tmp_path}/x.csv", options))


def read(tmp_path: Path, data: bytes, **options: str) -> list[tuple[Any, ...]]:
    connector = csv(tmp_path, data, **options)
    return [(row["a"], row["b"]) for row in scanned(connector, binding("x", PAIR, ["a"]))]


@pytest.mark.parametrize(
    ("data", "options", "rows"),
    [
        (b'a,b\n1,\n2,""\n3,"x"\n', {}, [(1, None), (2, ""), (3, "x")]),
        (b'a,b\n1,"p,\nq ""r"""\n', {}, [(1, 'p,\nq "r"')]),
        (b"a,b\r\n1,x\r\n\r\n2,y", {}, [(1, "x"), (2, "y")]),
        (b"\xef\xbb\xbfa,b\n1, x \n", {}, [(1, " x ")]),
        (b"a;b\n1;\\N\n2;\n", {"delimiter": ";", "null": "\\N"}, [(1, None), (2, "")]),
        (b"a\tb\n1\tx,y\n", {"delimiter": "tab"}, [(1, "x,y")]),
        (b"1,x\n2,y\n", {"header": "a,b"}, [(1, "x"), (2, "y")]),
        ("a,b\n1,é€\n".encode("utf-16"), {"encoding": "utf-16"}, [(1, "é€")]),
        ("a,b\n1,é\n".encode("latin-1"), {"encoding": "latin-1"}, [(1, "é")]),
        (b'a,b\n1,"x\\"y"\n', {"escape": "\\"}, [(1, 'x"y')]),
        (b'a,b\n1,"x\n', {"quote": ""}, [(1, '"x')]),
        (b"a,b", {}, []),
        (b"a,b\n", {}, []),
        (b"", {"header": "a,b"}, []),
    ],
)
def test_csv_dialects(tmp_path: Path, data: bytes, options: dict[str, str], rows: list[Any]) -> None:
    assert read(tmp_path, data, **options) == rows


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (b"a,b\n1,x\n2\n3,y\n", {}, "row 3: 1 fields where the header has 2"),
        (b"a,b\n1,x\n2,y,z\n", {}, "row 3: 3 fields where the header has 2"),
        (b'a,b\n1,x\n2,"y\n3,z\n', {}, "a quote is never closed"),
        (b'a,b\n1,x\n2,"y', {}, "a quote is never closed"),
        (b"a,b\n1,secret\\", {"escape": "\\"}, "x.csv, row 2"),
        ("a,b\n1,é\n".encode("latin-1"), {"encoding": "ascii"}, "x.csv"),
        (b"a,b\n1," + b"secret" * 9000, {"block_bytes": "4096"}, "x.csv"),
    ],
)
def test_a_malformed_csv_is_an_error_that_names_the_place(
    tmp_path: Path, data: bytes, options: dict[str, str], says: str
) -> None:
    with pytest.raises(ParitreeError) as error:
        read(tmp_path, data, **options)
    assert says in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b"", {}),
        (b"a,a\n1,2\n", {}),
        (b"a,b\n", {"delimiter": "::"}),
        (b"a,b\n", {"encoding": "klingon"}),
        (b"a,b\n", {"block_bytes": "many"}),
        (b"a,b\n", {"colour": "green"}),
    ],
)
def test_an_unusable_csv_is_refused_before_the_scan(tmp_path: Path, data: bytes, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        csv(tmp_path, data, **options).describe("x")


def test_csv_text_that_is_not_utf8_is_a_dead_letter(tmp_path: Path) -> None:
    rows = read(tmp_path, b"a,b\n1,\xff\n\xfe,x\n2,ok\n")
    assert [str(value) for value in rows[0]] == ["1", "text that is not UTF-8"]
    assert [str(value) for value in rows[1]] == ["text that is not UTF-8", "x"]
    assert rows[2] == (2, "ok")


def test_an_empty_line_of_a_one_column_csv_is_a_null(tmp_path: Path) -> None:
    connector = csv(tmp_path, b"a\n1\n\n2\n")
    assert [row["a"] for row in scanned(connector, binding("x", types(a="int"), ["a"]))] == [1, None, 2]


def test_a_compressed_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"a,b\n1,x\n"))
    connector = connect(Source(f"csv:///{tmp_path}/x.csv.gz"))
    assert scanned(connector, binding("x", PAIR, ["a"])) == [{"a": 1, "b": "x"}]


def test_a_long_csv_comes_in_batches(tmp_path: Path) -> None:
    count = 3 * BATCH_ROWS + 5
    connector = csv(tmp_path, b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(count)))
    assert [row["a"] for row in scanned(connector, binding("x", PAIR, ["a"]))] == list(range(count))


def test_types_that_text_cannot_have_are_refused(tmp_path: Path) -> None:
    connector = csv(tmp_path, b"a,b\n")
    for kind in ("list<int>", "map<text,int>"):
        with pytest.raises(ConfigError):
            connector.plan(binding("x", types(a="int", b=kind), ["a"]), 10)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("/data/orders/*.parquet", "orders"),
        ("/data/orders.parquet", "orders"),
        ("/data/orders/year=*/part-?.parquet", "orders"),
        ("/data/orders.2024.csv.gz", "orders.2024"),
        ("/*.parquet", "files"),
    ],
)
def test_a_glob_has_the_name_of_its_last_plain_part(pattern: str, name: str) -> None:
    assert table_name(pattern) == name


def test_files_of_one_name_in_two_directories_are_told_apart(tmp_path: Path) -> None:
    for year in ("2023", "2024"):
        (tmp_path / "sales" / year).mkdir(parents=True)
        pq.write_table(pa.table({"a": [int(year)], "b": ["x"]}), tmp_path / "sales" / year / "part.parquet")
    connector = connect(Source(f"parquet:///{tmp_path}/sales/**/*.parquet"))
    bound = binding("sales", PAIR, ["a"])
    with connector.plan(bound, 10) as plan:
        assert [shard.label for shard in plan.shards] == ["2023/part.parquet part 0", "2024/part.parquet part 0"]
    assert [row["a"] for row in scanned(connector, bound)] == [2023, 2024]


def parts(tmp_path: Path, *tables: pa.Table) -> Connector:
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"part-{number}.parquet", row_group_size=2)
    return connect(Source(f"parquet:///{tmp_path}/part-*.parquet"))


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (pa.table({"a": [1]}), "has no column 'b'"),
        (pa.table({"a": [1], "b": ["x"], "c": [1]}), "has a column 'c'"),
        (pa.table({"a": pa.array([1], pa.int32()), "b": ["x"]}), "column 'a' is int32 in"),
    ],
)
def test_files_that_do_not_agree_are_refused(tmp_path: Path, second: pa.Table, says: str) -> None:
    connector = parts(tmp_path, pa.table({"a": [1], "b": ["x"]}), second)
    with pytest.raises(ConfigError) as error:
        connector.describe(connector.tables()[0])
    assert says in str(error.value)
    assert "part-1.parquet" in str(error.value)


def test_files_of_one_schema_are_one_table(tmp_path: Path) -> None:
    connector = parts(tmp_path, pa.table({"a": [1, 2, 3], "b": ["x", "y", None]}), pa.table({"b": ["z"], "a": [4]}))
    (name,) = connector.tables()
    bound = binding(name, PAIR, ["a"])
    with connector.plan(bound, 2) as plan:
        assert [shard.label for shard in plan.shards] == [
            "part-0.parquet part 0", "part-0.parquet part 1", "part-1.parquet part 0",
        ]  # fmt: skip
    assert [row["a"] for row in scanned(connector, bound)] == [1, 2, 3, 4]


@pytest.mark.parametrize("what", ["grown", "touched", "removed", "added"])
def test_files_that_change_during_a_sweep_are_an_error(tmp_path: Path, what: str) -> None:
    connector = parts(tmp_path, pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]}), pa.table({"a": [4], "b": ["z"]}))
    bound = binding(connector.tables()[0], PAIR, ["a"])
    first, second = tmp_path / "part-0.parquet", tmp_path / "part-1.parquet"
    with connector.plan(bound, 10) as plan:
        assert plan.position().point
        if what == "grown":
            pq.write_table(pa.table({"a": [4, 5], "b": ["z", "w"]}), second)
        elif what == "touched":
            second.touch()
        elif what == "removed":
            second.unlink()
        else:
            pq.write_table(pa.table({"a": [9], "b": ["z"]}), tmp_path / "part-2.parquet")
        with pytest.raises(SourceError) as error:
            plan.position()
        assert error.value.next_step
        if what != "added":
            with pytest.raises(SourceError):
                list(connector.scan(bound, plan.shards[1]))
    assert first.exists()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all" * 100])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    connector = connect(Source(f"parquet:///{tmp_path}/x.parquet"))
    with pytest.raises(ConfigError) as error:
        connector.describe("x")
    assert "x.parquet" in str(error.value)


def test_a_look_up_reads_only_row_groups_that_may_hold_the_key(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(range(100), pa.int64()), "b": [f"{n:03}" for n in range(100)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=10)
    connector = connect(Source(f"parquet:///{tmp_path}/x.parquet"))
    path = str(tmp_path / "x.parquet")
    for key, asked, groups in (
        (["a"], [(37,)], [3]),
        (["b"], [("005",), ("099",)], [0, 9]),
        (["a", "b"], [(37, "037")], [3]),
        (["a"], [(1000,)], None),
        (["a"], [(None,)], None),
    ):
        bound = binding("x", PAIR, key)
        piece = parquet.Parquet().promising(path, bound, asked)
        assert (None if piece is None else piece["groups"]) == groups
        assert len(looked_up(connector, bound, *asked)) == (len(groups) if groups else 0)


def test_nulls_and_missing_statistics_hide_no_row(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array([None, 5, 9], pa.int64()), "b": [None, None, "x"]})
    pq.write_table(table, tmp_path / "x.parquet", write_statistics=False)
    connector = connect(Source(f"parquet:///{tmp_path}/x.parquet"))
    assert len(looked_up(connector, binding("x", PAIR, ["a"]), (5,))) == 1
    assert len(looked_up(connector, binding("x", PAIR, ["b"]), ("x",))) == 1


def test_columns_with_dots_are_not_fields_of_others(tmp_path: Path) -> None:
    table = pa.table({"a": [{"b": 1}, {"b": 2}], "a.b": [7, 8]})
    pq.write_table(table, tmp_path / "x.parquet")
    connector = connect(Source(f"parquet:///{tmp_path}/x.parquet"))
    bound = binding("x", {"a.b": INT}, ["a.b"])
    assert [row["a.b"] for row in scanned(connector, bound)] == [7, 8]
    assert len(looked_up(connector, bound, (8,))) == 1


def test_dictionary_columns_are_folded_and_found(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode(), "b": [1, 2, 3]})
    pq.write_table(table, tmp_path / "x.parquet")
    connector = connect(Source(f"parquet:///{tmp_path}/x.parquet"))
    bound = binding("x", types(a="text", b="int"), ["a"])
    assert [row["b"] for row in looked_up(connector, bound, ("x",))] == [1, 3]


def test_the_filter_drops_most_rows_before_it_looks_at_values() -> None:
    bound: Binding = binding("x", types(a="int", b="text"), ["a"])
    batch = pa.record_batch({"a": pa.array(range(1000), pa.uint16()), "b": ["x"] * 1000})
    wanted = KeyFilter(bound, [(7,), (-1,), (1 << 20,)])
    assert wanted._coarse(batch).num_rows == 1
    assert values(bound, wanted.matching(iter([batch]))) == [{"a": 7, "b": "x"}]
