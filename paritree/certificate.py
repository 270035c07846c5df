"""What a certificate says: names, purposes, validity, and whether it is one of the three kinds that paritree uses."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Mapping
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from paritree.core.spiffe import AgentName, OperatorName, parse_name

CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
PURPOSES: Final[Mapping[ObjectIdentifier, str]] = {CLIENT: "clients", SERVER: "servers"}


class Unfit(Exception):
    """A certificate that is not of the kind that is needed; the text says why."""


def client_name(certificate: x509.Certificate) -> AgentName | OperatorName:
    """Who a client certificate speaks for.

    gRPC lets chains with two URI names or none pass, and certificates without a stated purpose; here they are Unfit.
    """
    names = uri_names(certificate)
    if len(names) != 1:
        raise Unfit(f"it has {len(names) or 'no'} URI names, where exactly one is needed")
    name = parse_name(names[0])
    if name is None:
        raise Unfit("its URI name is neither that of an agent nor of an operator")
    if host_names(certificate):
        raise Unfit("it has host names besides, which only a coordinator's has")
    if purposes(certificate) != [CLIENT]:
        raise Unfit(f"it is {purpose_text(certificate)}, not for clients only")
    return name


def require_server(certificate: x509.Certificate, host: str | None = None) -> None:
    """Raises Unfit when it is not a coordinator's certificate, or not the one of ``host`` (a DNS name or address)."""
    if purposes(certificate) != [SERVER]:
        raise Unfit(f"it is {purpose_text(certificate)}, not for servers only")
    if uri_names(certificate):
        raise Unfit("it has a URI name, which only agents and operators have")
    names = host_names(certificate)
    if not names:
        raise Unfit("it has no host names")
    if host is not None and not any(_covers(name, _plain(host)) for name in names):
        raise Unfit(f"it is for {', '.join(names)}, not for {host}")


def require_valid(certificate: x509.Certificate, now: dt.datetime) -> None:
    """Raises Unfit when ``now`` (with a zone) is outside of its validity."""
    if now > certificate.not_valid_after_utc:
        raise Unfit(f"it expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < certificate.not_valid_before_utc:
        raise Unfit(f"it is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on")


def _plain(host: str) -> str:
    """A host name in lower case without its final dot, or an address in its usual form."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")


def _covers(name: str, host: str) -> bool:
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:].lower()
    return name.lower() == host


def uri_names(certificate: x509.Certificate) -> list[str]:
    """The URI names of a certificate, in order."""
    return [str(name) for name in _names(certificate).get_values_for_type(x509.UniformResourceIdentifier)]


def host_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names and addresses of a certificate."""
    names = _names(certificate)
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *(str(address) for address in addresses)]


def purposes(certificate: x509.Certificate) -> list[ObjectIdentifier]:
    """Its extended key usages; none when it has no such extension, which to TLS means all of them."""
    try:
        return list(_extensions(certificate).get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return []


def purpose_text(certificate: x509.Certificate) -> str:
    """The purposes in words."""
    known = [PURPOSES.get(purpose, purpose.dotted_string) for purpose in purposes(certificate)]
    return f"for {' and '.join(known)}" if known else "without a stated purpose"


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name, or ""."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def is_authority(certificate: x509.Certificate) -> bool:
    """True when it may sign other certificates."""
    try:
        return _extensions(certificate).get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """True when the authority signed it directly."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return _extensions(certificate).get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def _extensions(certificate: x509.Certificate) -> x509.Extensions:
    try:
        return certificate.extensions
    except (ValueError, x509.DuplicateExtension) as error:
        raise Unfit("its extensions cannot be read") from error
