"""What ``paritree doctor`` checks, one after the other; every problem comes with its fix."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.connectors.contract import Connector, Source
from edge_agent.connectors.registry import connect
from edge_agent.serve import agent_tls, copies_of, leading_of, rest_key_of, source_of
from edge_agent.topic.following import topic_changes, topic_of
from edge_agent.upkeep import demand_followable, follower
from paritree.cli.adhoc import Target, described, parse_target
from paritree.config.agent import AgentConfig, Held, held, load_agent
from paritree.config.scopes import scopes_of
from paritree.core.derive import derive_profile
from paritree.core.errors import ConfigError, ParitreeError, SourceError
from paritree.core.fitting import check_binding
from paritree.core.schema import TableSchema
from paritree.pki import read_master_key
from paritree.wire.dial import Address
from paritree.wire.handshake import look

LEAF_DAYS_LEFT = 14
"""A certificate that expires within this many days is worth a note."""


@dataclass(frozen=True, slots=True)
class Check:
    """One checked thing: ``level`` is ok, note, error or unreachable."""

    where: str
    what: str
    level: str
    message: str
    fix: str = ""


def check_targets(texts: Sequence[str]) -> Iterator[Check]:
    """Each table by itself, then whether they can be compared with each other."""
    targets = [parse_target(text) for text in texts]
    if len({target.region for target in targets}) < len(targets):
        raise ConfigError("two regions have the same name", next_step="give each its own name before the '='")
    schemas: dict[str, TableSchema] = {}
    for target in targets:
        where = f"{target.region}: {target.table or target.url}"
        yield from _source(where, target.source, target.table, schemas, target)
    if len(schemas) > 1 and len(schemas) == len(targets):
        yield _tried("together", "profile", lambda: _derived(schemas))


def _derived(schemas: dict[str, TableSchema]) -> str:
    derived = derive_profile("diff", schemas)
    key = ", ".join(derived.profile.key)
    return f"{len(derived.profile.columns)} columns can be compared, key {key}"


def _source(
    where: str,
    source: Source,
    table: str,
    schemas: dict[str, TableSchema],
    target: Target | None = None,
    declared_key: Sequence[str] = (),
) -> Iterator[Check]:
    try:
        with connect(source) as connector:
            yield Check(where, "connection", "ok", connector.engine)
            schema = connector.describe(table) if target is None else described(connector, target)
            if target is not None:
                schemas[target.region] = schema
            yield from _table(where, schema, declared_key)
            yield from _advice(where, connector, table)
    except ParitreeError as error:
        yield _failed(where, "table" if isinstance(error, ConfigError) else "connection", error)


def _table(where: str, schema: TableSchema, declared_key: Sequence[str]) -> Iterator[Check]:
    if declared_key:
        yield Check(where, "key", "ok", f"{', '.join(declared_key)}, as the dataset says")
    elif schema.key:
        yield Check(where, "key", "ok", ", ".join(schema.key))
    else:
        yield Check(
            where,
            "key",
            "note",
            "the catalogue knows no key",
            "name it: --key a,b, or key = [...]; '*' is the whole row",
        )
    for column in schema.columns:
        if column.logical is None and column.typed:
            fix = f"leave it out (--ignore {column.name}), or bind an expression in the datasets file"
            yield Check(where, f"column {column.name}", "error", f"{column.engine_type}: {column.refusal}", fix)
        elif column.lost:
            yield Check(where, f"column {column.name}", "note", f"{column.engine_type}: {column.lost}")
    known = sum(column.logical is not None or not column.typed for column in schema.columns)
    yield Check(where, "types", "ok", f"{known} of {len(schema.columns)} columns have a logical type")


def _advice(where: str, connector: Connector, table: str) -> Iterator[Check]:
    for sentence in connector.advice(table):
        yield Check(where, "advice", "note", sentence)


def check_agent(path: Path) -> Iterator[Check]:
    """The agent's own files, its way to the coordinator, and every table that its datasets bind."""
    file = str(path)
    try:
        config = load_agent(path)
    except ParitreeError as error:
        yield _failed(file, "agent file", error)
        return
    yield Check(file, "agent file", "ok", f"region {config.region}, agent {config.name}")
    yield _tried(file, "certificates", lambda: _certificates(config))
    yield _tried(file, "master key", lambda: _master_key(config))
    if config.at_rest_key is not None:
        yield _tried(file, "at-rest key", lambda: "32 bytes" if rest_key_of(config) else "none")
    yield _tried(file, "spool", lambda: _spool(Path(config.spool)))
    yield _tried(file, "coordinator", lambda: asyncio.run(_coordinator(config)))
    try:
        copies = held(config)
    except ParitreeError as error:
        yield _failed(file, "datasets", error)
        return
    yield _tried(file, "settings", lambda: _settings(config))
    yield _tried(file, "scopes", lambda: _scopes(config, copies))
    for name, copy in copies.items():
        yield from _bound(f"{name}: {copy.binding.table}", config, copy)


