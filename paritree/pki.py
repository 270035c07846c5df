"""Certificates and keys: a small authority for one trust domain (ECDSA P-256), and the master key of digests.

Agents and operators get client certificates with exactly one URI name and no DNS name; the coordinator gets a server
certificate with DNS names or addresses and no URI name. The authority's own URI name is its trust domain.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

from paritree.certificate import CLIENT, SERVER, Unfit, uri_names
from paritree.core.errors import ConfigError
from paritree.core.spiffe import AgentName, OperatorName, is_segment, is_trust_domain
from paritree.secrets import read_private_file, read_secret

AUTHORITY_DAYS: Final = 3_650
LEAF_DAYS: Final = 365
"""Agents and coordinators run unattended: a year, and `paritree pki show` tells the rest."""
OPERATOR_DAYS: Final = 90
"""Operators are people with laptops: shorter."""
BACKDATED: Final = dt.timedelta(minutes=5)
"""Certificates are valid from a little before now, because the clocks of regions differ."""
MASTER_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


class Authority:
    """Signs certificates for one trust domain."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        """Raises ConfigError when the certificate is not that of an authority made by ``paritree pki ca``."""
        self._certificate = certificate
        self._key = key
        self.trust_domain = trust_domain_of(certificate)

    @classmethod
    def create(cls, trust_domain: str, *, now: dt.datetime, days: int = AUTHORITY_DAYS) -> Authority:
        """A new authority. Raises ConfigError for a name that SPIFFE does not allow."""
        if not is_trust_domain(trust_domain):
            raise ConfigError(
                f"--trust-domain: '{trust_domain}' is not a trust domain", next_step="use a-z, 0-9, dot, dash"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"paritree {trust_domain}"[:64])])
        builder = _builder(name, name, key.public_key(), now, days)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(authority=True), critical=True)
        uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """The authority in ``folder`` (ca.pem, ca.key). Raises ConfigError."""
        credential = read_credential(folder / "ca.pem", folder / "ca.key", hint=f"paritree pki ca {folder}")
        certificate = read_certificates(credential.certificate, str(folder / "ca.pem"))[0]
        key = serialization.load_pem_private_key(credential.key, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{folder / 'ca.key'}: not an ECDSA key", next_step="make one with paritree pki ca")
        return cls(certificate, key)

    @property
    def credential(self) -> Credential:
        return Credential(_pem(self._certificate), _key_pem(self._key))

    def agent(self, region: str, name: str, *, now: dt.datetime, days: int = LEAF_DAYS) -> Credential:
        """A client certificate that speaks for one region. Raises ConfigError for names that do not fit a URI."""
        for flag, text in (("--region", region), ("--name", name)):
            _require_segment(flag, text)
        uri = AgentName(self.trust_domain, region, name).uri
        names = [x509.UniformResourceIdentifier(uri)]
        return self.sign(f"agent {name} of {region}", names, [CLIENT], now=now, days=days)

    def operator(self, name: str, *, now: dt.datetime, days: int = OPERATOR_DAYS) -> Credential:
        """A client certificate for the command line. Raises ConfigError for a name that does not fit a URI."""
        _require_segment("--name", name)
        names = [x509.UniformResourceIdentifier(OperatorName(self.trust_domain, name).uri)]
        return self.sign(f"operator {name}", names, [CLIENT], now=now, days=days)

    def coordinator(self, hosts: Sequence[str], *, now: dt.datetime, days: int = LEAF_DAYS) -> Credential:
        """A server certificate for DNS names and addresses. Raises ConfigError for none, or one that is neither."""
        if not hosts:
            raise ConfigError("--dns: at least one name", next_step="give the host that agents dial")
        return self.sign("paritree coordinator", [_host(host) for host in hosts], [SERVER], now=now, days=days)

    def sign(
        self,
        common_name: str,
        names: Sequence[x509.GeneralName],
        purposes: Sequence[ObjectIdentifier],
        *,
        now: dt.datetime,
        days: int,
    ) -> Credential:
        """A certificate with any names and purposes, under a new key; the methods above are the ones to use."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
        builder = _builder(subject, self._certificate.subject, key.public_key(), now, days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(authority=False), critical=True)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return Credential(_pem(builder.sign(self._key, hashes.SHA256())), _key_pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _require_segment(flag: str, text: str) -> None:
    if not is_segment(text):
        raise ConfigError(
            f"{flag}: '{text}' cannot stand in a certificate", next_step="use letters, digits, dot, dash, underscore"
        )


_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*")


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            raise ConfigError(f"--dns: '{host}' is neither a host name nor an address") from None
        return x509.DNSName(host.lower())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


# --- reading --------------------------------------------------------------------------------------------------------


def read_certificates(content: bytes, where: str) -> list[x509.Certificate]:
    """The certificates of a PEM file, at least one. Raises ConfigError."""
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise ConfigError(f"{where}: not a PEM certificate", next_step="make one with paritree pki") from error


def read_public_file(path: Path, *, hint: str) -> bytes:
    """A certificate file as it is; ``hint`` is the command that makes one. Raises ConfigError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror})", next_step=f"make it with {hint}") from error


def read_credential(certificate: Path, key: Path, *, hint: str) -> Credential:
    """A certificate and the key that belongs to it. Raises ConfigError naming the file and what to do."""
    chain = read_public_file(certificate, hint=hint)
    first = read_certificates(chain, str(certificate))[0]
    content = read_private_file(key, where="private key")
    try:
        private = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"{key}: not an unencrypted PEM private key", next_step=f"make it with {hint}") from None
    if private.public_key() != first.public_key():
        raise ConfigError(f"{key} does not belong to {certificate}", next_step="use the pair that was made together")
    return Credential(chain, content)


def trust_domain_of(authority: x509.Certificate) -> str:
    """The trust domain that an authority's certificate names. Raises ConfigError."""
    try:
        names = uri_names(authority)
    except Unfit as error:
        raise ConfigError(f"the authority's certificate: {error}") from error
    if len(names) == 1 and names[0].startswith("spiffe://") and is_trust_domain(names[0].removeprefix("spiffe://")):
        return names[0].removeprefix("spiffe://")
    raise ConfigError(
        "the authority's certificate does not name one trust domain", next_step="make one with paritree pki ca"
    )


# --- the master key -------------------------------------------------------------------------------------------------


def new_master_key() -> str:
    """64 hex digits of fresh randomness."""
    return secrets.token_hex(MASTER_KEY_BYTES)


def read_master_key(spec: str, *, where: str = "master key", base: Path | None = None) -> bytes:
    """The 32 bytes of the master key that ``spec`` points to (see paritree.secrets). Raises ConfigError."""
    text = read_secret(spec, where=where, base=base)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ConfigError(
            f"{where}: not exactly 64 hex digits", next_step="make a key with paritree pki dataset-key FILE"
        )
    return bytes.fromhex(text)
