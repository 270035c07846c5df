"""psycopg's exceptions and the server's error codes, translated into paritree's errors in one place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from paritree.core.errors import ConfigError, ParitreeError, SourceError

RETRYABLE_CLASSES: Final = ("08", "40", "53", "57", "58")
"""Connection lost, rolled back (deadlock, recovery conflict), out of resources, operator intervened, system error."""
SNAPSHOT_GONE: Final = frozenset({"22023", "42704", "55000"})
"""What SET TRANSACTION SNAPSHOT says of a lost snapshot: 22023 up to version 16, 42704 later, 55000 owner ended."""

_CONNECTIONS: Final = (
    "lower throttle.connections_max of the agent, or raise max_connections or the role's CONNECTION LIMIT"
)
_QUOTED: Final = re.compile(r'".*"', re.DOTALL)
_REFUSED_LOGINS: Final = (
    ("authentication failed", "check the user and the password (secrets, PGPASSFILE)"),
    ("no password supplied", "give the password as a secret of the connection, or with PGPASSFILE"),
    ("no pg_hba.conf entry", "allow this user, address and database in the server's pg_hba.conf"),
    ("is not permitted to log in", "ALTER ROLE ... LOGIN, or another user in the URL"),
    ("too many", _CONNECTIONS),
    ("connection slots", _CONNECTIONS),
    ("role ", "create the role, or correct the user in the URL"),
    ("certificate", "check sslmode, sslrootcert, sslcert and sslkey in the URL"),
)


@dataclass(frozen=True, slots=True)
class ServerError:
    """An ErrorResponse of the server: SQLSTATE, primary message, hint."""

    sqlstate: str
    message: str
    hint: str = ""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise a psycopg exception of the block as a ParitreeError; ``doing`` says what was tried ("reading x")."""
    try:
        yield
    except psycopg.Error as error:
        raise source_error(of_exception(error), doing) from error


def of_exception(error: psycopg.Error) -> ServerError:
    """What the server said, out of psycopg's exception (no SQLSTATE where the connection itself failed)."""
    diagnostic = error.diag
    message = diagnostic.message_primary or str(error).strip() or type(error).__name__
    return ServerError(error.sqlstate or "", message, diagnostic.message_hint or "")


def source_error(error: ServerError, doing: str) -> ParitreeError:
    """The ParitreeError of a server's error, with what to do next and whether a retry can help."""
    code = error.sqlstate
    # What the server says of a value quotes it, and messages go to the coordinator.
    said = _QUOTED.sub('"…"', error.message) if code.startswith("22") else error.message
    message = f"postgresql: {doing}: {said}"
    if code == "42501":
        return SourceError(message, next_step=_permission_step(error, doing))
    if code in ("42P01", "3F000", "42703"):
        return ConfigError(message, next_step="correct the name in the binding, or the schema (schema.table)")
    if code == "42883" or code.startswith("42"):
        return ConfigError(message, next_step="correct the expression, the where clause or the type in the binding")
    if code == "57014":
        step = "raise statement_timeout_ms of the connection, or plan smaller shards"
        return SourceError(message, next_step=step, retryable=True)
    if code == "55P03":
        step = "another session holds or awaits an exclusive lock on the table; try again when it is done"
        return SourceError(message, next_step=step, retryable=True)
    if code.startswith("22"):
        step = "a value makes the server fail: correct the expression, or leave out the column"
        return SourceError(message, next_step=error.hint or step)
    if code.startswith("28"):
        return SourceError(message, next_step="check the user and the password")
    return SourceError(message, next_step=error.hint, retryable=not code or code.startswith(RETRYABLE_CLASSES))


def _permission_step(error: ServerError, doing: str) -> str:
    if "row-level security" in error.message or "row security" in error.message:
        return "a policy would hide rows from this role: ALTER ROLE ... BYPASSRLS, or connect as the table's owner"
    if "permission denied for schema" in error.message:
        return f"GRANT USAGE ON SCHEMA {error.message.rpartition(' ')[2]} TO the role"
    return f"GRANT SELECT on what '{doing}' needs to the role"


def snapshot_error(error: ParitreeError, sqlstate: str, snapshot: str) -> ParitreeError:
    """The same error, or the plainer one when the plan that exported the snapshot is gone."""
    if sqlstate not in SNAPSHOT_GONE:
        return error
    return SourceError(
        f"postgresql: the snapshot {snapshot} of the plan is no longer valid: its transaction ended ({error.message})",
        next_step="plan the scan again",
    )


def connection_error(error: psycopg.Error, where: str, database: str) -> ParitreeError:
    """Why a connection could not be made. libpq gives no SQLSTATE here, so the (English) text decides.

    ``where`` is host, port and user, never a secret. An unknown text is a retryable SourceError.
    """
    text = str(error).strip().replace("\n", " ")
    message = f"postgresql: cannot connect to {where}: {text}"
    if "FATAL" in text and f'database "{database}" does not exist' in text:
        return ConfigError(message, next_step="correct the database in the URL")
    if "FATAL" in text or "password" in text or "certificate" in text:
        for mark, step in _REFUSED_LOGINS:
            if mark in text:
                return SourceError(message, next_step=step, retryable=step is _CONNECTIONS)
    if isinstance(error, psycopg.ProgrammingError | psycopg.InterfaceError):
        return ConfigError(message, next_step="correct the URL")
    return SourceError(message, next_step="check that the server runs and can be reached", retryable=True)
