"""The three files of mutual TLS, read and checked before anything is dialled or served."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography import x509

from paritree import certificate as certificates
from paritree.certificate import Unfit
from paritree.core.errors import ConfigError
from paritree.core.spiffe import AgentName, OperatorName
from paritree.pki import Credential, read_certificates, read_credential, read_public_file


class Role(StrEnum):
    """Who shows the certificate."""

    AGENT = "agent"
    OPERATOR = "operator"
    COORDINATOR = "coordinator"


@dataclass(frozen=True, slots=True)
class Tls:
    """Our certificate and key, and the authorities that the other side's certificate has to come from (PEM)."""

    authority: bytes
    credential: Credential

    @property
    def certificate(self) -> x509.Certificate:
        """Our own certificate."""
        return read_certificates(self.credential.certificate, "certificate")[0]


def load_tls(ca: Path, cert: Path, key: Path, *, role: Role, now: dt.datetime | None = None) -> Tls:
    """Read the files and check that they belong together and fit the role.

    ``now`` (with a zone) is the present unless given. Raises ConfigError naming the file and what to do.
    """
    hint = f"paritree pki {role}"
    authority = read_public_file(ca, hint="paritree pki ca")
    authorities = read_certificates(authority, str(ca))
    credential = read_credential(cert, key, hint=hint)
    chain = read_certificates(credential.certificate, str(cert))
    try:
        certificates.require_valid(chain[0], now or dt.datetime.now(dt.UTC))
        if role is Role.COORDINATOR:
            certificates.require_server(chain[0])
        else:
            _require_name(chain[0], role)
    except Unfit as error:
        raise ConfigError(f"{cert}: {error}", next_step=f"make a certificate with {hint}") from error
    if len(chain) == 1 and not any(certificates.issued_by(chain[0], one) for one in authorities):
        raise ConfigError(f"{cert} was not issued by the authority in {ca}", next_step="use the files of one authority")
    return Tls(authority, credential)


def agent_name(tls: Tls) -> AgentName:
    """Who the certificate of an agent speaks for. Raises ConfigError."""
    try:
        name = certificates.client_name(tls.certificate)
    except Unfit as error:
        raise ConfigError(f"the agent's certificate: {error}", next_step="make one with paritree pki agent") from error
    if not isinstance(name, AgentName):
        raise ConfigError(f"{name.uri} is not an agent", next_step="make a certificate with paritree pki agent")
    return name


def _require_name(certificate: x509.Certificate, role: Role) -> None:
    name = certificates.client_name(certificate)
    if not isinstance(name, AgentName if role is Role.AGENT else OperatorName):
        raise Unfit(f"{name.uri} is not an {role}")
