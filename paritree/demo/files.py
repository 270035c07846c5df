"""The demonstration's folder: what each region, the coordinator and the operator have on their own machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from paritree.demo.drift import REGIONS, Planted
from paritree.demo.flights import COLUMNS, KEY, TABLE
from paritree.demo.stores import write_duckdb, write_parquet, write_sqlite

DATASET: Final = "flights"
PURPOSE: Final = "demo"
"""What the operator states to get clear keys, and what every region's policy grants them for."""
HOST: Final = "127.0.0.1"
CLIENT_FILE: Final = "paritree.toml"
_URLS: Final[Mapping[str, str]] = {
    "eu": "sqlite:///{}/flights.db",
    "us": "parquet:///{}/flights/*.parquet",
    "ap": "duckdb:///{}/flights.duckdb",
}

_AGENT: Final = """\
region = "{region}"
name = "{region}-1"
datasets = "../datasets.toml"
master_key = "file:../master.key"
spool = "spool"

[coordinator]
address = "{address}"
cert = "../pki/agent-{region}-{region}-1.pem"
key = "../pki/agent-{region}-{region}-1.key"
ca = "../pki/ca.pem"

[connections.main]
url = {url}

[policy]
disclosure = "keys"
purposes = ["{purpose}"]
"""
_COORDINATOR: Final = """\
listen = "{address}"
datasets = "datasets.toml"
cert = "pki/coordinator.pem"
key = "pki/coordinator.key"
ca = "pki/ca.pem"

[store]
url = "sqlite:///coordinator.db"

[client]
address = "{address}"
cert = "pki/operator-demo.pem"
key = "pki/operator-demo.key"
ca = "pki/ca.pem"
"""


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of one demonstration and the commands that work in it."""

    path: Path

    @property
    def client_file(self) -> Path:
        return self.path / CLIENT_FILE

    @property
    def key_commands(self) -> list[list[str]]:
        """Certificates for everybody, and the key that the regions share; the authority comes first."""
        return [
            ["pki", "ca", "pki", "--trust-domain", "demo.example"],
            ["pki", "coordinator", "pki", "--dns", HOST],
            ["pki", "operator", "pki", "--name", "demo"],
            *(["pki", "agent", "pki", "--region", region, "--name", f"{region}-1"] for region in REGIONS),
            ["pki", "dataset-key", "master.key"],
        ]

    @property
    def server_commands(self) -> dict[str, list[str]]:
        """Coordinator and agents, by the name of their log."""
        coordinator = ["coordinator", "run", "--config", CLIENT_FILE]
        agents = {region: ["agent", "run", "--config", f"{region}/agent.toml"] for region in REGIONS}
        return {"coordinator": coordinator, **agents}

    @property
    def sweep_command(self) -> list[str]:
        return ["sweep", DATASET, "--purpose", PURPOSE]

    def log(self, name: str) -> Path:
        """Where the log of a server goes."""
        return self.path / f"{name}.log"

    def write_data(self, planted: Planted) -> dict[str, int]:
        """Each region's copy in its engine; returns the bytes that each takes."""
        for region in REGIONS:
            (self.path / region).mkdir()
        (self.path / "planted.json").write_text(json.dumps(_listed(planted), indent=1) + "\n")
        return {
            "eu": write_sqlite(self.path / "eu" / "flights.db", planted.tables["eu"]),
            "us": write_parquet(self.path / "us" / "flights", planted.tables["us"]),
            "ap": write_duckdb(self.path / "ap" / "flights.duckdb", planted.tables["ap"]),
        }

    def write_settings(self, port: int) -> None:
        """The files that an operator writes: datasets, coordinator and client, one agent a region."""
        address = f"{HOST}:{port}"
        (self.path / "datasets.toml").write_text(_datasets())
        self.client_file.write_text(_COORDINATOR.format(address=address))
        for region in REGIONS:
            url = json.dumps(_URLS[region].format(quote(str(self.path / region))))
            text = _AGENT.format(region=region, address=address, url=url, purpose=PURPOSE)
            (self.path / region / "agent.toml").write_text(text)


def _datasets() -> str:
    lines = [f"[dataset.{DATASET}]", f"key = {json.dumps(list(KEY))}", "", f"[dataset.{DATASET}.columns]"]
    lines += [f'{name} = "{kind}"' for name, kind in COLUMNS.items()]
    for region in REGIONS:
        lines += ["", f"[dataset.{DATASET}.regions.{region}]", 'connection = "main"', f'table = "{TABLE}"']
    return "\n".join(lines) + "\n"


def _listed(planted: Planted) -> list[dict[str, Any]]:
    return [
        {
            "key": dict(zip(KEY, key, strict=True)),
            "kind": finding.kind,
            "groups": sorted(map(list, finding.groups)),
            "missing_in": sorted(finding.missing_in),
            "columns": sorted(finding.columns),
        }
        for key, finding in planted.findings.items()
    ]
