"""Certificates for tests, made with paritree's own PKI, and the files that processes read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from paritree.cli.pki import write_private
from paritree.pki import Authority, Credential
from paritree.tls import Role, Tls, load_tls
from paritree.wire.dial import Address, message_options

TRUST_DOMAIN = "test.example"
REGIONS = ("eu", "us", "ap")
HOSTS = ("localhost", "127.0.0.1", "::1")


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def make_pki(folder: Path, hosts: Sequence[str] = HOSTS) -> Path:
    """Write ca, coordinator (of ``hosts``), operator-ops and agent-<region>-a1 (.pem and .key) into the folder."""
    authority = Authority.create(TRUST_DOMAIN, now=now())
    write_pair(folder, "ca", authority.credential)
    write_pair(folder, "coordinator", authority.coordinator(hosts, now=now()))
    write_pair(folder, "operator-ops", authority.operator("ops", now=now()))
    for region in REGIONS:
        write_pair(folder, f"agent-{region}-a1", authority.agent(region, "a1", now=now()))
    return folder


def write_pair(folder: Path, name: str, credential: Credential) -> None:
    write_private(folder / f"{name}.key", credential.key, force=False)
    write_private(folder / f"{name}.pem", credential.certificate, force=False)


def tls_of(folder: Path, name: str, role: Role) -> Tls:
    """The checked TLS files of one of the names in the folder."""
    return load_tls(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key", role=role)


def agent_tls(folder: Path, region: str = "eu") -> Tls:
    return tls_of(folder, f"agent-{region}-a1", Role.AGENT)


def coordinator_tls(folder: Path) -> Tls:
    return tls_of(folder, "coordinator", Role.COORDINATOR)


def with_credential(folder: Path, credential: Credential) -> Tls:
    """Unchecked: a credential that load_tls would refuse, under the folder's authority."""
    return Tls((folder / "ca.pem").read_bytes(), credential)


def grpc_channel(address: Address, tls: Tls) -> grpc.aio.Channel:
    """A channel whose TLS is gRPC's: for clients that paritree's own handshake would stop, or be stopped by."""
    credentials = grpc.ssl_channel_credentials(tls.authority, tls.credential.key, tls.credential.certificate)
    options: list[tuple[str, Any]] = [
        *message_options(),
        ("grpc.ssl_target_name_override", address.server_name),
        ("grpc.use_local_subchannel_pool", 1),  # no connection or back-off shared with an earlier channel
        ("grpc.enable_http_proxy", 0),  # dial what we looked at
        ("grpc.enable_retries", 0),
    ]
    return grpc.aio.secure_channel(str(address), credentials, options)
