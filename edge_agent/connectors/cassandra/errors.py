"""The driver's exceptions, translated at the border. Whether asking again can help is decided here, once."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Final

from cassandra import (
    AuthenticationFailed,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    Unauthorized,
    Unavailable,
    UnresolvableContactPoints,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import (
    ErrorMessage,
    IsBootstrappingErrorMessage,
    OverloadedErrorMessage,
    ServerError,
    SyntaxException,
    TruncateError,
)

from paritree.core.errors import ConfigError, ParitreeError, SourceError

DRIVER_ERRORS: Final = (DriverException, NoHostAvailable, ConnectionException, ErrorMessage, OSError)
"""Everything that the driver raises; the server's own answers are ErrorMessage or DriverException."""

_TOMBSTONES: Final = 0x0001
"""The failure code of a read that met too many tombstones (native protocol v5, section 9)."""
_PASSING: Final = (OverloadedErrorMessage, IsBootstrappingErrorMessage, ServerError, TruncateError)


def translate(error: BaseException, doing: str) -> ParitreeError:
    """Our error for the driver's; ``doing`` says what was tried (``reading shop.orders``).

    No message holds a value or a secret: the driver's texts name hosts, tables and roles only.
    """
    inner = list(_causes(error))
    for each in inner:
        if isinstance(each, AuthenticationFailed):
            return SourceError(
                f"Cassandra refused the login while {doing}: {_text(each)}",
                next_step="check the user in the URL and the password of this connection",
            )
        # The driver wraps a failed handshake into a plain OSError that only quotes it.
        if isinstance(each, ssl.SSLError) or "[SSL:" in str(each):
            return SourceError(
                f"no TLS connection to Cassandra while {doing}: {_text(each)}",
                next_step="check cafile, and that each node's certificate names its address; "
                "verify_hostname=false does without the address, where the authority serves this cluster only",
            )
    return _answered(error, doing) or _unreachable(error, inner, doing)


def speaks_another_protocol(error: BaseException) -> bool:
    """Whether the server refused the protocol version that was asked for."""
    return any("protocol_version" in str(each) for each in _causes(error))


def _answered(error: BaseException, doing: str) -> ParitreeError | None:
    if isinstance(error, Unauthorized):
        return _unauthorized(error, doing)
    if isinstance(error, Unavailable):
        return SourceError(
            f"too few replicas are alive while {doing}: {error.required_replicas} needed, {error.alive_replicas} alive",
            next_step="bring the replicas up, or set a lower consistency",
            retryable=True,
        )
    if isinstance(error, ReadTimeout):
        return SourceError(
            f"the replicas did not answer in time while {doing}: "
            f"{error.received_responses} of {error.required_responses} answered",
            next_step="try again when the cluster is less busy, or lower page_rows",
            retryable=True,
        )
    if isinstance(error, ReadFailure):
        return _read_failure(error, doing)
    if isinstance(error, OperationTimedOut):
        return SourceError(
            f"Cassandra did not answer in time while {doing}",
            next_step="check the load of the cluster, or raise timeout_s",
            retryable=True,
        )
    if isinstance(error, _PASSING):
        return SourceError(f"Cassandra could not answer while {doing}: {_text(error)}", retryable=True)
    if isinstance(error, InvalidRequest | SyntaxException | ErrorMessage):
        return SourceError(f"Cassandra refused the request while {doing}: {_text(error)}")
    return None


def _unauthorized(error: BaseException, doing: str) -> ConfigError:
    text = _text(error)
    found = re.search(r"User (\S+) has no (\w+) permission on <(\w+) (\S+)>", text)
    if found is None:
        return ConfigError(f"not permitted while {doing}: {text}", next_step="grant the role SELECT on the table")
    role, permission, kind, name = found.groups()
    return ConfigError(
        f"the role '{role}' has no {permission} permission on {kind} {name}",
        next_step=f"GRANT {permission} ON {kind.upper()} {name} TO {role};",
    )


def _read_failure(error: ReadFailure, doing: str) -> SourceError:
    codes = set((error.error_code_map or {}).values())
    if _TOMBSTONES in codes:
        return SourceError(
            f"a replica met too many tombstones while {doing}",
            next_step="compact the table, or lower page_rows",
        )
    return SourceError(f"{error.failures} replicas failed while {doing}", retryable=True)


def _unreachable(error: BaseException, inner: list[BaseException], doing: str) -> SourceError:
    if isinstance(error, UnresolvableContactPoints):
        return SourceError(f"no host of the URL has an address while {doing}", next_step="check the host names")
    reasons = sorted({_text(each) for each in inner if not isinstance(each, NoHostAvailable)} - {""})
    return SourceError(
        f"Cassandra cannot be reached while {doing}: {'; '.join(reasons) or 'no host answered'}",
        next_step="check that the hosts and ports of the URL answer, and that dc names their datacenter",
        retryable=True,
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    yield error
    if isinstance(error, NoHostAvailable) and isinstance(error.errors, dict):
        for each in error.errors.values():
            if isinstance(each, BaseException):
                yield from _causes(each)


def _text(error: BaseException) -> str:
    found = re.search(r'message="(.*?)"', str(error), re.DOTALL)
    return found.group(1) if found else str(error).strip()
