"""A line between two hosts that is cut off, or loses packets: namespaces and nftables, real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from conftest_tls import make_pki
from netns import ADDRESSES, Host, NotPossible, two_hosts
from processes import files_of
from servers.fleet import PARITREE, Fleet

LIMITED: Final = [
    *(sys.executable, "-c"),
    "from paritree.core import limits; limits.KEEPALIVE_S = 1.0; limits.RECONNECT_S_MAX = 2.0\n"
    "limits.DIAL_TIMEOUT_S = 3.0; from paritree.cli.main import main; main()",
]
"""The command line with a half-open connection found within 3 s."""
DATASET: Final = """
[dataset.orders]
key = ["id"]
lag_max_s = 0
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


class Apart:
    """A coordinator and agent us on one host, agent eu on another one."""

    def __init__(self, fleet: Fleet, here: Host, there: Host) -> None:
        self.fleet, self.here, self.there = fleet, here, there

    def start(self) -> None:
        settings = "exchange_timeout_s = 3\npatience_s = 4"
        self.fleet.start_coordinator(command=[*self.here.command, *LIMITED], extra=settings, listen="0.0.0.0")
        address = f"{self.here.address}:{self.fleet.port}"
        for region, host in (("us", self.here), ("eu", self.there)):
            self.fleet.start_agent(
                region,
                f"csv:///{self.fleet.folder}/{region}/orders.csv",
                command=[*host.command, *LIMITED],
                extra='executor = "serial"',
                edit=lambda text: text.replace(f"localhost:{self.fleet.port}", address),
            )

    def paritree(self, *arguments: str) -> subprocess.Popen[str]:
        files = [f"--{name}={self.fleet.pki}/{file}" for name, file in files_of("operator-ops")]
        command = [*self.here.command, *PARITREE, *arguments, f"--address=127.0.0.1:{self.fleet.port}", *files]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def told(self, *arguments: str) -> Any:
        return result(self.paritree(*arguments, "--json"))

    def swept(self, *arguments: str) -> tuple[dict[str, Any], float]:
        report = self.told("sweep", "orders", *arguments)
        return report, report["elapsed_s"]

    def connected(self, within_s: float = 60.0) -> None:
        deadline = time.monotonic() + within_s
        while True:
            status = self.told("status")
            known = [region["connected"] for region in (status or {}).get("regions", ())]
            if len(known) == 2 and all(known):
                return
            logs = "\n".join(self.fleet.log(name)[-2_000:] for name in self.fleet.processes)
            assert time.monotonic() < deadline, f"{status}\n{logs}"


def result(process: subprocess.Popen[str]) -> Any:
    out, log = process.communicate(timeout=120)
    assert "Traceback" not in log, log
    return json.loads(out) if out else None


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("apart")
    pki = folder / "pki"
    pki.mkdir()
    make_pki(pki, hosts=("localhost", "127.0.0.1", ADDRESSES[0]))
    write(folder)
    try:
        with two_hosts() as (here, there), Fleet(folder, pki) as fleet:
            fleet.datasets(DATASET)
            running = Apart(fleet, here, there)
            running.start()
            running.connected()
            yield running
            fleet.stop_all()
    except NotPossible as reason:
        pytest.skip(f"no network namespaces: {reason}")


def write(folder: Path) -> None:
    for region in ("eu", "us"):
        rows = [f"{n},{'other' if region == 'us' and n < 20 else 'row'} {n}" for n in range(2_000)]
        (folder / region).mkdir()
        (folder / region / "orders.csv").write_text("\n".join(["id,name", *rows]) + "\n")


def right(report: dict[str, Any]) -> bool:
    return report["verdict"] == "different" and report["summary"]["different"] == report["findings_total"] == 20


def test_cut_off_a_region_is_unknown_and_comes_back(apart: Apart) -> None:
    report, usual_s = apart.swept()
    assert right(report), report["verdicts"]
    for _ in range(3):  # a machine that stops for a moment does so once
        apart.there.lose()
        report, took_s = apart.swept()
        assert report["verdict"] == "unknown"
        assert any("eu" in stated["regions"] and stated["reason"] for stated in report["verdicts"])
        assert took_s < 60.0
        apart.there.heal()
        apart.connected()
        report, took_s = apart.swept()
        assert right(report), report["verdicts"]
        if took_s <= 2 * usual_s + 1.0:
            break
    assert took_s <= 2 * usual_s + 1.0


def test_cut_off_in_the_middle_of_a_sweep_it_goes_on_afterwards(apart: Apart) -> None:
    started, deadline = apart.fleet.log("coordinator").count("sweep started"), time.monotonic() + 60.0
    sweep = apart.paritree("sweep", "orders", "--lag-max", "3", "--json")
    while apart.fleet.log("coordinator").count("sweep started") == started:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    apart.there.lose()
    time.sleep(2.0)
    apart.there.heal()
    assert right(result(sweep))


def test_packets_that_get_lost_by_chance_cost_time_only(apart: Apart) -> None:
    apart.connected()
    apart.there.lose_share(10)
    try:
        for _ in range(3):
            report, took_s = apart.swept()
            assert right(report), report["verdicts"]
            assert took_s < 60.0
    finally:
        apart.there.heal()
