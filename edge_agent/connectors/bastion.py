"""An SSH bastion: who it is, how this user proves who they are, and what a failed dial means.

Host keys are strict: a bastion whose key is not in the known hosts file is refused, and so is one whose key is another
than there. Nothing is added to that file, and there is no switch. Users log in with one key, from a file or from an
ssh-agent; passwords are not offered, and neither ``~/.ssh/config`` nor keys that happen to lie around are looked at.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from paritree.core.errors import ConfigError, ParitreeError, SourceError

if TYPE_CHECKING:
    import asyncssh

PORT: Final = 22
KNOWN_HOSTS: Final = "~/.ssh/known_hosts"
OPTIONS: Final = ("ssh", "ssh_known_hosts", "ssh_key")
"""The options of a source that are about its bastion; its secret ``ssh_key_passphrase`` opens the key."""
CONNECT_S_MAX: Final = 15.0
"""Dial, key exchange and login together: more than the 10 s that a database gets, there are several round trips."""
KEEPALIVE_S: Final = 10.0
KEEPALIVES_MAX: Final = 3
"""A silent bastion is noticed after 40 s, so that a scan behind it ends with an error and does not hang."""
HOST_KEY_ALGORITHMS: Final = ("ssh-ed25519", "ecdsa-sha2-nistp*", "rsa-sha2-512", "rsa-sha2-256")
_FORM: Final = re.compile(
    r"(?P<user>[^@:\s]+)@(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^@:\[\]\s]+))(?::(?P<port>\d+))?"
)


@dataclass(frozen=True, slots=True)
class Bastion:
    """``user@host:port``, the file of known host keys, and the user's key: a file, or "" for the ssh-agent."""

    user: str
    host: str
    port: int = PORT
    known_hosts: str = KNOWN_HOSTS
    key: str = ""
    passphrase: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, options: Mapping[str, str], secrets: Mapping[str, str]) -> Bastion:
        """From a source's options and secrets. Raises ConfigError for a malformed ``ssh``."""
        found = _FORM.fullmatch(options.get("ssh", ""))
        port = int(found["port"] or PORT) if found else 0
        if found is None or not 0 < port < 65_536:
            # Not repeated: somebody may have written a password into it.
            raise ConfigError(
                "option ssh is not user@host or user@host:port", next_step='write ssh = "user@bastion.example.org"'
            )
        return cls(
            found["user"],
            found["v6"] or found["host"],
            port,
            options.get("ssh_known_hosts") or KNOWN_HOSTS,
            options.get("ssh_key", ""),
            secrets.get("ssh_key_passphrase"),
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + (f":{self.port}" if self.port != PORT else "")


async def dial(bastion: Bastion) -> asyncssh.SSHClientConnection:
    """A connection whose other end proved to be the bastion. Raises ConfigError (files) or SourceError (the rest)."""
    import asyncssh

    known = _known_hosts(bastion)
    try:
        async with AsyncExitStack() as until_login, asyncio.timeout(CONNECT_S_MAX):
            keys = [_key_of_file(bastion)] if bastion.key else await _keys_of_agent(bastion, until_login)
            return await asyncssh.connect(
                bastion.host,
                bastion.port,
                username=bastion.user,
                known_hosts=known,
                client_keys=keys,
                agent_path=None,
                config=None,
                preferred_auth="publickey",
                server_host_key_algs=_host_key_algorithms(bastion, known),
                gss_kex=False,  # either would vouch for a host without the known hosts file
                x509_trusted_certs=None,
                keepalive_interval=KEEPALIVE_S,
                keepalive_count_max=KEEPALIVES_MAX,
            )
    except TimeoutError:
        raise _unreachable(bastion, f"no answer within {CONNECT_S_MAX:g} s") from None
    except (OSError, asyncssh.Error) as error:
        raise _explained(bastion, error, known) from error


def _known_hosts(bastion: Bastion) -> asyncssh.SSHKnownHosts:
    import asyncssh

    path = Path(bastion.known_hosts).expanduser()
    try:
        return asyncssh.read_known_hosts(str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"ssh_known_hosts: cannot read {path} ({getattr(error, 'strerror', None) or error})",
            next_step=f"make the file with the host key of {bastion.host}, as its administrator tells it",
        ) from None


def _host_key_algorithms(bastion: Bastion, known: asyncssh.SSHKnownHosts) -> str | tuple[()]:
    """Those of the known keys first, and all the others: a bastion that has only another kind of key is to show it, so
    that it is refused for its key. Without the others either side may just hang up, like a bastion that is down."""
    keys, authorities = _listed(bastion, known)[:2]
    algorithms = dict.fromkeys(a.decode() for key in keys for a in key.sig_algorithms)
    return () if authorities or not keys else ",".join((*algorithms, *HOST_KEY_ALGORITHMS))


def _listed(bastion: Bastion, known: asyncssh.SSHKnownHosts) -> Any:
    """The host's keys and authorities in the known hosts file, the revoked ones and more behind them."""
    import asyncssh

    return asyncssh.match_known_hosts(known, bastion.host, "", bastion.port)


async def _keys_of_agent(bastion: Bastion, until_login: AsyncExitStack) -> list[Any]:
    """The keys of the ssh-agent, never an empty list: asyncssh would look for others then. Raises ConfigError."""
    import asyncssh

    path = os.environ.get("SSH_AUTH_SOCK", "")
    step = "set ssh_key to a private key file, or start an ssh-agent (SSH_AUTH_SOCK) and ssh-add the key"
    if not path:
        raise ConfigError(f"no key to log in at the bastion {bastion} with", next_step=step)
    try:
        agent = await until_login.enter_async_context(asyncssh.connect_agent(path))
        keys = list(await agent.get_keys())
    except (OSError, ValueError, asyncssh.Error) as error:
        raise ConfigError(f"the ssh-agent cannot be asked: {error}", next_step=step) from error
    if not keys:
        raise ConfigError("the ssh-agent has no key", next_step=step)
    return keys


def _key_of_file(bastion: Bastion) -> asyncssh.SSHKey:
    import asyncssh

    path = Path(bastion.key).expanduser()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"ssh_key: {path} can be read by others than its owner (mode {mode:04o})",
                next_step=f"chmod 600 {path}",
            )
        return asyncssh.read_private_key(str(path), bastion.passphrase)
    except (OSError, ValueError) as error:  # asyncssh's own are ValueErrors; what they say depends on the format
        why = getattr(error, "strerror", None) or str(error)
        if "bcrypt" in why:
            step = "load the key into an ssh-agent and remove ssh_key, or use one without a passphrase"
        elif "assphrase" in why or "decrypt" in why:
            step = "set ssh_key_passphrase to where the key's passphrase is, or use an ssh-agent"
        else:
            step = "check the path, and that it is a private key"
        raise ConfigError(f"ssh_key: cannot use {path} ({why})", next_step=step) from None


