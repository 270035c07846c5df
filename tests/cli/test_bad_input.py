"""What bad input gets: the right exit code, a message that names file, key or flag and the next step, never "equal"."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing

import pyarrow as pa
import pytest
from operated import run_paritree
from shop import DOWN, SECRET, Shop


def test_two_good_tables_are_equal(shop: Shop) -> None:
    """What the others are measured against."""
    said = shop.run("diff", *shop.orders)
    assert (said.code, said.document["verdict"]) == (0, "equal")


# --- exit 2: the caller's own flags ---------------------------------------------------------------------------------

FLAGS: Sequence[tuple[Sequence[str], Sequence[str]]] = [
    (["--key", "idd"], ["key", "'idd'", "did you mean 'id'"]),
    (["--columns", "nam"], ["columns", "'nam'", "did you mean 'name'"]),
    (["--ignore", "nam"], ["ignore", "'nam'", "did you mean 'name'"]),
    (["--ignore", "id"], ["'id'", "another key"]),
    (["--precision", "at=ns"], ["--precision at=ns", "s, ms, us"]),
    (["--precision", "at"], ["--precision at", "COLUMN=VALUE"]),
    (["--precision", "att=ms"], ["precision", "'att'", "did you mean 'at'"]),
    (["--precision", "name=ms"], ["'name'", "text"]),
    (["--rule", "name=upper"], ["--rule name=upper", "casefold"]),
    (["--rule", "id=nfc"], ["'id'", "not int"]),
    (["--reveal", "all"], ["--reveal all", "tokens"]),
    (["--executor", "cluster"], ["--executor cluster", "serial, threads, dask"]),
    (["--digester", "quick"], ["--digester quick", "compiled"]),
    (["--lag-max", "inf"], ["--lag-max"]),
    (["--where", "no_such(("], ["--where", "eu"]),
    (["--where", "nme = 'x'"], ["nme", "eu"]),
    (["--key", "*", "--tolerance", "id=1"], ["'id'", "--tolerance id"]),
    (["--limit", "-1"], ["--limit"]),
    (["--limit", "ten"], ["--limit"]),
    (["--lag-max", "-1"], ["--lag-max"]),
    (["--workers", "0"], ["--workers"]),
    (["--shard-rows", "0"], ["--shard-rows"]),
]


@pytest.mark.parametrize(("flags", "words"), FLAGS, ids=lambda given: " ".join(given)[:40])
def test_flags_of_diff(shop: Shop, flags: list[str], words: list[str]) -> None:
    said = shop.refused("diff", *shop.orders, *flags)
    for word in words:
        assert word in said.error
        assert word in said.stderr


@pytest.mark.parametrize("command", [("sweep", "orders"), ("watch", "orders"), ("init", "eu=sqlite:///eu.db")])
def test_only_diff_takes_a_predicate(shop: Shop, command: tuple[str, ...]) -> None:
    """What is swept for good is a whole dataset, or a bucket of a scope that the region's own file declares."""
    said = run_paritree(*command, "--where", "id > 5", cwd=shop.folder)
    assert (said.returncode, said.stdout) == (2, "")
    assert "--where" in said.stderr


TARGETS: dict[str, tuple[Callable[[Shop], list[str]], list[str]]] = {
    "one region": (lambda shop: [shop.sqlite("eu")], ["two regions", "eu=URL#TABLE"]),
    "one name for two": (lambda shop: [shop.sqlite("eu"), shop.sqlite("eu")], ["same name"]),
    "no equals sign": (lambda shop: [shop.sqlite("eu"), "us#orders"], ["us#orders", "REGION=URL#TABLE"]),
    "unknown engine": (lambda shop: [shop.sqlite("eu"), "us=mysql://h/d#t"], ["us", "mysql", "postgresql"]),
    "absent table": (lambda shop: [shop.sqlite("eu"), shop.sqlite("us", "ordres")], ["us", "'ordres'", "'orders'"]),
    "no table": (lambda shop: [shop.sqlite("eu"), shop.sqlite("us", "")], ["us", "#TABLE", "orders"]),
    "absent file": (lambda shop: [shop.sqlite("eu"), shop.sqlite("us", file="no.db")], ["us", "no.db"]),
    "a directory": (lambda shop: [shop.sqlite("eu"), shop.sqlite("us", file="folder.db")], ["us", "is a directory"]),
    "a directory of CSV": (lambda shop: [shop.sqlite("eu"), f"us=csv:///{shop.folder}/folder.db"], ["is a directory"]),
    "another file": (lambda shop: [shop.sqlite("eu"), shop.sqlite("us", file="text.db")], ["text.db", "SQLite"]),
    "no Parquet": (lambda shop: [shop.sqlite("eu"), f"us=parquet:///{shop.folder}/text.db"], ["text.db", "Parquet"]),
    "an empty CSV": (lambda shop: [shop.sqlite("eu"), shop.csv("us", "")], ["us.csv", "header"]),
    "password": (lambda shop: [shop.sqlite("eu"), f"us=postgresql://u:{SECRET}@h/d#t"], ["PARITREE_PASSWORD_US"]),
    "password option": (lambda shop: [shop.sqlite("eu"), f"us={DOWN}?password={SECRET}#t"], ["password"]),
    "no key": (lambda shop: [shop.sqlite("eu", "nulls"), shop.sqlite("us", "nulls")], ["key", "--key a,b"]),
    "bad port": (lambda shop: [shop.sqlite("eu"), "us=cassandra://h:99999/x#t"], ["us", "99999"]),
}


