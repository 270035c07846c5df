"""What bad tables and files get from init, doctor, agent, coordinator, sweep and conformance."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from shop import DOWN, SECRET, Shop
from typer.testing import CliRunner

from paritree.cli.main import app

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
