"""One connection to the server, set up so that it reads everything or fails: read only, no row filters, kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import psycopg
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from edge_agent.connectors.contract import Source
from edge_agent.connectors.postgresql.errors import connection_error, translated
from paritree.core.errors import ConfigError

VERSION_MIN: Final = 120_000
PORT: Final = 5432
LOOPBACK: Final = "127.0.0.1"
STALL_SLACK_S: Final = 60.0
"""How much longer than the statement timeout the server may be silent before it counts as gone."""
POLL_S: Final = 0.1
"""Between two looks at signals while psycopg waits; its own default."""
RV = TypeVar("RV")

DEFAULTS: Final[Mapping[str, str]] = {
    "application_name": "paritree",
    "connect_timeout": "10",
    # A dead peer is noticed after about two minutes, not after the kernel's two hours.
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "6",
}
"""Connection parameters of libpq that a URL may replace."""

SETTINGS: Final[Mapping[str, str]] = {
    # A policy must raise an error: it would hide rows silently.
    "row_security": "off",
    "default_transaction_read_only": "on",
    # Text casts in the operator's expressions and in key bounds must not depend on the role's settings.
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    # Kind to the source: one backend per shard, no compiler run for one COPY.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # Look-ups by key are point reads; with the default of 4 the planner prefers to read whole tables.
    "random_page_cost": "1.1",
    # The server gives up a dead agent's snapshot after about two minutes.
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}
"""Settings of every session, set after the connection is made."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a PostgreSQL source (``Source.options``, decimal text).

    ``statement_timeout_ms``: longest time of one statement, so of one shard's COPY (default 600,000; 0: no limit).
    ``lock_timeout_ms``: longest wait for a lock (default 10,000): a waiting ALTER TABLE blocks new readers, and ours
    must not keep it waiting for ever. ``decoder``: ``fast`` (compiled), ``plain`` or ``auto`` (fast for large shards).
    """

    statement_timeout_ms: int = 600_000
    lock_timeout_ms: int = 10_000
    decoder: str = "auto"

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Options:
        """Read the options. Raises ConfigError for an unknown or malformed one."""
        known: dict[str, Any] = {}
        for name, value in options.items():
            if name in ("statement_timeout_ms", "lock_timeout_ms") and value.isascii() and value.isdigit():
                known[name] = int(value)
            elif name == "decoder" and value in ("auto", "fast", "plain"):
                known[name] = value
            else:
                raise ConfigError(
                    f"postgresql: option {name} = '{value}' is not known",
                    next_step="known: statement_timeout_ms and lock_timeout_ms (whole milliseconds), "
                    "decoder (auto, fast, plain)",
                )
        return cls(**known)


class Connection(psycopg.Connection[TupleRow]):
    """Waits no longer than ``silence_s_max`` for the end of a statement: None for ever.

    The server ends a statement that takes too long, but a line can go quiet without being closed.
    """

    silence_s_max: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = POLL_S, timeout: float | None = None) -> RV:
        """See psycopg. Raises OperationalError when the time is over; the connection is closed then."""
        limit_s = self.silence_s_max if timeout is None else timeout
        until = None if limit_s is None else time.monotonic() + limit_s
        try:
            return super().wait(gen, interval, limit_s)
        except psycopg.OperationalError as error:
            if error.sqlstate or until is None or time.monotonic() < until:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server has said nothing for {limit_s:g} s") from error


@dataclass(frozen=True)
class Session:
    """A connection in autocommit mode. Not for two threads at once."""

    connection: psycopg.Connection[TupleRow]
    options: Options
    role: str = ""
    encoding: str = "UTF8"

    @property
    def server_version(self) -> int:
        """As libpq gives it: 150018 is 15.18."""
        return self.connection.info.server_version

    @property
    def client_encoding(self) -> str:
        """The client encoding for reading rows: SQL_ASCII databases cannot convert, and asking them for UTF8 would end
        the scan at the first byte that is not. The catalogue is read as UTF8 always."""
        return "SQL_ASCII" if self.encoding == "SQL_ASCII" else "UTF8"

    def execute(
        self,
        query: str | sql.SQL | sql.Composed,
        params: Sequence[Any] | None = None,
        *,
        doing: str = "reading the catalogue",
    ) -> psycopg.Cursor[TupleRow]:
        """Run a statement. Raises ConfigError or SourceError; ``doing`` says what for."""
        with translated(doing):
            return self.connection.execute(sql.SQL(query) if isinstance(query, str) else query, params)

    @property
    def silence_s_max(self) -> float | None:
        """How long the server may say nothing; None: for ever."""
        return silence_s_max(self.options)

    def close(self) -> None:
        """Close the connection; an open transaction ends. Idempotent."""
        self.connection.close()


def silence_s_max(options: Options) -> float | None:
    """How long the server may say nothing, as it should have ended any statement before; None: for ever."""
    limit_s = options.statement_timeout_ms / 1000
    return limit_s + STALL_SLACK_S if limit_s else None


def connect(source: Source) -> Session:
    """Open a session. Raises SourceError (unreachable, refused) or ConfigError (URL, option, database)."""
    options = Options.parse(source.options)
    parameters = _parameters(source)
    where = _where(parameters)
    try:
        connection = Connection.connect(make_conninfo(**parameters), autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise connection_error(error, where, str(parameters.get("dbname", ""))) from error
    connection.silence_s_max = silence_s_max(options)
    try:
        return _prepared(connection, options)
    except BaseException:
        connection.close()
        raise


def through(source: Source, local_port: Callable[[str, int], int]) -> Source:
    """The source at the local end of a tunnel: libpq dials ``hostaddr``, and checks certificates against ``host``.

    Raises ConfigError for a URL that names not exactly one host, or a socket.
    """
    parameters = _parameters(source)
    host, address = str(parameters.get("host") or ""), str(parameters.get("hostaddr") or "")
    port = str(parameters.get("port") or PORT)
    if not (host or address) or host.startswith(("/", "@")) or "," in host + address + port or not port.isdigit():
        raise ConfigError(
            "postgresql: a tunnel leads to exactly one host and port",
            next_step="write one host into the URL, or remove ssh from this connection",
        )
    end = urlencode({"host": host or address, "hostaddr": LOOPBACK, "port": local_port(address or host, int(port))})
    return replace(source, url=f"{source.url}{'&' if '?' in source.url else '?'}{end}")


def _parameters(source: Source) -> dict[str, Any]:
    if not source.url.startswith(("postgresql://", "postgres://")):
        raise ConfigError("postgresql: the URL does not begin with postgresql://")
    try:
        parameters = dict(conninfo_to_dict(source.url))
    except psycopg.ProgrammingError:
        # libpq's message repeats parts of the URL, which may hold what nobody should read: it is not passed on.
        raise ConfigError(
            "postgresql: malformed URL", next_step="write postgresql://user@host:port/database?sslmode=..."
        ) from None
    if "password" in parameters:
        raise ConfigError(
            "postgresql: the URL holds a password",
            next_step="take it out and give it as the connection's secret, or with PGPASSFILE",
        )
    parameters = {**DEFAULTS, **parameters}
    if "password" in source.secrets:
        parameters["password"] = source.secrets["password"]
    return parameters


def _where(parameters: Mapping[str, Any]) -> str:
    parts = [
        f"{name}={parameters[name]}" for name in ("host", "port", "dbname", "user", "service") if parameters.get(name)
    ]
    return " ".join(parts) or "the default server"


def _prepared(connection: Connection, options: Options) -> Session:
    version = connection.info.server_version
    if version < VERSION_MIN:
        raise ConfigError(
            f"postgresql: server version {version // 10_000} is not supported", next_step="use 12 or later"
        )
    settings = {
        **SETTINGS,
        "statement_timeout": str(options.statement_timeout_ms),
        "lock_timeout": str(options.lock_timeout_ms),
        "client_encoding": "UTF8",
        "idle_in_transaction_session_timeout": "0",
    }
    if version >= 140_000:
        settings["idle_session_timeout"] = "0"
    statement = sql.SQL("; ").join(
        sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in settings.items()
    )
    encoding = connection.info.parameter_status("server_encoding") or "UTF8"
    session = Session(connection, options, encoding=encoding)
    session.execute(statement, doing="setting up the session")
    row = session.execute("SELECT current_user").fetchone()
    return replace(session, role=row[0] if row else "")
