"""Ad hoc comparison inside one process: regions from the command line, one sweep over loopback links."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from coordinator.sweep import ProgressCallback, Sweep, SweepOptions, unheard
from edge_agent.build import Copy
from edge_agent.connectors.contract import Connector, Source
from edge_agent.connectors.registry import connect, connector_class
from edge_agent.executors import SharedExecutor, open_executor
from edge_agent.pace import Throttle
from edge_agent.policy import Policy
from edge_agent.service import Service
from paritree.core import limits
from paritree.core.derive import Derived, derive_profile
from paritree.core.digest import MASTER_KEY_BYTES, DatasetKeys
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.schema import TableSchema
from paritree.core.urls import split_url
from paritree.wire.loopback import LoopbackLink

DATASET: Final = "diff"
PURPOSE: Final = "diff"
PASSWORD_VARIABLE: Final = "PARITREE_PASSWORD_"
"""Followed by the region's name in capitals: the password of that region's source."""
PLAIN_ROWS: Final = 20_000
"""Up to this many rows in all, loading the compiled kernels costs more than they save; the bytes are the same."""
PROCESS_ROWS: Final = 2_000_000
"""Above this many rows in all, columns without a kernel are worth worker processes; starting them costs seconds."""
PLAIN_TYPES: Final = frozenset({"json", "inet", "list", "set", "map", "struct"})
"""Types whose values become Python objects, one thread at a time; all others, but times
that are text, are digested outside Python's lock."""


@dataclass(frozen=True, slots=True)
class Target:
    """One ``REGION=URL#TABLE`` of the command line."""

    region: str
    url: str
    table: str

    @property
    def source(self) -> Source:
        password = os.environ.get(PASSWORD_VARIABLE + self.region.upper().replace("-", "_"))
        return Source(self.url, secrets={} if password is None else {"password": password})


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be compared, and how; see ``paritree diff --help``."""

    targets: Sequence[Target]
    key: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    ignore: Sequence[str] = ()
    precision: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tolerance: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    lag_max_s: float = 2.0
    limit: int = 1_000
    reveal: bool = True
    executor: str = "auto"
    workers: int = 2
    shard_rows: int = limits.SHARD_ROWS
    digester: str = "auto"
    max_rate_rows_s: float | None = None


def parse_target(text: str) -> Target:
    """Read ``REGION=URL#TABLE``. Raises ConfigError, also for a password in the URL."""
    region, equals, rest = text.partition("=")
    url, _, table = rest.rpartition("#") if "#" in rest else (rest, "", "")
    if not equals or not region.replace("-", "").replace("_", "").isalnum() or "://" not in url:
        shown = text if "@" not in text else f"{region}=…"
        raise ConfigError(
            f"'{shown}' is not REGION=URL#TABLE", next_step="e.g. eu=postgresql://user@host/db#public.orders"
        )
    try:
        password = split_url(url).password
    except ValueError:
        raise ConfigError(
            f"{region}: the URL cannot be read",
            next_step=f"{region}=postgresql://user@host/database#table, with %40 for an '@' in a name",
        ) from None
    if password:
        raise ConfigError(
            f"{region}: a password on the command line can be read by everyone on this machine",
            next_step=f"take it out of the URL and set {PASSWORD_VARIABLE}{region.upper().replace('-', '_')}",
        )
    return Target(region, url, table)


def parse_targets(texts: Sequence[str]) -> list[Target]:
    """Read all targets. Raises ConfigError for fewer than two or a region named twice."""
    targets = [parse_target(text) for text in texts]
    if len(targets) < limits.REGIONS_MIN:
        raise ConfigError("two regions are needed", next_step="name at least two: eu=URL#TABLE us=URL#TABLE")
    if len(targets) > limits.REGIONS_MAX:
        raise ConfigError(f"at most {limits.REGIONS_MAX} regions can be compared at once")
    names = [target.region for target in targets]
    if len(set(names)) != len(names):
        raise ConfigError("two regions have the same name", next_step="give each its own name before the '='")
    return targets


def describe(targets: Sequence[Target]) -> tuple[dict[str, TableSchema], dict[str, str]]:
    """The schemas of the regions that answer, and why the others do not. Raises ConfigError for absent tables."""
    schemas: dict[str, TableSchema] = {}
    unreachable: dict[str, str] = {}
    with ThreadPoolExecutor(len(targets)) as pool:  # all at the same time: each answers as fast as it can
        asked = [(target, pool.submit(_asked, target)) for target in targets]
    for target, answer in asked:
        try:
            schemas[target.region] = answer.result()
        except SourceError as error:
            unreachable[target.region] = str(error)
        except ConfigError as error:
            raise of_region(target, error) from None
    return schemas, unreachable


def _asked(target: Target) -> TableSchema:
    with connect(target.source) as connector:
        return described(connector, target)


def of_region(target: Target, error: ConfigError) -> ConfigError:
    """The same mistake with its region's name before it."""
    return ConfigError(f"{target.region}: {error.message}", next_step=error.next_step)


def described(connector: Connector, target: Target) -> TableSchema:
    """The schema of a target's table. Raises ConfigError for an absent one, and where none is named but several are."""
    if not target.table and len(known := connector.tables()) > 1:
        raise ConfigError("no table is named", next_step=f"write {target.url}#TABLE; known: {', '.join(known)}")
    return connector.describe(target.table)