@pytest.mark.parametrize("case", TARGETS)
def test_targets_of_diff(shop: Shop, case: str) -> None:
    (shop.folder / "folder.db").mkdir()
    (shop.folder / "text.db").write_text("this is no database\n" * 100)
    targets, words = TARGETS[case]
    said = shop.refused("diff", *targets(shop))
    for word in words:
        assert word in said.error
    assert said.document["error"]["next_step"]


def test_types_that_cannot_be_compared(shop: Shop) -> None:
    ids, micros = pa.array([1, 2]), pa.array([0, 1], pa.timestamp("us", "UTC"))
    eu = shop.parquet("eu", id=ids, n=pa.array(["x", "y"]), at=pa.array([0, 1], pa.timestamp("us")))
    said = shop.refused("diff", eu, shop.parquet("us", id=ids, n=pa.array([True, False]), at=micros), "--key", "id")
    for word in ("'n'", "text (string)", "bool (bool)", "--ignore n", "'at'", "never mixed", "--ignore at"):
        assert word in said.error


def test_precision_that_differs_without_a_rule(shop: Shop) -> None:
    ids = pa.array([1, 2])
    eu = shop.parquet("eu", id=ids, at=pa.array([0, 1_000], pa.timestamp("ms")))
    us = shop.parquet("us", id=ids, at=pa.array([1, 1_000_000], pa.timestamp("us")))
    said = shop.refused("diff", eu, us, "--key", "id")
    assert "eu: ms, us: us" in said.error
    assert "--precision at=ms" in said.error
    assert shop.run("diff", eu, us, "--key", "id", "--precision", "at=ms").code == 0


def test_an_unreadable_file(shop: Shop) -> None:
    """Told by a process that has no rights to it, as root reads everything."""
    (shop.folder / "b.db").chmod(0)
    done = run_paritree("diff", *shop.orders, "--json", cwd=shop.folder)
    if done.returncode != 0:  # not root
        assert done.returncode in (2, 3)
        assert "b.db" in done.stderr
    assert "Traceback" not in done.stderr


# --- exit 3: what could not be compared -----------------------------------------------------------------------------


def test_an_unreachable_region_is_unknown_and_the_rest_is_compared(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.folder / "b.db")) as connection, connection:
        connection.execute("UPDATE orders SET name = 'z' WHERE id = 2")
    said = shop.run("diff", *shop.orders, f"ap={DOWN}#orders", "--lag-max", "0")
    assert said.code == 1, "a difference that was found is not hidden"
    assert [f["key"] for f in said.document["findings"]] == [{"id": 2}]
    (lost,) = [verdict for verdict in said.document["verdicts"] if verdict["verdict"] == "unknown"]
    assert lost["regions"] == ["ap"]
    assert "Connection refused" in lost["reason"]


def test_with_equal_others_an_unreachable_region_is_still_unknown(shop: Shop) -> None:
    said = shop.run("diff", *shop.orders, f"ap={DOWN}#orders")
    assert (said.code, said.document["verdict"]) == (3, "unknown")


def test_fewer_than_two_reachable_regions(shop: Shop) -> None:
    said = shop.run("diff", shop.sqlite("eu"), f"us={DOWN}#orders")
    assert said.code == 3
    assert "fewer than two regions" in said.error
    assert "127.0.0.1" in said.error
    assert "paritree doctor" in said.document["error"]["next_step"]


def test_null_keys_are_dead_letters(shop: Shop) -> None:
    said = shop.unknown(shop.sqlite("eu", "nulls"), shop.sqlite("us", "nulls"), "--key", "id")
    assert "NULL in a key column" in said.reasons
    assert [region["dead_letters"] for region in said.document["regions"]] == [1, 1]


