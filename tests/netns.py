"""Two hosts on one machine: network namespaces with a line between them, and a firewall that loses packets.

Only namespaces that this made are touched. Where the kernel or the user's rights do not allow them, :func:`two_hosts`
raises :class:`NotPossible` with the reason.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

ADDRESSES: Final = ("10.213.77.1", "10.213.77.2")
"""Of the two ends of the line; nobody else sees them."""
NFT: Final = """
table inet faults {
    chain lost_in { type filter hook input priority 0; iifname != "lo" RULE; }
    chain lost_out { type filter hook output priority 0; oifname != "lo" RULE; }
}
"""


class NotPossible(Exception):
    """The kernel refuses namespaces, lines or nftables to us; the message is the reason."""


_REFUSED = ("not permitted", "denied", "not supported")


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace and the address that it has on the line."""

    name: str
    address: str

    @property
    def command(self) -> list[str]:
        """What runs the command behind it in this namespace."""
        return ["ip", "netns", "exec", self.name]

    def lose(self, rule: str = "drop") -> None:
        """Lose what comes and goes as ``rule`` of nftables says: everything, or a share of it."""
        self.heal()
        _must([*self.command, "nft", "-f", "-"], NFT.replace("RULE", rule))

    def lose_share(self, percent: int) -> None:
        """Lose so many of a hundred packets, by chance, each way."""
        self.lose(f"numgen random mod 100 < {percent} drop")

    def heal(self) -> None:
        """Lose nothing any more."""
        _must([*self.command, "nft", "flush", "ruleset"])


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two namespaces with a line between them; removed at the end. Raises NotPossible."""
    names = [f"paritree-{os.getpid()}-{n}" for n in range(2)]
    hosts = [Host(name, address) for name, address in zip(names, ADDRESSES, strict=True)]
    with contextlib.ExitStack() as stack:
        for host in hosts:
            _if_allowed(["ip", "netns", "add", host.name])
            stack.callback(_must, ["ip", "netns", "delete", host.name])
        first, second = hosts
        line = ["type", "veth", "peer", "name", "line", "netns", second.name]
        _if_allowed(["ip", "link", "add", "line", "netns", first.name, *line])
        for host in hosts:
            _must([*host.command, "ip", "address", "add", f"{host.address}/24", "dev", "line"])
            for device in ("lo", "line"):
                _must([*host.command, "ip", "link", "set", device, "up"])
            _if_allowed([*host.command, "nft", "add", "table", "inet", "tried"])
        yield first, second


def _if_allowed(command: Sequence[str]) -> None:
    try:
        _must(command)
    except AssertionError as error:
        if any(word in str(error) for word in _REFUSED):
            raise NotPossible(str(error)) from None
        raise


def _must(command: Sequence[str], stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=20)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
