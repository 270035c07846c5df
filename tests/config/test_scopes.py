"""Scopes in an agent's file: what they are, and every way to declare one that cuts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from paritree.config.agent import load_agent
from paritree.config.scopes import scopes_of
from paritree.core.errors import ConfigError
from paritree.core.profile import Profile
from paritree.core.scope import Scope
from paritree.core.types import parse_type

AGENT = """
region = "eu"
name = "eu-1"
datasets = "datasets.toml"
master_key = "file:master.key"
spool = "spool"
[coordinator]
address = "coordinator.example.org:7443"
cert = "agent.pem"
key = "agent.key"
ca = "ca.pem"
[connections.main]
url = "sqlite:///a.db"
"""
GOOD = """
[scopes.orders.month]
column = "at"
kind = "month"
[scopes.orders.slice]
columns = ["id", "tenant"]
kind = "hash"
buckets = 64
"""
PROFILES = {
    "orders": Profile(
        "orders", ("id",), {n: parse_type(t) for n, t in (("id", "int"), ("at", "timestamp"), ("tenant", "text"))}
    )
}


def scopes(folder: Path, text: str) -> dict[str, dict[str, Scope]]:
    (folder / "agent.toml").write_text(AGENT + text)
    config = load_agent(folder / "agent.toml")
    return scopes_of(config.scopes, PROFILES, config.file)


def test_scopes_are_read(tmp_path: Path) -> None:
    assert scopes(tmp_path, "") == {}
    assert scopes(tmp_path, GOOD)["orders"] == {
        "month": Scope("month", "month", ("at",)),
        "slice": Scope("slice", "hash", ("id", "tenant"), 64),
    }


@pytest.mark.parametrize(
    ("old", "new", "where", "fix"),
    [
        ('kind = "month"', "", "scopes.orders.month: 'kind' is missing", "kind"),
        ('kind = "month"', 'kind = "week"', "scopes.orders.month.kind: input should be", ""),
        ('kind = "month"', 'kind = "value"', "'at' is timestamp, and value is of bool", "another column or kind"),
        ('column = "at"', "", "scopes.orders.month: needs either column or columns", "column ="),
        ('column = "at"', 'column = "at"\ncolumns = ["at"]', "needs either column or columns", "column ="),
        ('column = "at"', 'column = "seen"', "does not compare a column 'seen'", "at, id, tenant"),
        ('column = "at"', 'colunm = "at"', "unknown key", "'column'"),
        ('kind = "month"', 'kind = "month"\nwhere = "id > 5"', "scopes.orders.month.where: unknown key", ""),
        ("buckets = 64", "", "kind = 'hash', and it alone, has 1 to 65536 buckets", ""),
        ("buckets = 64", "buckets = 100000", "buckets: input should be less than", ""),
        ("scopes.orders.slice", 'scopes.orders."a b"', "'a b' has more than letters", ""),
        ("scopes.orders.slice", "scopes.order.slice", "this region has no dataset 'order'", "'orders'"),
    ],
)
def test_scopes_that_are_refused(tmp_path: Path, old: str, new: str, where: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scopes(tmp_path, GOOD.replace(old, new))
    assert "agent.toml" in caught.value.message
    assert where in caught.value.message
    assert fix in caught.value.next_step
