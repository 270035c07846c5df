"""One driver session to one datacenter: its pages stay raw bytes, and its retries are ours."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import DCAwareRoundRobinPolicy, FallthroughRetryPolicy, HostFilterPolicy, TokenAwarePolicy
from cassandra.query import BoundStatement

from edge_agent.connectors.cassandra.cqltype import from_driver
from edge_agent.connectors.cassandra.errors import DRIVER_ERRORS, speaks_another_protocol, translate
from edge_agent.connectors.cassandra.options import Settings, tls_context
from edge_agent.connectors.cassandra.pages import PROTOCOLS, Asked, Page, RawHandler, Request, Statement
from edge_agent.connectors.cassandra.reactor import CONNECTION_CLASS
from paritree.core.errors import ConfigError, SourceError

CONNECT_TIMEOUT_S: Final = 10.0
PAUSE_S: Final = 0.25
"""Before the second attempt at a page; doubled for each further one, with jitter so that shards do not fall in step."""
CATALOGUE: Final = "catalogue"

# The driver logs every failure with a traceback and raises it as well; it is the raised one that people get to see.
if logging.getLogger("cassandra").level == logging.NOTSET:
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)


class Session:
    """The connection to one cluster. Every method raises SourceError or ConfigError."""

    def __init__(self, settings: Settings, secrets: Mapping[str, str]) -> None:
        self.settings = settings
        self.waited_s = 0.0
        """Seconds from question to answer, of the scan begun last; pages are decoded in some of them."""
        # Never another datacenter: without a name, the one of the first host that answers.
        self._policy = DCAwareRoundRobinPolicy(local_dc=settings.dc)
        self.cluster, self.session = self._connected(secrets)
        self.session.client_protocol_handler = RawHandler

    def _connected(self, secrets: Mapping[str, str]) -> tuple[Cluster, Any]:
        doing = f"connecting to {self.settings.where}"
        for version in PROTOCOLS:
            cluster = None
            try:
                cluster = self._cluster(secrets, version)
                session = cluster.connect()
                self._require_reachable(cluster)
                return cluster, session
            except DRIVER_ERRORS as error:
                if cluster is not None:
                    cluster.shutdown()
                if version == PROTOCOLS[-1] or not speaks_another_protocol(error):
                    raise translate(error, doing) from error
        raise AssertionError("unreachable")  # the last protocol raises or returns

    def _require_reachable(self, cluster: Cluster) -> None:
        """Raise ConfigError, and close, for a ring of which a tunnel leads to one node only."""
        nodes = len(cluster.metadata.all_hosts())
        if self.settings.tunnel_to and nodes > 1:
            cluster.shutdown()
            raise ConfigError(
                f"the Cassandra ring behind the tunnel has {nodes} nodes, and the tunnel leads to one of them",
                next_step="run an agent inside that network, and remove ssh from this connection",
            )

    def _at_end(self, host: Any) -> bool:
        """Whether a host is the end of the tunnel: no other is dialled."""
        return (host.endpoint.address, host.endpoint.port) in self.settings.hosts

    def _cluster(self, secrets: Mapping[str, str], version: int) -> Cluster:
        user = self.settings.user
        return Cluster(
            contact_points=list(self.settings.hosts),
            # Asked for by number: the driver's own way down from the newest logs a warning for each connection.
            protocol_version=version,
            execution_profiles={
                EXEC_PROFILE_DEFAULT: self._profile(self.settings.level),
                # System tables are local to each node: no other level means anything there.
                CATALOGUE: self._profile(ConsistencyLevel.ONE),
            },
            auth_provider=PlainTextAuthProvider(user, secrets["password"]) if user else None,
            ssl_context=tls_context(self.settings),
            ssl_options={"server_hostname": self.settings.tunnel_to} if self._renamed else None,
            connection_class=CONNECTION_CLASS,
            connect_timeout=CONNECT_TIMEOUT_S,
            control_connection_timeout=CONNECT_TIMEOUT_S,
            # A cluster may have thousands of tables: only the keyspace in question is read.
            schema_metadata_enabled=False,
            # A host that does not know a statement says so, and the driver prepares it there then.
            prepare_on_all_hosts=False,
        )

    def _profile(self, level: int) -> ExecutionProfile:
        policy = HostFilterPolicy(self._policy, self._at_end) if self.settings.tunnel_to else self._policy
        return ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(policy),
            retry_policy=FallthroughRetryPolicy(),
            consistency_level=level,
            request_timeout=self.settings.timeout_s,
            row_factory=lambda _names, pages: pages,
        )

    @property
    def _renamed(self) -> bool:
        return bool(self.settings.tunnel_to) and self.settings.tls

    @property
    def hosts(self) -> dict[str, Any]:
        """Host id -> the driver's host, of the datacenter that is asked."""
        hosts = self.cluster.metadata.all_hosts()
        return {str(host.host_id): host for host in hosts if host.datacenter == self.datacenter}

    @property
    def datacenter(self) -> str:
        """The datacenter whose hosts are asked."""
        return str(self._policy.local_dc)

    def load_keyspace(self, keyspace: str) -> None:
        """Read a keyspace's replication, from which the driver knows the replicas of a token."""
        if keyspace not in self.cluster.metadata.keyspaces:
            try:
                self.cluster.refresh_keyspace_metadata(keyspace, max_schema_agreement_wait=0)
            except DRIVER_ERRORS as error:
                raise translate(error, f"reading the replication of keyspace {keyspace}") from error

    def catalogue(self, cql: str, values: Sequence[Any] = (), host: Any = None) -> list[tuple[Any, ...]]:
        """All rows of a query of a system table, decoded. ``%s`` in it stands for a value, which the driver quotes."""
        try:
            result = self.session.execute(cql, tuple(values), execution_profile=CATALOGUE, host=host)
            pages = [result.current_rows[0]]
            while result.has_more_pages:
                result.fetch_next_page()
                pages.append(result.current_rows[0])
        except DRIVER_ERRORS as error:
            raise translate(error, "reading the catalogue") from error
        return [row for page in pages for row in page.values()]

    def prepare(self, cql: str, doing: str) -> Statement:
        """Prepare a SELECT. The result's column types come from the server with it."""
        try:
            prepared = self.session.prepare(cql)
        except DRIVER_ERRORS as error:
            raise translate(error, doing) from error
        types = tuple(column[3] for column in prepared.result_metadata or ())
        return Statement(prepared, types, tuple(map(from_driver, types)))

    def pages(self, request: Request) -> Iterator[Page]:
        """The pages of one request. The next page is asked for before the last one is handed out."""
        asked = self._ask(request, 0)
        while True:
            page, state, seconds = self._answer(request, asked)
            if request.size is not None:
                self.waited_s += seconds
            if request.size is not None and page.rows.count:
                request.size.note(page, seconds)
            if state is not None:
                request = replace(request, state=state)
                asked = self._ask(request, 0)
            yield page
            if state is None:
                return

    def many(self, requests: Iterable[Request], concurrency: int) -> Iterator[Page]:
        """The pages of many small requests, so many at once, in their order."""
        waiting: deque[tuple[Request, Asked]] = deque()
        source = iter(requests)
        while True:
            while len(waiting) < concurrency and (request := next(source, None)) is not None:
                waiting.append((request, self._ask(request, 0)))
            if not waiting:
                return
            request, asked = waiting.popleft()
            page, state, _ = self._answer(request, asked)
            yield page
            if state is not None:
                yield from self.pages(replace(request, state=state))

    def _ask(self, request: Request, attempt: int) -> Asked:
        bound = BoundStatement(request.statement.prepared)
        bound.values = list(request.values)
        # A page that timed out is asked again at half the size: it may have been too much work for the replicas.
        rows = min(request.size.rows, self.settings.page_rows) if request.size else self.settings.page_rows
        bound.fetch_size = max(1, rows >> attempt)
        live = self.hosts if request.hosts else {}
        # Every replica in turn, then whichever host the policy names: any of them can coordinate.
        name = request.hosts[attempt] if attempt < len(request.hosts) else ""
        host = live.get(name)
        usable = host if host is not None and host.is_up else None
        return Asked(self.session.execute_async(bound, paging_state=request.state, host=usable))

    def _answer(self, request: Request, asked: Asked) -> tuple[Page, bytes | None, float]:
        for attempt in range(1, self.settings.attempts + 1):
            try:
                result = asked.future.result()
            except DRIVER_ERRORS as error:
                translated = translate(error, request.doing)
                if not translated.retryable or attempt == self.settings.attempts:
                    raise translated from error
                time.sleep(PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
                asked = self._ask(request, attempt)
            else:
                return self._checked(request, result.current_rows[0]), result.paging_state, asked.seconds
        raise AssertionError("unreachable")  # attempts is at least 1

    def _checked(self, request: Request, page: Page) -> Page:
        """A user-defined type that was altered meanwhile would be read with the wrong fields."""
        statement = request.statement
        if page.types != statement.types and tuple(map(from_driver, page.types)) != statement.kinds:
            raise SourceError(
                f"the table's types changed while {request.doing}", next_step="start again", retryable=True
            )
        return page

    def close(self) -> None:
        """Close every connection and end the driver's threads. Idempotent."""
        self.cluster.shutdown()
