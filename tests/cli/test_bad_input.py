"""What bad input gets: the right exit code, a message that names file, key or flag and the next step, never "equal"."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from operated import run_paritree
from typer.testing import CliRunner

from paritree.cli.main import app

SECRET = "s3cret-pa55"
DOWN = "postgresql://u@127.0.0.1:1/x"
STATEMENTS = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, at TIMESTAMP)",
    "INSERT INTO orders VALUES (1, 'x', '2020-01-01 00:00:00'), (2, 'y', '2020-01-01 00:00:00')",
    "CREATE TABLE empty (id INTEGER PRIMARY KEY, v TEXT)",
    "CREATE TABLE nulls (id INT, v TEXT)",
    "INSERT INTO nulls VALUES (1, 'a'), (2, 'b'), (NULL, 'c')",
    "CREATE TABLE twice (id INT, v TEXT)",
    "INSERT INTO twice VALUES (1, 'a'), (1, 'a'), (2, 'b')",
    "CREATE TABLE misfits (id INTEGER PRIMARY KEY, v INTEGER)",
    "INSERT INTO misfits VALUES (1, 7), (2, 'seven')",
)


@dataclass(frozen=True)
class Said:
    """What a command answered: exit code, the JSON document of its ``--json`` run, and what people saw on stderr."""

    code: int
    document: Any
    stderr: str
    stdout: str

    @property
    def error(self) -> str:
        """Message and next step as a program gets them."""
        return f"{self.document['error']['message']}\n{self.document['error']['next_step']}"

    @property
    def reasons(self) -> str:
        """Every reason of a report."""
        return "\n".join(verdict["reason"] for verdict in self.document["verdicts"])


class Shop:
    """A folder with tables, good and bad, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("a.db", "b.db"):
            with closing(sqlite3.connect(folder / name)) as connection, connection:
                for statement in STATEMENTS:
                    connection.execute(statement)

    def sqlite(self, region: str, table: str = "orders", file: str = "") -> str:
        file = file or {"eu": "a.db"}.get(region, "b.db")
        return f"{region}=sqlite:///{self.folder}/{file}" + (f"#{table}" if table else "")

    def csv(self, region: str, text: str) -> str:
        path = self.folder / f"{region}.csv"
        path.write_text(text)
        return f"{region}=csv:///{path}"

    def parquet(self, region: str, **columns: pa.Array) -> str:
        path = self.folder / f"{region}.parquet"
        pq.write_table(pa.table(columns), path)
        return f"{region}=parquet:///{path}"

    @property
    def orders(self) -> tuple[str, str]:
        return self.sqlite("eu"), self.sqlite("us")

    def run(self, *arguments: str) -> Said:
        """Run the command twice, for people and with ``--json``: both say the same, and nobody sees a traceback."""
        people = CliRunner().invoke(app, list(arguments))
        program = CliRunner().invoke(app, [*arguments, "--json"])
        assert people.exit_code == program.exit_code, (people.output, program.output)
        for result in (people, program):
            assert "Traceback" not in result.output
            assert SECRET not in result.output
        document = json.loads(program.stdout) if program.stdout else None
        assert program.stdout.count("\n") <= 1
        return Said(people.exit_code, document, people.stderr, people.stdout)

    def refused(self, *arguments: str) -> Said:
        """Exit 2, nothing compared, a next step, nothing on stdout but the error."""
        said = self.run(*arguments)
        assert said.code == 2, (said.stdout, said.stderr)
        assert set(said.document) == {"error"}
        assert said.document["error"]["exit_code"] == 2
        assert said.stdout == ""
        assert "error" in said.stderr.lower()
        return said

    def unknown(self, *arguments: str) -> Said:
        """Exit 3 with a report whose verdict is not equal anywhere."""
        said = self.run("diff", *arguments, "--lag-max", "0")
        assert said.code == 3, (said.stdout, said.stderr)
        assert said.document["verdict"] == "unknown"
        assert all(verdict["verdict"] != "equal" for verdict in said.document["verdicts"])
        return said


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    return Shop(tmp_path)


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
    (["--key", "*"], ["--key '*'", "--key a,b"]),
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


def test_duplicate_keys_are_counted_listed_and_unknown(shop: Shop) -> None:
    said = shop.unknown(shop.sqlite("eu", "twice"), shop.sqlite("us", "twice"), "--key", "id")
    assert "more than once" in said.reasons
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


# --- init and doctor ------------------------------------------------------------------------------------------------


def test_init(shop: Shop) -> None:
    assert "two regions" in shop.refused("init", shop.sqlite("eu")).error
    assert "PARITREE_PASSWORD_US" in shop.refused("init", shop.sqlite("eu"), f"us=postgresql://u:{SECRET}@h/d").error
    (shop.folder / "text.db").write_text("this is no database\n" * 100)
    said = shop.refused("init", shop.sqlite("eu"), shop.sqlite("us", file="text.db"))
    assert "us: " in said.error
    assert "text.db" in said.error
    said = shop.refused("init", *shop.orders, "--ignore", "nam")
    assert "--ignore nam" in said.error
    assert "'name'" in said.error
    said = shop.refused("init", *shop.orders, "--output", str(shop.folder / "no" / "x.toml"))
    assert "x.toml cannot be written" in said.error
    assert "--output" in said.error
    (shop.folder / "datasets.toml").write_text("mine")
    assert "--force" in shop.refused("init", *shop.orders).error
    assert (shop.folder / "datasets.toml").read_text() == "mine"
    assert not list(shop.folder.glob("*.partial"))


