"""One agent that cannot be compared: exit code 3, its reason named, and the others compared all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest_tls import now, write_pair
from servers.fleet import Fleet
from servers.flights import DATASET_COLUMNS, KEY, flights, load_sqlite

from paritree.pki import Authority

REGIONS = ("eu", "us", "ap")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refused")
    rows = flights(2_000)
    for region in REGIONS:
        load_sqlite(folder / f"{region}.db", rows)
    return folder


@pytest.fixture
def fleet(tmp_path: Path, pki_dir: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, pki_dir) as made:
        made.datasets(datasets())
        made.start_coordinator()
        yield made


def datasets(without: str = "") -> str:
    columns = "\n".join(f"{name} = {kind}" for name, kind in DATASET_COLUMNS.items() if name != without)
    key = ", ".join(f'"{name}"' for name in KEY)
    regions = "\n".join(
        f'[dataset.flights.regions.{region}]\nconnection = "main"\ntable = "flights"' for region in REGIONS
    )
    return f"[dataset.flights]\nkey = [{key}]\nlag_max_s = 0\n[dataset.flights.columns]\n{columns}\n{regions}\n"


def start(fleet: Fleet, stores: Path, region: str, edit: Callable[[str], str] = lambda text: text) -> None:
    """Start an agent from its file as ``edit`` leaves it."""
    fleet.start_agent(region, f"sqlite:///{stores}/{region}.db", edit=edit)


def assert_unknown_in_ap_only(fleet: Fleet, reason: str) -> None:
    report, code = fleet.sweep("flights")
    assert (report["verdict"], code) == ("unknown", 3)
    [stated] = report["verdicts"]
    assert stated["regions"] == ["ap"]
    assert reason in stated["reason"]
    assert {r["name"]: r["compared"] for r in report["regions"]} == {"eu": True, "us": True, "ap": False}
    assert report["findings"] == []


def test_all_alike_are_equal(fleet, stores):
    for region in REGIONS:
        start(fleet, stores, region)
    fleet.wait_connected(REGIONS)
    report, code = fleet.sweep("flights")
    assert (report["verdict"], code) == ("equal", 0)


def test_another_key_at_one_agent(fleet, stores):
    (fleet.folder / "other.key").write_text("77" * 32)
    (fleet.folder / "other.key").chmod(0o600)
    for region in REGIONS:
        start(
            fleet,
            stores,
            region,
            lambda text: text if "spool-ap" not in text else text.replace("master.key", "other.key"),
        )
    fleet.wait_connected(REGIONS)
    assert_unknown_in_ap_only(fleet, "dataset key differs")


def test_another_profile_at_one_agent(fleet, stores):
    (fleet.folder / "other.toml").write_text(datasets(without="distance"))
    for region in REGIONS:
        start(
            fleet,
            stores,
            region,
            lambda text: text if "spool-ap" not in text else text.replace("datasets.toml", "other.toml"),
        )
    fleet.wait_connected(REGIONS)
    assert_unknown_in_ap_only(fleet, "profile")


def test_a_certificate_of_another_authority_at_one_agent(fleet, stores, pki_dir):
    stranger = Authority.create("test.example", now=now())
    write_pair(fleet.folder, "stranger", stranger.agent("ap", "a1", now=now()))
    for region in ("eu", "us"):
        start(fleet, stores, region)

    def with_stranger(text: str) -> str:
        return text.replace(f"{pki_dir}/agent-ap-a1", f"{fleet.folder}/stranger")

    start(fleet, stores, "ap", with_stranger)
    fleet.wait_connected(("eu", "us"), others_may_end=True)
    assert_unknown_in_ap_only(fleet, "no agent of this region is connected")
    assert "certificate" in fleet.log("agent-ap")
