"""What the URL and its options say: hosts, keyspace, login, TLS, consistency, and how the cluster is spared."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote

from cassandra import ConsistencyLevel

from edge_agent.connectors.cassandra.identifiers import identifier
from edge_agent.connectors.contract import BATCH_ROWS, Source
from paritree.core.errors import ConfigError
from paritree.core.urls import split_url

PORT: Final = 9042
CONSISTENCIES: Final = ("ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_QUORUM", "LOCAL_ONE")
"""Levels at which ranges can be read: EACH_QUORUM and ANY are for writes, SERIAL for single partitions."""
CONSISTENCY: Final = "LOCAL_QUORUM"
"""The weakest level that sees every write acknowledged at it, without leaving the datacenter (residency). Below it, a
replica that missed a write would be reported as a difference of the region; above it, other regions would be read."""
PAGE_ROWS: Final = 5_000
"""Rows asked for in a page at most; less where rows are large. Cassandra's own default, measured best here too."""
TIMEOUT_S: Final = 30.0
"""One page: three times the server's default range_request_timeout of 10 s."""
ATTEMPTS: Final = 4
WRITE: Final = "write cassandra://host:port,host:port/keyspace"
KNOWN: Final = (
    "consistency",
    "dc",
    "ssl",
    "cafile",
    "certfile",
    "keyfile",
    "verify_hostname",
    "page_rows",
    "timeout_s",
    "attempts",
    "tunnel_to",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Read and checked. ``user`` is empty where nobody logs in; ``keyspace`` is the default of table names.

    ``tunnel_to`` is the name of the node that the URL's host, a tunnel's local end, leads to: its certificate has to
    show that, no other node is dialled, and a ring of several is refused.
    """

    hosts: tuple[tuple[str, int], ...]
    keyspace: str = ""
    user: str = ""
    dc: str = ""
    consistency: str = CONSISTENCY
    page_rows: int = PAGE_ROWS
    timeout_s: float = TIMEOUT_S
    attempts: int = ATTEMPTS
    tls: bool = False
    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""
    verify_hostname: bool = True
    tunnel_to: str = ""

    @property
    def level(self) -> int:
        """The driver's number of the consistency level."""
        return int(ConsistencyLevel.name_to_value[self.consistency])

    @property
    def where(self) -> str:
        """The hosts for messages."""
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)


def read(source: Source) -> Settings:
    """The settings of a source; its options win over the URL's query. Raises ConfigError."""
    parts = _parts(source)
    user, separator, hosts = parts.netloc.rpartition("@")
    if ":" in user:
        raise ConfigError(
            "a password stands in the Cassandra URL", next_step="give it by file, environment or command instead"
        )
    given = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **source.options}
    if unknown := sorted(set(given) - set(KNOWN)):
        raise ConfigError(f"unknown Cassandra option '{unknown[0]}'", next_step=f"known: {', '.join(KNOWN)}")
    keyspace = unquote(parts.path.strip("/"))
    if separator and user and "password" not in source.secrets:
        raise ConfigError(
            f"the Cassandra URL names the user '{unquote(user)}' but there is no password",
            next_step="give the password by file, environment or command, or leave the user out",
        )
    return Settings(
        hosts=tuple(_host(text) for text in hosts.split(",")),
        keyspace=identifier(keyspace, "keyspace") if keyspace else "",
        user=unquote(user),
        dc=given.get("dc", ""),
        consistency=_consistency(given.get("consistency", CONSISTENCY)),
        page_rows=int(_number(given, "page_rows", PAGE_ROWS, 1, BATCH_ROWS)),
        timeout_s=_number(given, "timeout_s", TIMEOUT_S, 0.1, 3_600),
        attempts=int(_number(given, "attempts", ATTEMPTS, 1, 100)),
        tls=_tls(given),
        cafile=given.get("cafile", ""),
        certfile=given.get("certfile", ""),
        keyfile=given.get("keyfile", ""),
        verify_hostname=_flag(given, "verify_hostname", True),
        tunnel_to=given.get("tunnel_to", ""),
    )


def through(source: Source, local_port: Callable[[str, int], int]) -> Source:
    """The source at the local end of a tunnel to its one contact point. Raises ConfigError where there are several."""
    settings = read(source)
    if len(settings.hosts) != 1 or settings.tunnel_to:
        raise ConfigError(
            f"a tunnel leads to one Cassandra node, not to {settings.where}",
            next_step="write one host into the URL, or remove ssh from this connection",
        )
    ((host, port),) = settings.hosts
    parts = _parts(source)
    user, separator, _ = parts.netloc.rpartition("@")
    local = f"{user}{separator}127.0.0.1:{local_port(host, port)}"
    return replace(source, url=parts._replace(netloc=local).geturl(), options={**source.options, "tunnel_to": host})


def _parts(source: Source) -> SplitResult:
    try:
        return split_url(source.url)
    except ValueError:  # not repeated: somebody may have written a password into it
        raise ConfigError("the Cassandra URL cannot be read", next_step=WRITE) from None


def _host(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, str(PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ConfigError(f"'{text}' is not a Cassandra host", next_step=WRITE)
    return host, int(port)


def _consistency(text: str) -> str:
    if text.upper() not in CONSISTENCIES:
        raise ConfigError(f"consistency '{text}' cannot be read at", next_step=f"one of {', '.join(CONSISTENCIES)}")
    return text.upper()


def _number(given: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    text = given.get(name)
    if text is None:
        return default
    try:
        value = float(text) if isinstance(default, float) else int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise ConfigError(f"Cassandra option {name}='{text}'", next_step=f"write a number from {low} to {high}")
    return value


def _tls(given: Mapping[str, str]) -> bool:
    files = [name for name in ("cafile", "certfile", "keyfile") if given.get(name)]
    wanted = _flag(given, "ssl", bool(files))
    if files and not wanted:
        raise ConfigError(f"Cassandra option {files[0]} with ssl=false", next_step="leave one of the two out")
    return wanted


def _flag(given: Mapping[str, str], name: str, default: bool) -> bool:
    text = given.get(name, str(default)).lower()
    if text not in ("true", "false"):
        raise ConfigError(f"Cassandra option {name}='{text}'", next_step=f"write {name}=true or {name}=false")
    return text == "true"


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS settings, None where there is none. Raises ConfigError for files that cannot be used."""
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.cafile or None)
        # The driver compares the node's address, also where the URL has its name.
        context.check_hostname = settings.verify_hostname
        if settings.certfile:
            context.load_cert_chain(settings.certfile, settings.keyfile or None)
    except OSError as error:  # ssl.SSLError is one
        names = ", ".join(name for name in (settings.cafile, settings.certfile, settings.keyfile) if name)
        raise ConfigError(
            f"the TLS files {names} cannot be used: {error}", next_step="check paths and PEM form"
        ) from None
    return context