def test_init_with_nothing_to_write_says_why(shop: Shop) -> None:
    said = shop.run("init", shop.sqlite("eu", "nulls"), shop.sqlite("us", "nulls"))
    assert said.code == 2
    assert said.document["file"] is None
    assert 'key = ["a", "b"]' in said.document["refused"][0]["reason"]
    assert not (shop.folder / "datasets.toml").exists()
    said = shop.run("init", shop.sqlite("eu"), shop.sqlite("us", "ordres"))
    assert said.code == 2
    assert "'orders'" in said.document["refused"][0]["reason"]
    said = shop.run("init", shop.sqlite("eu"), f"us={DOWN}")
    assert said.code == 3
    assert said.error.startswith("us: ")


def test_init_pairs_files_whatever_their_names(shop: Shop) -> None:
    columns = {"id": pa.array([1]), "v": pa.array(["x"])}
    said = shop.run("init", shop.parquet("eu", **columns), shop.parquet("us", **columns))
    assert said.code == 2
    assert "knows a key" in said.document["refused"][0]["reason"]


DOCTOR: dict[str, tuple[Callable[[Shop], list[str]], int, list[str]]] = {
    "absent table": (lambda shop: [shop.sqlite("eu", "ordres")], 2, ["'ordres'", "'orders'"]),
    "no table": (lambda shop: [shop.sqlite("eu", "")], 2, ["no table is named", "#TABLE"]),
    "down": (lambda shop: [shop.sqlite("eu"), f"us={DOWN}#t"], 3, ["127.0.0.1", "check that the server runs"]),
    "down and absent": (lambda shop: [shop.sqlite("eu", "x"), f"us={DOWN}#t"], 2, ["127.0.0.1", "no table 'x'"]),
    "no key": (lambda shop: [shop.sqlite("eu", "nulls"), shop.sqlite("us", "nulls")], 2, ["--key a,b"]),
    "absent agent file": (lambda shop: ["--config", "no.toml"], 2, ["no.toml", "check the path"]),
    "malformed agent file": (lambda shop: ["--config", "bad.toml"], 2, ["bad.toml: line 2", "TOML"]),
    "a directory": (lambda shop: ["--config", "."], 2, ["directory"]),
}


@pytest.mark.parametrize("case", DOCTOR)
def test_doctor(shop: Shop, case: str) -> None:
    (shop.folder / "bad.toml").write_text("x = [\n")
    arguments, code, words = DOCTOR[case]
    said = shop.run("doctor", *arguments(shop))
    assert said.code == code
    assert said.document["ok"] is False
    for word in words:
        assert word in said.stdout
    wrong = [check for check in said.document["checks"] if check["level"] in ("error", "unreachable")]
    assert wrong


def test_doctor_of_nothing_or_of_one_name_twice(shop: Shop) -> None:
    assert "--config" in shop.refused("doctor").error
    assert "same name" in shop.refused("doctor", shop.sqlite("eu"), shop.sqlite("eu")).error
    assert "PARITREE_PASSWORD_US" in shop.refused("doctor", f"us=postgresql://u:{SECRET}@h/d#t").error


# --- files of agents, coordinators and vectors ----------------------------------------------------------------------

MALFORMED = {
    "bad.toml": (b"x = [\n", "line 2"),
    "latin.toml": (b'x = "\xe9"\n', "not UTF-8"),
    "empty.toml": (b"", "is missing"),
    "no.toml": (None, "cannot be read"),
}


@pytest.mark.parametrize("command", ["agent", "coordinator"])
@pytest.mark.parametrize("file", MALFORMED)
def test_files_of_agents_and_coordinators(shop: Shop, command: str, file: str) -> None:
    content, words = MALFORMED[file]
    if content is not None:
        (shop.folder / file).write_bytes(content)
    done = CliRunner().invoke(app, [command, "run", "--config", file])
    assert done.exit_code == 2, done.output
    assert file in done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 2, "a message and a next step"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("content", "words"), [("{", "is not JSON"), ("[]", "an object is needed"), ('{"a": 1}', "canonical version")]
)
def test_vectors(shop: Shop, content: str, words: str) -> None:
    (shop.folder / "v.json").write_text(content)
    said = shop.refused("conformance", "v.json")
    assert "v.json" in said.error
    assert words in said.error
    assert "v2.json" in shop.refused("conformance", "v2.json").error


def test_operators_files(shop: Shop, pki_dir: Path) -> None:
    flags = ["--address", "127.0.0.1:1", "--ca", "no.pem", "--cert", "no.pem", "--key", "no.key"]
    assert "no.pem" in shop.refused("sweep", "orders", *flags).error
    assert (
        "--address" in shop.refused("status", "--address", "nonsense", "--ca", "a", "--cert", "b", "--key", "c").error
    )
    assert "--all" in shop.refused("sweep").error
    assert "--limit" in shop.refused("sweep", "orders", "--limit", "-3").error
    for file in ("ca.pem", "operator-ops.pem", "operator-ops.key"):
        shutil.copy(pki_dir / file, shop.folder / file)
    mixed = ["--ca", "ca.pem", "--cert", "operator-ops.pem", "--key", "ca.pem"]
    said = shop.refused("sweep", "orders", "--address", "127.0.0.1:1", *mixed)
    assert "ca.pem" in said.error
    down = ["--ca", "ca.pem", "--cert", "operator-ops.pem", "--key", "operator-ops.key"]
    said = shop.run("sweep", "orders", "--address", "127.0.0.1:1", *down)
    assert said.code == 3
    assert "127.0.0.1:1" in said.error


def test_a_process_of_its_own_answers_the_same(shop: Shop) -> None:
    done = run_paritree("diff", *shop.orders, "--key", "idd", "--json", cwd=shop.folder)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["next_step"] == "did you mean 'id'?"
    assert "Traceback" not in done.stderr