def _bound(where: str, config: AgentConfig, copy: Held) -> Iterator[Check]:
    try:
        source = source_of(config, copy.dataset.region(config.region).connection, copy.connection)
    except ParitreeError as error:
        yield _failed(where, "connection", error)
        return
    schemas: dict[str, TableSchema] = {}
    target = Target("here", source.url, copy.binding.table)
    yield from _source(where, source, copy.binding.table, schemas, target, copy.dataset.profile.key)
    if "here" in schemas:

        def fits() -> str:
            check_binding(copy.dataset.profile, copy.binding, schemas["here"])
            return f"{len(copy.dataset.profile.columns)} columns fit the profile"

        yield _tried(where, "binding", fits)
        yield from _followed(where, config, source, copy)


def _followed(where: str, config: AgentConfig, source: Source, copy: Held) -> Iterator[Check]:
    """Whether the changes of a dataset can be followed that is to be."""
    if copy.dataset.name not in config.refresh or config.refresh[copy.dataset.name].changes in ("none", "rescan"):
        return
    try:
        if (topic := topic_of(config, copy.dataset.name)) is not None:
            with topic_changes(topic, copy.binding, follower(config), None, None) as told:
                sentences = told.check()
        else:
            with connect(source) as connector, connector.changes(copy.binding, follower(config)) as changes:
                sentences = changes.check()
    except ParitreeError as error:
        yield _failed(where, "changes", error)
        return
    yield Check(where, "changes", "ok", "they can be followed")
    for sentence in sentences:
        yield Check(where, "changes", "note", sentence)


def _certificates(config: AgentConfig) -> str:
    left = agent_tls(config).certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    return f"valid for {left.days} more days" + (", renew it soon" if left.days < LEAF_DAYS_LEFT else "")


def _settings(config: AgentConfig) -> str:
    copies = copies_of(config)
    for dataset in config.refresh:
        demand_followable(config, copies, dataset)
    return f"{len(copies)} datasets, {len(config.refresh)} kept indexes"


def _scopes(config: AgentConfig, copies: Mapping[str, Held]) -> str:
    profiles = {name: copy.dataset.profile for name, copy in copies.items()}
    found = scopes_of(config.scopes, profiles, config.file)
    return ", ".join(f"{name} of {dataset}" for dataset, scopes in found.items() for name in scopes) or "none"


def _master_key(config: AgentConfig) -> str:
    read_master_key(config.master_key, where=f"{config.file}: master_key", base=config.folder)
    return "32 bytes"


def _spool(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}", next_step="name another spool") from None
    return str(folder)


async def _coordinator(config: AgentConfig) -> str:
    async with leading_of(config)(Address.parse(config.coordinator.address)) as address:
        await look(address, agent_tls(config))
    return config.coordinator.address


def _tried(where: str, what: str, attempt: Callable[[], str]) -> Check:
    try:
        return Check(where, what, "ok", attempt())
    except ParitreeError as error:
        return _failed(where, what, error)


def _failed(where: str, what: str, error: ParitreeError) -> Check:
    level = "unreachable" if error.retryable or isinstance(error, SourceError) else "error"
    return Check(where, what, level, error.message, error.next_step)
