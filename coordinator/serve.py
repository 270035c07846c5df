"""The coordinator process: configuration, store, server, control, and a quiet end."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import Any

import structlog

from coordinator.control import Control
from coordinator.control_rpc import control_handler
from coordinator.identity import Context, operator_of
from coordinator.presence import Presence
from coordinator.regions import Regions
from coordinator.runner import LinkRunner
from coordinator.store import Store
from coordinator.transport import Server
from paritree.config.coordinator import CoordinatorConfig
from paritree.config.datasets import Dataset, load_datasets
from paritree.pki import read_certificates, trust_domain_of
from paritree.stopping import exit_code, signals
from paritree.tls import Role, Tls, load_tls

_log = structlog.get_logger("paritree.coordinator")


def run_coordinator(config: CoordinatorConfig) -> int:
    """Serve until SIGTERM (0) or SIGINT (130); the returned number is the exit code.

    Raises ConfigError for unusable files, an address that cannot be listened on or a store that somebody else has,
    SourceError when the store cannot be reached.
    """
    tls = load_tls(config.ca, config.cert, config.key, role=Role.COORDINATOR)
    datasets = load_datasets(config.datasets)
    password = config.secret(config.store.password, "store.password")
    with Store.open(config.store_url, password=password) as store:
        return asyncio.run(_serve(config, tls, datasets, store))


def trust_domain(config: CoordinatorConfig, tls: Tls) -> str:
    """The configured trust domain, else the one that the authority's certificate names. Raises ConfigError."""
    return config.trust_domain or trust_domain_of(read_certificates(tls.authority, str(config.ca))[0])


async def _serve(config: CoordinatorConfig, tls: Tls, datasets: dict[str, Dataset], store: Store) -> int:
    domain = trust_domain(config, tls)
    # Exchange numbers must not repeat those of an earlier process, which agents may remember.
    regions = Regions(random.SystemRandom().getrandbits(61), lambda hello: presence.notice(hello))
    presence = Presence(store, lambda: {name: link.hello for name, link in regions.links.items()})
    runner = LinkRunner(
        lambda names: regions.wait_for(names, config.connect_wait_s), exchange_timeout_s=config.exchange_timeout_s
    )
    control = Control(store, runner, datasets, presence.connected)

    def operator(context: Context) -> str:
        return operator_of(context, domain).name

    server = Server(regions, tls, trust_domain=domain, name=domain, handlers=[control_handler(control, operator)])
    await server.start(config.listen)
    stopped: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()
    keeping = asyncio.create_task(presence.run())
    waiting: set[asyncio.Future[Any]] = {stopped, keeping}
    try:
        with signals(stopped):
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            keeping.result()  # ends only by what it cannot handle
        _log.info("coordinator stopping", signal=stopped.result().name)
        await control.stop(config.stop_timeout_s)
        return exit_code(stopped.result())
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await server.stop()
        _log.info("coordinator stopped")
