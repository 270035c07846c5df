"""The coordinator's file, and the operator's side of it (``[client]``), which may also be a file of its own::

    listen = "0.0.0.0:7443"
    trust_domain = "example.org"
    datasets = "datasets.toml"
    cert = "coordinator.pem"
    key = "coordinator.key"
    ca = "ca.pem"

    [store]
    url = "sqlite:///coordinator.db"

    [client]
    address = "coordinator.example.org:7443"
    cert = "operator.pem"
    key = "operator.key"
    ca = "ca.pem"

Variables: ``PARITREE_COORDINATOR_LISTEN``, ``PARITREE_COORDINATOR_STORE__URL``, ``PARITREE_CLIENT_ADDRESS``, …
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from paritree.config.settings import Address, ConfigPath, FileSettings, Part, SecretSpec
from paritree.config.toml import Section, read_toml
from paritree.core.limits import EXCHANGE_TIMEOUT_S

CLIENT: Final = "client"


class StoreConfig(Part):
    """Where the coordinator keeps its state."""

    url: str = "sqlite:///coordinator.db"
    """``sqlite:///relative.db`` (to the file's folder), ``sqlite:////absolute.db`` or ``postgresql://user@host/db``."""
    password: SecretSpec | None = None
    """The password of a PostgreSQL store."""
    wait_s: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """Seconds to wait for another coordinator that has the store; a large number makes this one its standby."""
    lease_s: float = Field(default=15.0, ge=1, le=3_600, allow_inf_nan=False)
    """Seconds of silence after which a standby takes a PostgreSQL store from a coordinator that hangs or is cut off."""


class RatesConfig(Part):
    """What a region is spared; absent: not limited."""

    sweeps_max: int | None = Field(default=None, ge=1)
    """Sweeps at a time; further ones wait."""
    requests_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Requests a second, over all sweeps."""
    bytes_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Bytes a second that go to and come from the region, over all sweeps."""


class WatchConfig(Part):
    """How one dataset is validated continuously."""

    window_s: int = Field(default=10, ge=1, le=86_400)
    """Seconds of a window, default 10; windows begin at multiples of it since 1970, in UTC."""
    late_s: int = Field(default=5, ge=0, le=86_400)
    """Seconds after a window's end that its late changes get before it is checked, default 5; what comes later, the
    next sees. So old may an index be that a check compares."""
    idle_s: int = Field(default=60, ge=0, le=86_400)
    """Seconds after which a check is made though no region has told of a change, default 60; 0: of every window. Where
    a region does not tell, every window is checked."""


class CoordinatorConfig(FileSettings):
    """Everything that a coordinator process needs to know."""

    model_config = SettingsConfigDict(env_prefix="PARITREE_COORDINATOR_")

    listen: Address = "127.0.0.1:7443"
    """Where agents and operators connect; port 0 takes a free one, which the log names."""
    trust_domain: str = ""
    """The trust domain of agents' and operators' SPIFFE identities; "": the one that ``ca`` names."""
    datasets: ConfigPath
    """The datasets file."""
    cert: ConfigPath
    """The coordinator's certificate (serverAuth, with its DNS name)."""
    key: ConfigPath
    """The certificate's private key."""
    ca: ConfigPath
    """The authority that agents' and operators' certificates have to come from."""
    store: StoreConfig = StoreConfig()
    """The state store."""
    exchange_timeout_s: float = Field(default=EXCHANGE_TIMEOUT_S, gt=0, le=86_400, allow_inf_nan=False)
    """Seconds of silence after which a region's answer is given up; progress messages start it anew."""
    connect_wait_s: float = Field(default=5.0, ge=0, le=3_600, allow_inf_nan=False)
    """Seconds that a sweep waits for a region that is not connected, before it is unknown."""
    patience_s: float = Field(default=45.0, ge=0, le=86_400, allow_inf_nan=False)
    """Seconds for which a region that fails or goes away in the middle of a sweep is tried, before it is unknown."""
    rates: RatesConfig = RatesConfig()
    """How every region is spared."""
    region_rates: dict[str, RatesConfig] = Field(default_factory=dict)
    """How single regions are spared, in place of ``rates``."""
    watch: dict[str, WatchConfig] = Field(default_factory=dict)
    """The datasets that are validated continuously."""
    stop_timeout_s: float = Field(default=10.0, ge=0, le=3_600, allow_inf_nan=False)
    """Seconds that running sweeps get to end when the coordinator is told to stop; its next start goes on with them."""

    @property
    def store_url(self) -> str:
        """``store.url`` with a relative SQLite path made absolute from the file's folder."""
        scheme, separator, path = self.store.url.partition(":///")
        if scheme != "sqlite" or not separator or not path or path.startswith(("/", ":")):
            return self.store.url
        return f"sqlite:///{self.folder / path}"


class ClientConfig(FileSettings):
    """How an operator's command reaches the coordinator."""

    model_config = SettingsConfigDict(env_prefix="PARITREE_CLIENT_")

    address: Address
    """The coordinator's ``host:port``, as its certificate names it."""
    cert: ConfigPath
    """The operator's certificate."""
    key: ConfigPath
    """The certificate's private key."""
    ca: ConfigPath
    """The authority that the coordinator's certificate has to come from."""
    timeout_s: float = Field(default=10.0, gt=0, le=3_600, allow_inf_nan=False)
    """Seconds to wait for the coordinator to answer at all; a sweep itself may take as long as it takes."""
    patience_s: float = Field(default=30.0, ge=0, le=86_400, allow_inf_nan=False)
    """Seconds to wait for a coordinator that goes away while a sweep is followed, or is away when one is steered."""


def load_coordinator(path: str | Path) -> CoordinatorConfig:
    """A coordinator's file under ``PARITREE_COORDINATOR_…``; its ``[client]`` is not looked at. Raises ConfigError."""
    top = read_toml(path)
    own = {key: value for key, value in top.values.items() if key != CLIENT}
    return CoordinatorConfig.of(Section(top.file, (), own))


def load_client(path: str | Path | None, flags: Mapping[str, str | None]) -> ClientConfig:
    """The ``[client]`` of a file (None: of no file), under ``PARITREE_CLIENT_…``, under the flags that are given.

    ``flags`` are ``address``, ``cert``, ``key`` and ``ca``; their paths are relative to the working directory.
    Raises ConfigError.
    """
    section = Section("the coordinator's address and certificates", (), {})
    if path is not None:
        section = read_toml(path).section(CLIENT)
    given = {key: value for key, value in flags.items() if value is not None}
    return ClientConfig.of(section, flags={k: v if k == "address" else os.path.abspath(v) for k, v in given.items()})
