"""How a client (agent or operator) reaches the coordinator: the address, and what gRPC is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from paritree.core.errors import ConfigError
from paritree.core.limits import BULK_BYTES_MAX, MESSAGE_BYTES_MAX, PINGS_S


@dataclass(frozen=True, slots=True)
class Address:
    """``host:port`` to dial, and the name that the certificate has to show: the host, unless a tunnel is in between."""

    host: str
    port: int
    server_name: str

    @classmethod
    def parse(cls, text: str, server_name: str | None = None) -> Address:
        """Raises ConfigError unless ``text`` is ``host:port`` (an IPv6 host in brackets)."""
        host, separator, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not separator or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65_536:
            raise ConfigError(f"'{text}' is not host:port", next_step="write it like coordinator.example.org:7443")
        return cls(host, int(port), server_name or host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def open_stream(channel: Any, path: str) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    """Start a bidirectional call whose messages are bytes: the codec, not gRPC, reads and writes them."""
    call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(path)()
    return call


def message_options() -> list[tuple[str, int]]:
    """gRPC options of both sides: the bound of one message, and of what is on its way unread.

    gRPC would fit the latter to a line that was fast, up to many MiB; where the line then gets slow, pings wait behind
    them, and a connection that works is given up (measured with 1.85, for which arriving data are no sign of life).
    """
    return [
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", BULK_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ]


def keepalive_options(keepalive_s: float) -> list[tuple[str, int]]:
    """gRPC options of both sides: a ping after so much silence, and PINGS_S times as long for its answer."""
    ping_ms = int(keepalive_s * PINGS_S * 1000)
    return [
        ("grpc.keepalive_time_ms", int(keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", ping_ms),
        ("grpc.http2.ping_timeout_ms", ping_ms),  # the one that decides; its default is a minute
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),  # no bound
    ]
