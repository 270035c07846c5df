"""The datasets file: what it says, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from paritree.config.datasets import LAG_MAX_S, Dataset, load_datasets
from paritree.core.errors import ConfigError
from paritree.core.types import parse_type

FULL = """
[dataset.orders]
key = ["id"]
owner = "payments"
criticality = "high"
lag_max_s = 5
version = "id"
empty_collection = "null"

[dataset.orders.columns]
id = "int"
amount = { type = "decimal", scale = 2, tolerance = 0.050 }
note = { type = "text", rules = ["rtrim", "nfc"] }
internal_note = { ignore = true }
country = "text"
full_name = "text"
ref = "text"
tags = "list<text>"

[dataset.orders.regions.eu]
connection = "main"
table = "public.orders"
options = { consistency = "ONE" }
[dataset.orders.regions.eu.columns]
amount = "total"
country = { constant = "DE" }
full_name = { expression = "first || ' ' || last" }
ref = { parts = ["a", "b"], joiner = "-" }
tags = { column = "labels" }

[dataset.orders.regions.us]
connection = "shop"
table = "orders"

[dataset.users]
key = ["tenant", "id"]
columns = { id = "uuid", tenant = "int" }
regions = { eu = {}, us = {} }
"""
SMALL = """
[dataset.orders]
key = ["id"]
[dataset.orders.columns]
id = "int"
name = "text"
amount = "decimal"
[dataset.orders.regions.eu]
connection = "main"
table = "orders"
"""


def load(folder: Path, text: str) -> dict[str, Dataset]:
    path = folder / "datasets.toml"
    path.write_text(text)
    return load_datasets(path)


def refused(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    assert str(folder / "datasets.toml") in caught.value.message
    return caught.value


def test_everything_that_a_file_can_say(tmp_path: Path) -> None:
    orders = load(tmp_path, FULL)["orders"]
    assert (orders.owner, orders.criticality, orders.lag_max_s) == ("payments", "high", 5.0)
    assert orders.version == "id"
    profile = orders.profile
    assert profile.dataset == "orders"
    assert profile.key == ("id",)
    assert profile.ignored == ("internal_note",)
    assert profile.empty_collection == "null"
    assert profile.columns["amount"] == parse_type({"type": "decimal", "scale": 2, "tolerance": "0.05"})
    assert profile.columns["note"].rules == ("nfc", "rtrim")
    assert set(profile.columns) == {"id", "amount", "note", "country", "full_name", "ref", "tags"}


def test_a_binding_has_every_compared_column(tmp_path: Path) -> None:
    orders = load(tmp_path, FULL)["orders"]
    eu = orders.binding("eu")
    assert (eu.dataset, eu.table, eu.key, dict(eu.options)) == (
        "orders",
        "public.orders",
        ("id",),
        {"consistency": "ONE"},
    )
    assert {column.name for column in eu.columns} == set(orders.profile.columns)
    assert eu.column("id").source == "id"
    assert eu.column("amount").source == "total"
    assert eu.column("tags").source == "labels"
    assert eu.column("country").constant == "DE"
    assert eu.column("full_name").expression == "first || ' ' || last"
    assert (eu.column("ref").parts, eu.column("ref").joiner) == (("a", "b"), "-")
    assert all(column.type == orders.profile.columns[column.name] for column in eu.columns)
    us = orders.binding("us")
    assert all(column.source == column.name for column in us.columns)


def test_defaults(tmp_path: Path) -> None:
    orders = load(tmp_path, SMALL)["orders"]
    assert (orders.owner, orders.criticality, orders.lag_max_s) == ("", "normal", LAG_MAX_S)
    assert orders.version == ""
    assert orders.profile.empty_collection == "keep"


def test_a_region_may_only_be_named_and_then_has_no_binding(tmp_path: Path) -> None:
    users = load(tmp_path, FULL)["users"]
    assert list(users.regions) == ["eu", "us"]
    with pytest.raises(ConfigError, match=r"dataset users: region 'eu' has no connection and table") as caught:
        users.binding("eu")
    assert "[dataset.users.regions.eu]" in caught.value.next_step
    with pytest.raises(ConfigError, match=r"no region 'ue'") as caught:
        users.binding("ue")
    assert "eu, us" in caught.value.next_step


def test_a_dataset_without_a_key_is_known_by_its_whole_rows(tmp_path: Path) -> None:
    orders = load(tmp_path, SMALL.replace('key = ["id"]', 'key = "*"'))["orders"]
    assert orders.profile.whole_row
    assert orders.profile.key == tuple(sorted(orders.profile.columns))
    assert orders.binding("eu").key == ()
    with pytest.raises(ConfigError, match="has a tolerance"):
        load(
            tmp_path,
            SMALL.replace('key = ["id"]', 'key = "*"').replace('"decimal"', '{ type = "decimal", tolerance = 1 }'),
        )


@pytest.mark.parametrize(("given", "text"), [('"DE"', "DE"), ("5", "5"), ("true", "true"), ("1.5", "1.5"), ('""', "")])
def test_constants_become_text(tmp_path: Path, given: str, text: str) -> None:
    orders = load(tmp_path, SMALL + f"columns = {{ name = {{ constant = {given} }} }}\n")["orders"]
    assert orders.binding("eu").column("name").constant == text


def test_the_profile_id_does_not_depend_on_bindings(tmp_path: Path) -> None:
    one = load(tmp_path, SMALL)["orders"].profile.profile_id
    assert load(tmp_path, SMALL + "columns = { name = 'title' }\n")["orders"].profile.profile_id == one
    assert load(tmp_path, SMALL.replace('"decimal"', '"decimal(2)"'))["orders"].profile.profile_id != one


@pytest.mark.parametrize(
    ("old", "new", "where", "fix"),
    [
        ('name = "text"', 'name = "txt"', "dataset.orders.columns.name: unknown type 'txt'", "known"),
        ('name = "text"', "name = 5", "dataset.orders.columns.name: a type is text or a table", 'name = "text"'),
        ('name = "text"', "name = []", "dataset.orders.columns.name: a type is text or a table", "text"),
        ('name = "text"', '"" = "text"', 'dataset.orders.columns."": a column needs a name', ""),
        ('name = "text"', 'name = { type = "text", scale = 2 }', "columns.name: scale is for decimals", ""),
        ('name = "text"', 'name = { type = "text", precision = [] }', "columns.name: precision is for time", ""),
        ('name = "text"', 'name = { type = "time", precision = [] }', "columns.name: precision is for time", ""),
        ('name = "text"', 'name = { type = "text", rules = ["trim"] }', "columns.name: rules is a list", ""),
        ('name = "text"', 'name = { type = "text", colour = 1 }', "columns.name: unknown rule 'colour'", "known rules"),
        ('name = "text"', "name = { scale = 2 }", "columns.name: 'type' is missing", ""),
        ('name = "text"', "name = { ignore = false }", "columns.name: 'type' is missing", ""),
        ('name = "text"', "name = { ignore = 1 }", "columns.name.ignore: must be true or false", ""),
        (
            'amount = "decimal"',
            'amount = { type = "decimal", tolerance = 0 }',
            "columns.amount: a tolerance is",
            "0.01",
        ),
        ('name = "text"', 'name = { type = "text", tolerance = 1 }', "columns.name: a tolerance is for", "take"),
        ('id = "int"', 'id = { type = "decimal", tolerance = 1 }', "columns.id.tolerance: a key column is", "'id'"),
        ('id = "int"', "id = { ignore = true }", "orders.key: key column 'id' is ignored", "compare it"),
        ('key = ["id"]', 'key = ["nam"]', "orders.key: no column 'nam'", "'name'"),
        ('key = ["id"]', 'key = ["id", "id"]', "orders.key: 'id' is named twice", ""),
        ('key = ["id"]', "key = []", "orders: 'key' is missing", "key = ["),
        ('key = ["id"]', "", "orders: 'key' is missing", "key = ["),
        ('key = ["id"]', 'key = "id"', "orders.key: must be a list, not text", ""),
        ('key = ["id"]', 'key = ["*"]', "orders.key: no column '*'", 'key = "*"'),
        ('key = ["id"]', "key = [1]", "orders.key: must be a list of names", ""),
        ('key = ["id"]', 'key = ["id"]\nownr = "x"', "orders.ownr: unknown key", "'owner'"),
        ('key = ["id"]', 'key = ["id"]\nowner = 3', "orders.owner: must be text", ""),
        ('key = ["id"]', 'key = ["id"]\ncriticality = "hgh"', "orders.criticality: 'hgh' is not one of", "'high'"),
        ('key = ["id"]', 'key = ["id"]\nlag_max_s = "2"', "orders.lag_max_s: must be a number", ""),
        ('key = ["id"]', 'key = ["id"]\nversion = "nam"', "orders.version: 'nam' is no compared column", "'name'"),
        (
            'key = ["id"]',
            'key = ["id"]\nversion = "at"',
            "orders.version: 'at' is no compared column",
            "known: amount, id, name",
        ),
        (
            'key = ["id"]',
            'key = ["id"]\nversion = "name"',
            "orders.version: 'name' is text",
            "timestamp, datetime, int",
        ),
        ('key = ["id"]', 'key = ["id"]\nlag_max_s = true', "orders.lag_max_s: must be a number", ""),
        ('key = ["id"]', 'key = ["id"]\nlag_max_s = -1', "orders.lag_max_s: must be a finite number", ""),
        ('key = ["id"]', 'key = ["id"]\nlag_max_s = inf', "orders.lag_max_s: must be a finite number", ""),
        ('key = ["id"]', 'key = ["id"]\nempty_collection = "nul"', "orders.empty_collection", "'null'"),
        ("[dataset.orders.regions.eu]", '[dataset.orders.regions."e u"]', 'regions."e u": a region\'s name', ""),
        (
            "[dataset.orders.regions.eu]",
            "[dataset.orders.regions.EU]\n[dataset.orders.regions.eu]",
            "only by case",
            "rename",
        ),
        ('connection = "main"', "", "regions.eu: 'connection' is missing", "connection = "),
        ('connection = "main"', "connection = 1", "regions.eu.connection: must be text", ""),
        ('table = "orders"', "", "regions.eu: 'table' is missing", "table = "),
        ('table = "orders"', 'table = ""', "regions.eu.table: is empty", ""),
        ('table = "orders"', 'tabel = "orders"', "regions.eu.tabel: unknown key", "'table'"),
        # only `diff` takes a predicate: a coordinator names a scope and a bucket, whose rows agents declare
        ('key = ["id"]', 'key = ["id"]\nwhere = "id > 5"', "orders.where: unknown key", ""),
        ('table = "orders"', 'table = "orders"\nwhere = "id > 5"', "regions.eu.where: unknown key", ""),
        ("[dataset.orders]", '[dataset."or ders"]', 'dataset."or ders": a dataset\'s name', ""),
        ("[dataset.orders]", "[datasets.x]\n[dataset.orders]", "datasets: unknown key", "'dataset'"),
    ],
)
def test_a_mistake_names_its_place_and_fix(tmp_path: Path, old: str, new: str, where: str, fix: str) -> None:
    text = SMALL.replace("dataset.orders", 'dataset."or ders"') if "or ders" in new else SMALL.replace(old, new, 1)
    error = refused(tmp_path, text)
    assert where in error.message
    assert fix in error.next_step


@pytest.mark.parametrize(
    ("mapping", "where", "fix"),
    [
        ("nme = 'x'", "eu.columns.nme: maps a column that the dataset does not have", "'name'"),
        ("name = ''", "eu.columns.name: is empty", ""),
        ("name = 5", "eu.columns.name: must be a table", ""),
        ("name = {}", "eu.columns.name: needs exactly one of", "source column"),
        ("name = { constant = 'a', column = 'b' }", "eu.columns.name: needs exactly one of", ""),
        ("name = { konstant = 'a' }", "eu.columns.name.konstant: unknown key", "'constant'"),
        ("name = { constant = [] }", "eu.columns.name.constant: must be text, a number", ""),
        ("name = { expression = 7 }", "eu.columns.name.expression: must be text", ""),
        ("name = { column = 'x', joiner = '-' }", "eu.columns.name.joiner: belongs to parts", ""),
        ("name = { parts = ['a'] }", "eu.columns.name.parts: needs at least two", ""),
        ("name = { parts = ['a', 'a'] }", "eu.columns.name.parts: 'a' is named twice", ""),
        ("name = { parts = ['a', 'b'], joiner = 1 }", "eu.columns.name.joiner: must be text", ""),
        ("amount = { parts = ['a', 'b'] }", "eu.columns.amount: parts fold into text", "text"),
    ],
)
def test_a_wrong_mapping_names_its_place_and_fix(tmp_path: Path, mapping: str, where: str, fix: str) -> None:
    error = refused(tmp_path, SMALL + f"columns = {{ {mapping} }}\n")
    assert where in error.message
    assert fix in error.next_step


def test_an_ignored_column_may_be_mapped(tmp_path: Path) -> None:
    text = SMALL.replace('name = "text"', 'name = { type = "text", ignore = true }')
    orders = load(tmp_path, text + "columns = { name = 'title' }\n")["orders"]
    assert [column.name for column in orders.binding("eu").columns] == ["id", "amount"]


def test_files_without_datasets_regions_or_columns(tmp_path: Path) -> None:
    assert "no dataset" in refused(tmp_path, "").message
    assert "paritree init" in refused(tmp_path, "[dataset]\n").next_step
    no_regions = SMALL[: SMALL.index("[dataset.orders.regions")]
    assert "dataset.orders: no region has this dataset" in refused(tmp_path, no_regions).message
    no_columns = '[dataset.orders]\nkey = ["id"]\nregions = { eu = {} }\n'
    assert "no column is compared" in refused(tmp_path, no_columns).message
    only_ignored = no_columns + "columns = { id = { ignore = true } }\n"
    assert "no column is compared" in refused(tmp_path, only_ignored).message
    assert "must be a table" in refused(tmp_path, "dataset = 3\n").message
    assert "dataset.orders: must be a table" in refused(tmp_path, "[dataset]\norders = 3\n").message


def test_more_regions_than_a_sweep_takes(tmp_path: Path) -> None:
    regions = "".join(f"[dataset.orders.regions.r{number}]\n" for number in range(65))
    assert "at most 64" in refused(tmp_path, SMALL[: SMALL.index("[dataset.orders.regions")] + regions).message
