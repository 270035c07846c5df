"""The agent process: from its configuration to a service, a session with the coordinator, and a quiet end."""

from __future__ import annotations

import asyncio
import random
import signal
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from edge_agent.build import Copy
from edge_agent.connectors.bastion import Bastion
from edge_agent.connectors.contract import Source
from edge_agent.connectors.registry import connector_class
from edge_agent.executors import DaskOptions, Executor, SharedExecutor, open_executor
from edge_agent.index.rest import RestKey
from edge_agent.letters.desk import LetterDesk
from edge_agent.notices import Notices
from edge_agent.pace import Throttle
from edge_agent.policy import Policy
from edge_agent.service import Service
from edge_agent.session import AgentSession
from edge_agent.spool import held_spool
from edge_agent.tunnel import Leading, straight, through
from edge_agent.upkeep import keep_up, warm_indexes
from edge_agent.warm import WarmIndex
from paritree.config.agent import AgentConfig, Connection, Held, held
from paritree.config.scopes import scopes_of
from paritree.config.toml import near
from paritree.core.digest import DatasetKeys
from paritree.core.errors import ConfigError
from paritree.core.fast.warming import warm
from paritree.heap import return_free_memory, share_heaps
from paritree.pki import read_master_key
from paritree.stopping import exit_code, signals
from paritree.tls import Role, Tls, agent_name, load_tls
from paritree.wire.dial import Address

TIMEOUT_OPTIONS: Final[Mapping[str, tuple[str, int]]] = {
    "postgresql": ("statement_timeout_ms", 1_000),
    "cassandra": ("timeout_s", 1),
}
"""Where a connector takes ``statement_timeout_s``, and the units of its option in a second."""
SECRETS: Final = ("password", "ssh_key_passphrase")
"""The fields of a connection that point to secrets, which its source has under the same names."""
FREED_S: Final = 30.0
"""Between two times at which free memory goes back to the system; what comes again costs milliseconds."""
_log = structlog.get_logger("paritree.agent")


def run_agent(config: AgentConfig) -> int:
    """Serve until SIGTERM (0) or SIGINT (130); the returned number is the exit code.

    Raises ConfigError before anything is dialled, PeerError when the coordinator refuses this agent for good.
    """
    share_heaps()
    tls = agent_tls(config)
    copies = copies_of(config)
    _compile(copies)
    notices = Notices()
    with (
        held_spool(config.spool),
        SharedExecutor(executor_of(config)) as shared,
        warm_indexes(config, copies, notices) as indexes,
    ):
        desk = desk_of(config, copies, shared.lend)
        service = service_of(config, copies, shared.lend, desk, indexes)
        return asyncio.run(_serve(service, desk, indexes, notices, config, tls))


def _compile(copies: Mapping[str, Copy]) -> None:
    """Compile the kernels before the first sweep waits for them, and before workers start without them."""

    def say(what: str) -> None:
        _log.info("first start on this machine", doing=what)

    warm(say)
    for url in {copy.source.url for copy in copies.values()}:
        connector_class(url).prepare(say)


def agent_tls(config: AgentConfig) -> Tls:
    """The agent's certificate files. Raises ConfigError where they are unusable or speak for somebody else."""
    link = config.coordinator
    tls = load_tls(link.ca, link.cert, link.key, role=Role.AGENT)
    named = agent_name(tls)
    if (named.region, named.name) != (config.region, config.name):
        raise ConfigError(
            f"{link.cert}: speaks for agent {named.name} of region {named.region}, and {config.file} says "
            f"{config.name} of {config.region}",
            next_step="use the certificate of this agent, or correct region and name",
        )
    return tls


def service_of(
    config: AgentConfig,
    copies: Mapping[str, Copy],
    executor: Callable[[], Executor],
    desk: LetterDesk | None = None,
    indexes: Mapping[str, WarmIndex] | None = None,
) -> Service:
    """The service over these copies, under the configured policy; ``executor`` is opened for every scan."""
    return Service(
        config.region,
        config.name,
        uuid.uuid4().hex,
        copies,
        spool=config.spool,
        executor=executor,
        policy=policy_of(config),
        desk=desk,
        scopes=scopes_of(config.scopes, {name: copy.profile for name, copy in copies.items()}, config.file),
        warm=indexes,
    )


def desk_of(config: AgentConfig, copies: Mapping[str, Copy], executor: Callable[[], Executor]) -> LetterDesk:
    """The agent's dead letters. Raises ConfigError for an unreadable master key."""
    master_key = read_master_key(config.master_key, where=f"{config.file}: master_key", base=config.folder)
    # No dataset has the empty name, so these keys are nobody else's.
    return LetterDesk(config.region, config.spool, copies, executor, DatasetKeys.of(master_key, ""))


def copies_of(config: AgentConfig) -> dict[str, Copy]:
    """What this agent's region has, by dataset, with its secrets read. Raises ConfigError."""
    master_key = read_master_key(config.master_key, where=f"{config.file}: master_key", base=config.folder)
    datasets = held(config)
    _check_throttles(config, datasets)
    sources = {name: source_of(config, name, config.connections[name]) for name in _used(config, datasets)}
    rest_key = rest_key_of(config)
    return {
        name: Copy(
            source=sources[_connection(config, one)],
            profile=one.dataset.profile,
            binding=one.binding,
            keys=DatasetKeys.of(master_key, name),
            shard_rows=config.shard_rows,
            throttle=throttle_of(config, one.connection, name),
            version=one.dataset.version,
            rest_key=rest_key,
        )
        for name, one in datasets.items()
    }