def derive(question: Question, schemas: Mapping[str, TableSchema]) -> Derived:
    """The profile and column mapping of the comparison. Raises ConfigError listing every mistake."""
    return derive_profile(
        DATASET,
        schemas,
        key=question.key,
        columns=question.columns,
        ignore=question.ignore,
        precision=question.precision,
        rules=question.rules,
        tolerance=question.tolerance,
    )


def binding_of(question: Question, target: Target, derived: Derived) -> Binding:
    """One region's binding: the derived column names, and the predicate of ``--where``."""
    names = derived.bindings[target.region]
    columns = tuple(BoundColumn(n, t, source=names[n]) for n, t in derived.profile.columns.items())
    return Binding(DATASET, target.table, derived.profile.lookup_key, columns, where=question.where)


def check_where(question: Question, derived: Derived, schemas: Mapping[str, TableSchema]) -> None:
    """Let every region begin a scan with ``--where``. Raises ConfigError where one does not understand it."""
    if question.where is None:
        return
    for target in (target for target in question.targets if target.region in schemas):
        binding = binding_of(question, target, derived)
        try:
            with connect(target.source) as connector, connector.plan(binding, question.shard_rows) as plan:
                next(connector.scan(binding, plan.shards[0]), None)
        except SourceError:
            continue  # the sweep reports it, with the rest compared
        except ConfigError as error:
            raise of_region(target, error) from None


def choose_executor(question: Question, profile: Profile, schemas: Mapping[str, TableSchema]) -> str:
    """Threads, but for large tables with columns that keep Python's lock."""
    if question.executor != "auto":
        return question.executor
    locked = any(kind.name in PLAIN_TYPES for kind in profile.columns.values())
    large = sum(s.rows_estimate for s in schemas.values()) > PROCESS_ROWS
    return "dask" if locked and large and question.workers > 1 else "threads"


def choose_digester(question: Question, schemas: Mapping[str, TableSchema], say: Callable[[str], None]) -> str:
    """The compiled digester for all but small tables; ``say`` hears what is compiled on a machine's first use."""
    kind = question.digester
    if kind == "auto":
        kind = "compiled" if sum(s.rows_estimate for s in schemas.values()) > PLAIN_ROWS else "plain"
    if kind == "compiled":
        from paritree.core.fast.warming import warm

        warm(say)
        for url in {target.source.url for target in question.targets}:
            connector_class(url).prepare(say)
    return kind


def compare(
    question: Question, on_progress: ProgressCallback = unheard, say: Callable[[str], None] = unheard
) -> dict[str, Any]:
    """Compare the targets and return the report. Raises ConfigError before any scan, SourceError when none is left."""
    schemas, unreachable = describe(question.targets)
    if len(schemas) < limits.REGIONS_MIN:
        failed = "; ".join(f"{region}: {reason}" for region, reason in unreachable.items())
        raise SourceError(
            f"fewer than two regions can be reached: {failed}",
            next_step="'paritree doctor' with the same tables checks each of them",
        )
    derived = derive(question, schemas)
    profile = derived.profile
    check_where(question, derived, schemas)
    throttle = Throttle(max_rate_rows_s=question.max_rate_rows_s, snapshot_max_s=limits.SNAPSHOT_S_MAX)
    keys = DatasetKeys.of(secrets.token_bytes(MASTER_KEY_BYTES), DATASET)
    digester = choose_digester(question, schemas, say)
    kind = choose_executor(question, profile, schemas)
    with ExitStack() as stack:
        spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paritree-")))
        shared = stack.enter_context(SharedExecutor(lambda: open_executor(kind, question.workers)))

        def service_of(target: Target) -> Service:
            copy = Copy(
                target.source,
                profile,
                binding_of(question, target, derived),
                keys,
                question.shard_rows,
                digester,
                throttle,
            )
            return Service(
                target.region,
                "diff",
                "diff",
                {DATASET: copy},
                spool=spool / target.region,
                executor=shared.lend,
                policy=Policy(
                    "keys" if question.reveal else "tokens", keys_max=1 << 31, sealed_keys=True, whole_rows=True
                ),
                keeps_keys=False,
            )

        reachable = [target for target in question.targets if target.region in schemas]
        report = asyncio.run(_sweep(question, profile, [service_of(t) for t in reachable], unreachable, on_progress))
    report["notes"] = [*derived.notes, *report["notes"]]
    return report


async def _sweep(
    question: Question,
    profile: Profile,
    services: Sequence[Service],
    unreachable: Mapping[str, str],
    on_progress: ProgressCallback,
) -> dict[str, Any]:
    links = {link.region: link for link in (LoopbackLink(service) for service in services)}
    options = SweepOptions(
        lag_max_s=question.lag_max_s,
        purpose=PURPOSE if question.reveal else "",
        limit=question.limit,
    )
    sweep = Sweep(
        profile,
        [target.region for target in question.targets],
        links,
        f"diff-{uuid.uuid4().hex[:12]}",
        options,
        on_progress=on_progress,
        unreachable=unreachable,
    )
    try:
        return await sweep.run()
    finally:
        await asyncio.gather(*(service.close() for service in services))