def test_duplicate_keys_are_counted(shop: Shop) -> None:
    """Equal multisets are equal: the same key with the same rows, as often on both sides."""
    said = shop.run("diff", shop.sqlite("eu", "twice"), shop.sqlite("us", "twice"), "--key", "id", "--lag-max", "0")
    assert (said.code, said.document["verdict"]) == (0, "equal")
    assert said.document["summary"]["duplicate"] == {"eu": 1, "us": 1}


def test_values_that_do_not_fit_are_dead_letters(shop: Shop) -> None:
    said = shop.unknown(shop.sqlite("eu", "misfits"), shop.sqlite("us", "misfits"))
    assert "not a number" in said.reasons
    assert [region["dead_letters"] for region in said.document["regions"]] == [1, 1]
    assert "seven" not in json.dumps(said.document)


def test_a_damaged_file_loses_its_region(shop: Shop) -> None:
    good = shop.csv("eu", "id,v\n1,2\n")
    said = shop.unknown(good, shop.csv("us", "id,v\n1\n"), "--key", "id")
    assert "us.csv, row 2" in said.reasons


def test_a_key_finer_than_a_look_up_is_never_missing(shop: Shop) -> None:
    """The row is there; it could just not be found again by a key in microseconds."""
    fine = shop.csv("eu", "k,v\n2020-01-01T00:00:00.0000015Z,1\n2020-01-01T00:00:01Z,1\n")
    ticks = pa.array([1_577_836_800_000_001, 1_577_836_801_000_000], pa.timestamp("us", "UTC"))
    said = shop.unknown(fine, shop.parquet("us", k=ticks, v=pa.array(["1", "1"])), "--key", "k")
    assert said.document["summary"]["missing"] == {}
    assert said.document["findings"] == []
    assert "finer than a microsecond" in said.reasons


def test_empty_tables_are_equal_and_one_empty_table_is_not(shop: Shop) -> None:
    said = shop.run("diff", shop.sqlite("eu", "empty"), shop.sqlite("us", "empty"))
    assert (said.code, [region["rows"] for region in said.document["regions"]]) == (0, [0, 0])
    with closing(sqlite3.connect(shop.folder / "b.db")) as connection, connection:
        connection.execute("INSERT INTO empty VALUES (1, 'x')")
    said = shop.run("diff", shop.sqlite("eu", "empty"), shop.sqlite("us", "empty"), "--lag-max", "0")
    assert (said.code, said.document["summary"]["missing"]) == (1, {"eu": 1})


def test_a_declared_type_decides_for_a_column_without_any(shop: Shop) -> None:
    us = shop.csv("us", "id,name,at\n1,x,2020-01-01 00:00:00\n2,y,2020-01-01 00:00:00.000\n")
    said = shop.run("diff", shop.sqlite("eu"), us)
    assert (said.code, said.document["verdict"]) == (0, "equal")


def test_keys_longer_than_a_message(shop: Shop) -> None:
    """Keys travel sealed and in clear only where a message has room; the findings are the same."""
    sizes = (400_000, 600_000, 700_000, 1_200_000)
    for file, skipped in (("a.db", 0), ("b.db", 3)):
        with closing(sqlite3.connect(shop.folder / file)) as connection, connection:
            connection.execute("CREATE TABLE long (k TEXT PRIMARY KEY, v INTEGER)")
            rows = [(chr(97 + number) * size, 1) for number, size in enumerate(sizes)]
            connection.executemany("INSERT INTO long VALUES (?, ?)", [("same", 1), *rows[skipped:]])
    with closing(sqlite3.connect(shop.folder / "b.db")) as connection, connection:
        connection.execute("UPDATE long SET v = 2 WHERE length(k) > 1000000")
    said = shop.run("diff", shop.sqlite("eu", "long"), shop.sqlite("us", "long"), "--lag-max", "0")
    assert (said.code, said.document["verdict"]) == (1, "different")
    assert said.document["summary"]["missing"] == {"us": 3}
    assert said.document["summary"]["different"] == 1
    assert said.document["summary"]["unknown"] == 0
    lengths = sorted(len(finding["key"]["k"]) if finding["key"] else 0 for finding in said.document["findings"])
    assert lengths == [0, 400_000, 600_000, 700_000]


def test_a_process_of_its_own_answers_the_same(shop: Shop) -> None:
    done = run_paritree("diff", *shop.orders, "--key", "idd", "--json", cwd=shop.folder)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["next_step"] == "did you mean 'id'?"
    assert "Traceback" not in done.stderr
