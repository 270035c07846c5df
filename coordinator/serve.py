"""The coordinator process: configuration, store, server, control, and a quiet end."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from coordinator.aftermath import Aftermath, beginning_again
from coordinator.breakers import Breakers
from coordinator.control import Control
from coordinator.control_rpc import control_handler
from coordinator.gates import Gates, Rates
from coordinator.identity import Context, operator_of
from coordinator.keeping import Keeper
from coordinator.letters import DeadLetters
from coordinator.presence import Presence
from coordinator.regions import Regions
from coordinator.roots import Roots
from coordinator.runner import LinkRunner
from coordinator.setting import Setting
from coordinator.store import Fenced, Store
from coordinator.transport import Server
from coordinator.watching import Watcher
from paritree.config.coordinator import CoordinatorConfig
from paritree.config.datasets import Dataset, load_datasets
from paritree.config.toml import near
from paritree.core.errors import ConfigError
from paritree.core.messages import Hello
from paritree.core.retry import RetryPolicy
from paritree.core.watch import Windows
from paritree.heap import give_freed_memory_back
from paritree.pki import read_certificates, trust_domain_of
from paritree.stopping import exit_code, signals
from paritree.tls import Role, Tls, load_tls

_log = structlog.get_logger("paritree.coordinator")


def run_coordinator(config: CoordinatorConfig) -> int:
    """Serve until SIGTERM (0) or SIGINT (130); the returned number is the exit code.

    Raises ConfigError for unusable files, an address that cannot be listened on or a store that somebody else has,
    SourceError when the store cannot be reached, or another coordinator has taken it over.
    """
    give_freed_memory_back()
    tls = load_tls(config.ca, config.cert, config.key, role=Role.COORDINATOR)
    datasets = load_datasets(config.datasets)
    password = config.secret(config.store.password, "store.password")
    kept = config.store
    with Store.open(config.store_url, password=password, lease_wait_s=kept.wait_s, lease_s=kept.lease_s) as store:
        return asyncio.run(_serve(config, tls, datasets, store))


def trust_domain(config: CoordinatorConfig, tls: Tls) -> str:
    """The configured trust domain, else the one that the authority's certificate names. Raises ConfigError."""
    return config.trust_domain or trust_domain_of(read_certificates(tls.authority, str(config.ca))[0])


def setting_of(config: CoordinatorConfig, store: Store, breakers: Breakers, datasets: Mapping[str, Dataset]) -> Setting:
    """What all sweeps share, as configured. Raises ConfigError for rates of a region that no dataset has."""
    known = {region for dataset in datasets.values() for region in dataset.regions}
    for name in config.region_rates:
        if name not in known:
            raise ConfigError(
                f"{config.file}: region_rates: no dataset has a region '{name}'", next_step=near(name, known)
            )
    regions = {name: Rates(**rates.model_dump()) for name, rates in config.region_rates.items()}
    gates = Gates(Rates(**config.rates.model_dump()), regions, clock=time.monotonic)
    return Setting(store, gates=gates, breakers=breakers, retry=RetryPolicy(patience_s=config.patience_s))


def windows_of(config: CoordinatorConfig, datasets: Mapping[str, Dataset]) -> dict[str, Windows]:
    """The datasets that are validated continuously. Raises ConfigError for one that there is not."""
    for name in config.watch:
        if name not in datasets:
            raise ConfigError(
                f"{config.file}: watch.{name}: {config.datasets} has no dataset '{name}'",
                next_step=near(name, datasets) or "declare the dataset there, or remove the table",
            )
    return {name: Windows(one.window_s, one.late_s, one.idle_s) for name, one in config.watch.items()}


async def _serve(config: CoordinatorConfig, tls: Tls, datasets: dict[str, Dataset], store: Store) -> int:
    domain = trust_domain(config, tls)
    breakers = Breakers(store)

    def notice(hello: Hello) -> None:
        presence.notice(hello)
        breakers.connected(hello.region, hello.instance)
        watcher.connected(hello)

    # Exchange numbers must not repeat those of an earlier process, which agents may remember.
    regions = Regions(
        random.SystemRandom().getrandbits(61),
        notice,
        fence=store.token,
        on_notice=lambda region, told: watcher.notice(region, told),
    )
    presence = Presence(store, lambda: {name: link.hello for name, link in regions.links.items()})
    runner = LinkRunner(
        lambda names: regions.wait_for(names, config.connect_wait_s),
        exchange_timeout_s=config.exchange_timeout_s,
        away=regions.away,
    )
    letters = DeadLetters(
        store, lambda: regions.links, datasets, begin_again=beginning_again(store, lambda new: control.jobs.begin(new))
    )
    aftermath = Aftermath(runner, letters, store)
    setting = replace(setting_of(config, store, breakers, datasets), returned=regions.returned)
    control = Control(store, aftermath, datasets, presence.connected, setting=setting)
    control.jobs.failed = aftermath.failed
    control.watched = regions.watched = windows_of(config, datasets)
    watcher = Watcher(store, control, datasets, Roots(lambda: regions.links, config.exchange_timeout_s))

    def operator(context: Context) -> str:
        return operator_of(context, domain).name

    handler = control_handler(control, operator, letters)
    server = Server(regions, tls, trust_domain=domain, name=domain, handlers=[handler], unreadable=letters.unreadable)
    await server.start(config.listen)
    stopped: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()
    keeping = asyncio.gather(presence.run(), Keeper(store, control.jobs, config.store.lease_s).run(), watcher.run())
    overtaken = asyncio.create_task(control.jobs.overtaken.wait())
    waiting: set[asyncio.Future[Any]] = {stopped, keeping, overtaken}
    try:
        with signals(stopped):
            await control.jobs.take_up()
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            await control.stop(0.0)  # at once: another coordinator may drive these sweeps
            if keeping.done():
                keeping.result()  # ends only by what it cannot handle
            raise Fenced
        _log.info("coordinator stopping", signal=stopped.result().name)
        await control.stop(config.stop_timeout_s)
        return exit_code(stopped.result())
    finally:
        for task in (keeping, overtaken):
            task.cancel()
        await asyncio.gather(keeping, overtaken, return_exceptions=True)
        await server.stop()
        _log.info("coordinator stopped")