def rest_key_of(config: AgentConfig) -> RestKey | None:
    """What this agent's runs and indexes are encrypted with at rest, if they are. Raises ConfigError."""
    digits = config.secret(config.at_rest_key, "at_rest_key")
    return None if digits is None else RestKey.of(digits, f"{config.file}: at_rest_key")


def throttle_of(config: AgentConfig, connection: Connection, dataset: str) -> Throttle:
    """How a dataset's source is spared. A given scheduler's workers are its own, and bound its connections."""
    said = config.throttle.under(connection.throttle)
    limits = said.model_dump(exclude={"dataset_snapshot_max_s"})
    limits["snapshot_max_s"] = said.dataset_snapshot_max_s.get(dataset, said.snapshot_max_s)
    if said.connections_max is None and not config.executor.scheduler_address:
        limits["connections_max"] = config.executor.workers if config.executor.kind != "serial" else 1
    return Throttle(**limits)


def _check_throttles(config: AgentConfig, datasets: Mapping[str, Held]) -> None:
    """Raise ConfigError for limits that nothing would keep to."""
    throttles = {f"connections.{name}.throttle": c.throttle for name, c in config.connections.items() if c.throttle}
    for where, said in {"throttle": config.throttle, **throttles}.items():
        for name in said.dataset_snapshot_max_s:
            if name not in datasets:
                raise ConfigError(
                    f"{config.file}: {where}.dataset_snapshot_max_s: no dataset '{name}' in region {config.region}",
                    next_step=near(name, datasets),
                )
    for name in _used(config, datasets):
        connection = config.connections[name]
        said = config.throttle.under(connection.throttle)
        watched = [key for key in ("replica_lag_max_s", "backends_active_max") if getattr(said, key) is not None]
        if watched and connection.url.partition(":")[0] != "postgresql":
            raise ConfigError(
                f"{config.file}: {watched[0]} is for PostgreSQL, and connections.{name} is not",
                next_step=f"set it in [connections.NAME.throttle] of PostgreSQL connections only, not for {name}",
            )


def _connection(config: AgentConfig, one: Held) -> str:
    return one.dataset.region(config.region).connection


def _used(config: AgentConfig, datasets: Mapping[str, Held]) -> set[str]:
    """The connections that some dataset uses: the secrets of the others are not asked for."""
    return {_connection(config, one) for one in datasets.values()}


def source_of(config: AgentConfig, name: str, connection: Connection) -> Source:
    """A connection with its secret. Raises ConfigError for an unknown engine or an unreadable secret."""
    try:
        connector_class(connection.url)
    except ConfigError as error:
        where = f"{config.file}: connections.{name}.url"
        raise ConfigError(f"{where}: {error.message}", next_step=error.next_step) from None
    options = dict(connection.options)
    timed = TIMEOUT_OPTIONS.get(connection.url.partition(":")[0])
    if timed is not None and config.statement_timeout_s is not None:
        options.setdefault(timed[0], str(round(config.statement_timeout_s * timed[1])))
    options |= connection.ssh_options()
    secrets = {key: config.secret(getattr(connection, key), f"connections.{name}.{key}") for key in SECRETS}
    return Source(connection.url, options, {key: secret for key, secret in secrets.items() if secret is not None})


def leading_of(config: AgentConfig) -> Leading:
    """The way to the coordinator. Raises ConfigError for an unreadable secret."""
    link = config.coordinator
    if not link.ssh:
        return straight
    passphrase = config.secret(link.ssh_key_passphrase, "coordinator.ssh_key_passphrase")
    return through(Bastion.of(link.ssh_options(), {} if passphrase is None else {"ssh_key_passphrase": passphrase}))


def policy_of(config: AgentConfig) -> Policy:
    """What may leave this region."""
    said = config.policy
    return Policy(said.disclosure, said.purposes, said.keys_max, said.sealed_keys, said.whole_rows)


def executor_of(config: AgentConfig) -> Callable[[], Executor]:
    """What opens the executor of this agent's scans."""
    said = config.executor
    files = {name: str(path or "") for name, path in (("ca", said.ca), ("cert", said.cert), ("key", said.key))}
    dask = DaskOptions(workers=said.workers, address=said.scheduler_address, **files)
    return lambda: open_executor(said.kind, said.workers, dask)


async def _stay_small() -> None:
    """Between scans nobody has use for what a scan keeps free for itself, which is more the more ran at once."""
    while True:
        await asyncio.sleep(FREED_S)
        await asyncio.to_thread(return_free_memory)


async def _serve(
    service: Service,
    desk: LetterDesk,
    indexes: Mapping[str, WarmIndex],
    notices: Notices,
    config: AgentConfig,
    tls: Tls,
) -> int:
    address, leading = Address.parse(config.coordinator.address), leading_of(config)
    session = AgentSession(
        service, address, tls, rng=random.Random(), leading=leading, unreadable=desk.unreadable, notices=notices
    )
    stopped: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()
    _log.info("agent started", region=config.region, agent=config.name, datasets=len(service.hello().datasets))
    running = asyncio.create_task(session.run())
    keeping_up = asyncio.gather(keep_up(indexes), _stay_small())
    with signals(stopped):
        waiting: set[asyncio.Future[Any]] = {running, keeping_up, stopped}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    try:
        for task in (running, keeping_up):
            if task.done():
                task.result()
                return 0
        _log.info("agent stopping", signal=stopped.result().name)
        return exit_code(stopped.result())
    finally:
        running.cancel()
        keeping_up.cancel()
        await asyncio.gather(running, keeping_up, return_exceptions=True)
        await service.close()
        _log.info("agent stopped")