# --- causes ---------------------------------------------------------------------------------------------------------


def _explained(bastion: Bastion, error: Exception, known: asyncssh.SSHKnownHosts) -> ParitreeError:
    import asyncssh

    if isinstance(error, asyncssh.HostKeyNotVerifiable | asyncssh.KeyExchangeFailed):
        return _untrusted(bastion, error, known)
    if isinstance(error, asyncssh.PermissionDenied):
        return SourceError(
            f"the SSH bastion {bastion} refuses the login",
            next_step=f"add the public key of {bastion.key or 'the ssh-agent'} to the bastion's authorized_keys, "
            "or correct the user",
        )
    return _unreachable(bastion, str(error) or type(error).__name__)


def _untrusted(bastion: Bastion, error: Exception, known: asyncssh.SSHKnownHosts) -> ParitreeError:
    import asyncssh

    # Authorities and plain keys: whether the file says anything of this host.
    listed = any(_listed(bastion, known)[:2])
    if isinstance(error, asyncssh.KeyExchangeFailed) and not listed:
        return SourceError(f"no common SSH algorithms with the bastion {bastion}: {error}")
    if listed:
        return SourceError(
            f"the host key of the SSH bastion {bastion} is not the one in {bastion.known_hosts}: it was changed, or "
            "somebody is in between",
            next_step="ask the bastion's administrator; replace the line there only when they confirm the new key",
        )
    return SourceError(
        f"the host key of the SSH bastion {bastion} is unknown: {bastion.known_hosts} has none for it",
        next_step="get the key from the bastion's administrator (not from the network) and add it there",
    )


def _unreachable(bastion: Bastion, why: str) -> SourceError:
    return SourceError(
        f"cannot reach the SSH bastion {bastion}: {why}",
        next_step="check that it runs and that this machine may connect to it",
        retryable=True,
    )
