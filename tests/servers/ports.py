"""Ports for servers that start some time after their port was chosen, with other test processes doing the same."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

HOST: Final = "127.0.0.1"
PORTS: Final = range(16_000, 32_000)
"""Below those that the kernel gives to outgoing connections: a server may need its port half a minute from now, or
again after a stop, and meanwhile any client could be given it."""
_claims: list[socket.socket] = []


def free_ports(host: str, count: int) -> list[int]:
    """TCP ports of that address that nobody listens on, kept from other test processes until this one ends.

    Raises RuntimeError where so many are not left.
    """
    found: list[int] = []
    for port in random.Random().sample(PORTS, len(PORTS)):  # of its own: nobody's seed gives two processes one order
        if len(found) == count:
            break
        if _nobody_listens(host, port) and _claimed(port):
            found.append(port)
    if len(found) < count:
        raise RuntimeError(f"no {count} free ports on {host} in {PORTS}")
    return found


def free_port(host: str = HOST) -> int:
    """One of :func:`free_ports`."""
    return free_ports(host, 1)[0]


def _nobody_listens(host: str, port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((host, port))
        return True
    return False


def _claimed(port: int) -> bool:
    """Take an abstract name for the port: it leaves no file, and the kernel gives it back when this process ends."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0paritree-tests-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True
