"""An agent's file: who it is, how it reaches the coordinator, what it may read and what may leave its region::

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
    url = "postgresql://paritree_reader@db.internal/shop"
    password = "env:PGPASSWORD"
    ssh = "paritree@bastion.example.org"
    ssh_known_hosts = "known_hosts"
    ssh_key = "id_ed25519"

    [executor]
    kind = "threads"
    workers = 4

    [throttle]
    max_rate_rows_s = 200_000

    [policy]
    disclosure = "tokens"

Variables: ``PARITREE_AGENT_REGION``, ``PARITREE_AGENT_CONNECTIONS__MAIN__URL``, …
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from paritree.config.datasets import Dataset, load_datasets
from paritree.config.following import RefreshesConfig
from paritree.config.mistakes import Fault
from paritree.config.scopes import ScopesConfig
from paritree.config.settings import Address, ConfigPath, FileSettings, Part, SecretSpec, placed
from paritree.config.toml import Section, near, read_toml
from paritree.core.errors import ConfigError
from paritree.core.limits import SHARD_ROWS, SNAPSHOT_S_MAX
from paritree.core.profile import Binding
from paritree.core.spiffe import is_segment
from paritree.core.urls import split_url

EXECUTORS = ("serial", "threads", "dask")
_SECRET_PARAMETERS = ("password", "passwd", "pwd", "sslpassword")


def _without_password(url: str) -> str:
    try:
        parts = split_url(url)
        parameters = {name.lower() for name in parse_qs(parts.query, keep_blank_values=True)}
        inside = parts.password is not None or any(name in parameters for name in _SECRET_PARAMETERS)
    except ValueError:
        raise Fault(
            "the URL cannot be read", "write it like postgresql://user@host/database, %40 for '@' in names"
        ) from None
    if not parts.scheme:
        raise Fault("the URL has no scheme", "write it like postgresql://user@host/database")
    if inside:
        raise Fault("the URL has a password inside", 'remove it and add password = "env:NAME" (or file:, command:)')
    return url


def _segment(name: str) -> str:
    if not is_segment(name):
        raise Fault(f"'{name}' cannot stand in a certificate", "use letters, digits, dot, dash, underscore")
    return name


Segment = Annotated[str, AfterValidator(_segment)]


def _bastion(text: str) -> str:
    user, separator, host = text.rpartition("@")
    if not separator or not user or not host or set(text) & set("/ \t,") or "@" in user or ":" in user:
        # Not repeated: somebody may have written a password into it.
        raise Fault("it is not user@host or user@host:port", 'write it like ssh = "user@bastion.example.org:22"')
    return text


class Bastioned(Part):
    """What may be reached through an SSH bastion, whose host key has to be known beforehand; nothing else is trusted.

    The bastion has to allow TCP forwarding to the one host and port. ``~/.ssh/config`` is not read.
    """

    ssh: Annotated[str, AfterValidator(_bastion)] | None = None
    """``user@bastion`` or ``user@bastion:port``; default: reached without a bastion."""
    ssh_known_hosts: ConfigPath | None = None
    """The file with the bastion's host key, in OpenSSH's form; default ``~/.ssh/known_hosts``. Never written to."""
    ssh_key: ConfigPath | None = None
    """The private key to log in with; default: the keys of the ssh-agent (``SSH_AUTH_SOCK``)."""
    ssh_key_passphrase: SecretSpec | None = None
    """The passphrase of that key, where it has one (PKCS 8; OpenSSH's encrypted form is for the ssh-agent)."""

    @model_validator(mode="after")
    def _of_a_bastion(self) -> Self:
        if self.ssh is None:
            for name in ("ssh_known_hosts", "ssh_key", "ssh_key_passphrase"):
                if getattr(self, name) is not None:
                    raise Fault(f"{name} without ssh", f'add ssh = "user@bastion", or remove {name}')
        if self.ssh_key_passphrase is not None and self.ssh_key is None:
            raise Fault("ssh_key_passphrase without ssh_key", "add ssh_key, or remove ssh_key_passphrase")
        return self

    def ssh_options(self) -> dict[str, str]:
        """The options of a source that are about its bastion, without those that are not set."""
        options = {name: getattr(self, name) for name in ("ssh", "ssh_known_hosts", "ssh_key")}
        return {name: str(value) for name, value in options.items() if value is not None}


class CoordinatorLink(Bastioned):
    """How the agent reaches the coordinator: it dials out, over mutual TLS.

    Through a bastion too, the certificate is checked against the address's host, and the bastion resolves that name.
    """

    address: Address
    """The coordinator's ``host:port``, as its certificate names it."""
    cert: ConfigPath
    """The agent's certificate, with its region and name as the only URI name."""
    key: ConfigPath
    """The certificate's private key."""
    ca: ConfigPath
    """The authority that the coordinator's certificate has to come from."""


class ThrottleConfig(Part):
    """How sources are spared; ``[connections.NAME.throttle]`` sets single fields anew for one source."""

    max_rate_rows_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Rows a second that one scan reads from its source, all tasks together; default: no limit."""
    chunk_target_s: float | None = Field(default=0.5, gt=0, le=3_600, allow_inf_nan=False)
    """Seconds that a source may take for 100,000 rows (or 16 MiB) in the decaying average; default 0.5.

    A slower one is left alone in proportion: at 1.0 s for half of the time. PostgreSQL and Cassandra only.
    """
    connections_max: int | None = Field(default=None, ge=1, le=1_024)
    """Connections of scans and look-ups to one source at once; default: the executor's workers.

    Not counted: the idle one that holds a snapshot, and the one that reads the catalogue.
    """
    replica_lag_max_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """No shard begins while a replica is more seconds behind; default: not looked at. PostgreSQL only."""
    backends_active_max: int | None = Field(default=None, ge=0)
    """No shard begins while more backends of others are active; default: not looked at. PostgreSQL only."""
    load_wait_max_s: float = Field(default=600.0, gt=0, le=86_400, allow_inf_nan=False)
    """Seconds to wait for a loaded source before the scan is given up; default 600."""
    snapshot_max_s: float = Field(default=SNAPSHOT_S_MAX, gt=0, allow_inf_nan=False)
    """Seconds that one snapshot is held, besides the shards under way then; default 3600.

    Past it a scan goes on in further snapshots and says so: its position is an interval. PostgreSQL only.
    """
    dataset_snapshot_max_s: Mapping[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    """Datasets that have a limit of their own instead, in seconds, by name."""

    def under(self, own: ThrottleConfig | None) -> ThrottleConfig:
        """These fields, but for those that ``own`` sets."""
        return self if own is None else self.model_copy(update={n: getattr(own, n) for n in own.model_fields_set})


class Connection(Bastioned):
    """A source that bindings name.

    Through a bastion: PostgreSQL at one host (TLS still checks the URL's name; a line of a PGPASSFILE needs ``*`` as
    its port), and a Cassandra ring of one node, as a forward leads to one node only. Not the engines that read files.
    """

    url: Annotated[str, AfterValidator(_without_password)]
    """``postgresql://…``, ``cassandra://…``, ``sqlite:///…``, ``duckdb:///…``, ``parquet:///…``, ``csv:///…``."""
    password: SecretSpec | None = None
    """The password of the URL's user."""
    options: Mapping[str, str] = {}
    """What the engine's connector understands beside the URL: ``connectors/postgresql/session.py``,
    ``cassandra/options.py`` and ``files/csvtext.py`` list theirs."""
    throttle: ThrottleConfig | None = None
    """What is different for this source from the agent's ``[throttle]``."""


class ExecutorConfig(Part):
    """What runs the scan's tasks."""

    kind: Literal["serial", "threads", "dask"] = "threads"
    """``serial`` one task at a time, ``threads`` in this process, ``dask`` in worker processes."""
    workers: int = Field(default_factory=lambda: min(8, os.cpu_count() or 1), ge=1, le=1_024)
    """Tasks at once; default: the number of cores, at most 8. A given scheduler has its own workers."""
    scheduler_address: str = ""
    """``tls://host:port`` of a Dask scheduler; "": a cluster of this process's own."""
    ca: ConfigPath | None = None
    """The authority of the scheduler's certificate."""
    cert: ConfigPath | None = None
    """This process's certificate towards the scheduler."""
    key: ConfigPath | None = None
    """That certificate's private key."""

    @model_validator(mode="after")
    def _whole(self) -> ExecutorConfig:
        if self.scheduler_address and self.kind != "dask":
            raise Fault("scheduler_address is for kind = 'dask'", 'set kind = "dask", or remove scheduler_address')
        if self.scheduler_address and not self.scheduler_address.startswith("tls://"):
            raise Fault("a Dask scheduler is reached over TLS only", 'write scheduler_address = "tls://host:port"')
        if self.scheduler_address and None in (self.ca, self.cert, self.key):
            raise Fault("scheduler_address needs ca, cert and key", "add the three files")
        return self


class PolicyConfig(Part):
    """What may leave the region beside digests; the agent enforces it, whatever the coordinator asks."""

    disclosure: Literal["nothing", "tokens", "keys"] = "tokens"
    """``nothing`` (no tokens in reports and stores either), ``tokens``, or ``keys`` (clear keys of findings)."""
    purposes: tuple[str, ...] = ()
    """The purposes for which clear keys are given; none listed: any purpose that is stated."""
    keys_max: int = Field(default=10_000, ge=0, le=10_000_000)
    """Clear keys that one sweep may get."""
    sealed_keys: bool = False
    """Let keys travel to other agents as ciphertext that the coordinator cannot open."""
    whole_rows: bool = False
    """With ``disclosure = "keys"``: also of datasets with ``key = "*"``, whose keys are all values of a row."""


def _policy(value: Any) -> Any:
    return PolicyConfig.of(read_toml(placed(Path(value)))) if isinstance(value, str) else value


def _executor(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class AgentConfig(FileSettings):
    """Everything that an agent process needs to know."""

    model_config = SettingsConfigDict(env_prefix="PARITREE_AGENT_")

    region: Segment
    """The region that this agent speaks for, as its certificate says."""
    name: Segment
    """This agent's name, as its certificate says."""
    datasets: ConfigPath
    """The datasets file."""
    master_key: SecretSpec
    """Where the master key is that all regions share and the coordinator does not have (64 hex digits)."""
    spool: ConfigPath
    """A folder on local disk, readable by this user only: indexes, runs, the token book, dead letters, keys."""
    coordinator: CoordinatorLink
    """How the agent reaches the coordinator."""
    connections: Mapping[str, Connection]
    """The sources, by the names that the datasets file uses."""
    executor: Annotated[ExecutorConfig, NoDecode, BeforeValidator(_executor)] = ExecutorConfig()
    """What runs the scan's tasks; ``executor = "serial"`` is short for its kind."""
    policy: Annotated[PolicyConfig, NoDecode, BeforeValidator(_policy)] = PolicyConfig()
    """What may leave the region: a table here, or the path of a TOML file that has its fields."""
    throttle: ThrottleConfig = ThrottleConfig()
    """How sources are spared."""
    scopes: ScopesConfig = Field(default_factory=dict)
    """How datasets are cut into buckets, by dataset and name: ``[scopes.DATASET.NAME]``."""
    refresh: RefreshesConfig = Field(default_factory=dict)
    """Datasets whose index outlives sweeps and follows its table's changes: ``[refresh.DATASET]``."""
    at_rest_key: SecretSpec | None = None
    """Where the key is that encrypts runs, indexes and the token book in the spool (64 hex digits); default: not.

    It stays in this region and is no other key; a new one means that indexes are built anew.
    """
    shard_rows: int = Field(default=SHARD_ROWS, ge=1, le=100_000_000)
    """Rows of one shard's task."""
    statement_timeout_s: float | None = Field(default=None, ge=1, le=86_400, allow_inf_nan=False)
    """Seconds after which a statement (PostgreSQL) or page (Cassandra) is given up; default: the connector's own.

    A connection's own option wins. The engines that read files have no statements that could hang on a server.
    """


@dataclass(frozen=True, slots=True)
class Held:
    """One dataset as this agent's region has it."""

    dataset: Dataset
    binding: Binding
    connection: Connection


def load_agent(path: str | Path) -> AgentConfig:
    """An agent's file under ``PARITREE_AGENT_…``. Raises ConfigError naming the file or variable, key and fix."""
    top = read_toml(path)
    values = dict(top.values)
    # The short forms are written out before variables are laid over them: a variable that sets one field of the
    # policy must not make the rest of it fall back to defaults.
    if isinstance(values.get("executor"), str):
        values["executor"] = {"kind": values["executor"]}
    if isinstance(policy := values.get("policy"), str):
        file = read_toml(Path(top.file).absolute().parent / Path(policy).expanduser())
        PolicyConfig.of(file)
        values["policy"] = dict(file.values)
    return AgentConfig.of(Section(top.file, (), values))


def held(config: AgentConfig) -> dict[str, Held]:
    """The datasets of the datasets file that this agent's region has, by name. Raises ConfigError.

    Refused: a region that no dataset has, a region without a binding, a connection that the agent's file lacks.
    """
    datasets = load_datasets(config.datasets)
    own = {name: dataset for name, dataset in datasets.items() if config.region in dataset.regions}
    if not own:
        regions = {region for dataset in datasets.values() for region in dataset.regions}
        raise ConfigError(
            f"{config.datasets}: no dataset has a region '{config.region}', which {config.file} says this agent is of",
            next_step=near(config.region, regions),
        )
    return {name: _held(config, dataset) for name, dataset in own.items()}


def _held(config: AgentConfig, dataset: Dataset) -> Held:
    binding = dataset.binding(config.region)
    name = dataset.region(config.region).connection
    if name not in config.connections:
        raise ConfigError(
            f"{config.file}: no connection '{name}', which {dataset.file} names for dataset {dataset.name}",
            next_step=near(name, config.connections) or f"add [connections.{name}]",
        )
    return Held(dataset, binding, config.connections[name])
