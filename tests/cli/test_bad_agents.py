"""Mistakes in the files of an agent or a coordinator: named by ``doctor``, refused by ``run`` with the same words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from operated import run_paritree
from shop import SECRET, Shop

AGENT = """region = "eu"
name = "a1"
datasets = "datasets.toml"
master_key = "file:master.key"
spool = "spool"
[coordinator]
address = "127.0.0.1:1"
ca = "{pki}/ca.pem"
cert = "{pki}/agent-eu-a1.pem"
key = "{pki}/agent-eu-a1.key"
[connections.main]
url = "sqlite:///a.db"
"""
COORDINATOR = """listen = "127.0.0.1:0"
datasets = "datasets.toml"
cert = "{pki}/coordinator.pem"
key = "{pki}/coordinator.key"
ca = "{pki}/ca.pem"
[store]
url = "sqlite:///store.db"
"""
DATASETS = """[dataset.orders]
key = ["id"]
[dataset.orders.columns]
id = "int"
name = "text"
[dataset.orders.regions.eu]
connection = "main"
table = "orders"
[dataset.orders.regions.us]
connection = "main"
table = "orders"
"""
AGENT_MISTAKES: dict[str, tuple[str, str, list[str]]] = {
    "another region": ('region = "eu"', 'region = "us"', ["agent-eu-a1.pem", "us", "correct region and name"]),
    "another name": ('name = "a1"', 'name = "a9"', ["agent-eu-a1.pem", "a9"]),
    "unknown key of the file": (
        'spool = "spool"',
        'spool = "spool"\nshard_row = 5',
        ["agent.toml", "shard_row", "shard_rows"],
    ),
    "absent master key": ("file:master.key", "file:none.key", ["master_key", "none.key"]),
    "open master key": ("file:master.key", "file:open.key", ["open.key", "chmod 600"]),
    "malformed master key": ("file:master.key", "file:short.key", ["master_key"]),
    "a certificate as authority": ("ca.pem", "agent-eu-a1.pem", ["agent-eu-a1.pem", "not issued"]),
    "absent private key": ("agent-eu-a1.key", "none.key", ["none.key", "cannot read"]),
    "another private key": ("agent-eu-a1.key", "coordinator.key", ["coordinator.key", "does not belong"]),
    "no address": ("127.0.0.1:1", "nowhere", ["coordinator.address", "nowhere"]),
    "absent connection": ("connections.main", "connections.mian", ["'main'", "mian"]),
    "password in a URL": ("sqlite:///a.db", f"postgresql://u:{SECRET}@h/d", ["connections.main.url", "password"]),
    "a file as spool": ('spool = "spool"', 'spool = "a.db"', ["a.db", "File exists"]),
    "no number": ('spool = "spool"', 'spool = "spool"\nshard_rows = "many"', ["shard_rows", "integer"]),
    "an index of no dataset": (
        "[coordinator]",
        '[refresh.nope]\nchanges = "none"\n[coordinator]',
        ["refresh.nope", "no dataset 'nope'"],
    ),
    "an index that cannot follow": (
        "[coordinator]",
        '[refresh.orders]\nchanges = "slot"\n[coordinator]',
        ["refresh.orders", "sqlite has no replication slots"],
    ),
    "a limit of no dataset": (
        "[coordinator]",
        "[throttle]\ndataset_snapshot_max_s = { nope = 5 }\n[coordinator]",
        ["dataset_snapshot_max_s", "nope"],
    ),
    "a limit that nothing keeps to": (
        "[coordinator]",
        "[throttle]\nreplica_lag_max_s = 5\n[coordinator]",
        ["replica_lag_max_s is for PostgreSQL"],
    ),
    "unknown disclosure": (
        'spool = "spool"',
        'spool = "spool"\npolicy = { disclosure = "all" }',
        ["policy.disclosure", "tokens"],
    ),
}
DATASET_MISTAKES: dict[str, tuple[str, str, list[str]]] = {
    "unknown type": ('id = "int"', 'id = "integer"', ["dataset.orders.columns.id", "integer"]),
    "unknown key column": ('key = ["id"]', 'key = ["idd"]', ["dataset.orders.key", "'idd'", "'id'"]),
    "no key": ('key = ["id"]', "", ["dataset.orders", "'key' is missing"]),
    "unknown table of the file": ("orders.columns", "orders.colums", ["dataset.orders.colums", "columns"]),
    "unknown rule": ('"text"', '{ type = "text", rules = ["upper"] }', ["columns.name", "casefold"]),
    "tolerance": ('"text"', '{ type = "float", tolerance = -0.1 }', ["columns.name", "tolerance", "above 0"]),
    "malformed": ("[dataset.orders]", "[dataset.orders", ["line 1"]),
}
SOURCE_MISTAKES: dict[str, tuple[str, str, str, list[str]]] = {
    "absent table": ("datasets.toml", 'table = "orders"', 'table = "ordres"', ["'ordres'", "'orders'"]),
    "absent column": ("datasets.toml", 'name = "text"', 'nmae = "text"', ["nmae", "name"]),
    "absent file": ("agent.toml", "sqlite:///a.db", "sqlite:///none.db", ["none.db"]),
}


@pytest.fixture
def files(shop: Shop, pki_dir: Path) -> Shop:
    """The shop with an agent's, a coordinator's and a datasets file, all good."""
    for name, text in (("agent.toml", AGENT), ("coordinator.toml", COORDINATOR), ("datasets.toml", DATASETS)):
        (shop.folder / name).write_text(text.replace("{pki}", str(pki_dir)))
    for name, text, mode in (("master", "ab" * 32, 0o600), ("open", "ab" * 32, 0o644), ("short", "ab", 0o600)):
        path = shop.folder / f"{name}.key"
        path.write_text(text + "\n")
        path.chmod(mode)
    return shop


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def run(shop: Shop, command: str) -> str:
    """stderr of ``agent run`` or ``coordinator run``, which must refuse to start."""
    done = run_paritree(command, "run", "--config", f"{command}.toml", cwd=shop.folder)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr
    return str(done.stderr)


def test_good_files_lack_only_the_coordinator(files: Shop) -> None:
    said = files.run("doctor", "--config", "agent.toml")
    assert said.code == 3
    (down,) = [check for check in said.document["checks"] if check["level"] not in ("ok", "note")]
    assert (down["what"], down["level"]) == ("coordinator", "unreachable")


@pytest.mark.parametrize("case", AGENT_MISTAKES)
def test_agent_files(files: Shop, case: str) -> None:
    old, new, words = AGENT_MISTAKES[case]
    change(files.folder / "agent.toml", old, new)
    said = files.run("doctor", "--config", "agent.toml")
    assert said.code == 2
    assert said.document["ok"] is False
    told = run(files, "agent")
    for word in words:
        assert word in json.dumps(said.document, ensure_ascii=False)
        assert word in told


@pytest.mark.parametrize("command", ["agent", "coordinator"])
@pytest.mark.parametrize("case", DATASET_MISTAKES)
def test_datasets_files(files: Shop, command: str, case: str) -> None:
    old, new, words = DATASET_MISTAKES[case]
    change(files.folder / "datasets.toml", old, new)
    told = run(files, command)
    assert "datasets.toml" in told
    for word in words:
        assert word in told


@pytest.mark.parametrize(
    ("watch", "words"),
    [
        ("[watch.ordres]", ["coordinator.toml", "watch.ordres", "datasets.toml has no", "did you mean 'orders'?"]),
        ("[watch.x]", ["watch.x", "known: orders"]),
        ("[watch.orders]\nwindow_s = 0", ["watch.orders.window_s"]),
        ("[watch.orders]\nidle_s = -1", ["watch.orders.idle_s"]),
        ("[watch.orders]\nevery_s = 5", ["watch.orders", "every_s"]),
    ],
)
def test_what_a_coordinator_is_to_watch(files: Shop, watch: str, words: list[str]) -> None:
    file = files.folder / "coordinator.toml"
    file.write_text(f"{file.read_text()}\n{watch}\n")
    told = run(files, "coordinator")
    for word in words:
        assert word in told


@pytest.mark.parametrize("case", SOURCE_MISTAKES)
def test_sources(files: Shop, case: str) -> None:
    """An agent starts without its sources, which may come later; doctor tells what is wrong with them now."""
    name, old, new, words = SOURCE_MISTAKES[case]
    change(files.folder / name, old, new)
    said = files.run("doctor", "--config", "agent.toml")
    assert said.code == 2
    wrong = [check for check in said.document["checks"] if check["level"] == "error"]
    for word in words:
        assert word in json.dumps(wrong)
    assert all(check["fix"] for check in wrong)


PKI: dict[str, tuple[list[str], list[str]]] = {
    "a second authority": (["ca", "made"], ["made/ca.pem exists", "--force"]),
    "no authority": (["agent", "none", "--region", "eu", "--name", "a"], ["none/ca.pem", "paritree pki ca"]),
    "a file as authority": (["agent", "a.db", "--region", "eu", "--name", "a"], ["a.db/ca.pem"]),
    "a name with a space": (["agent", "made", "--region", "e u", "--name", "a"], ["--region", "'e u'", "letters"]),
    "no host": (["coordinator", "made", "--dns", "bad host"], ["--dns", "'bad host'"]),
    "days": (["operator", "made", "--name", "o", "--days", "0"], ["--days"]),
    "a second key": (["dataset-key", "master.key"], ["master.key exists"]),
    "no certificate": (["show", "master.key"], ["master.key", "not a PEM certificate"]),
    "a directory": (["show", "."], ["Is a directory"]),
}


@pytest.mark.parametrize("case", PKI)
def test_pki(files: Shop, case: str) -> None:
    assert run_paritree("pki", "ca", "made", cwd=files.folder).returncode == 0
    arguments, words = PKI[case]
    said = files.refused("pki", *arguments)
    for word in words:
        assert word in said.error
