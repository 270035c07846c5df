"""The TLS handshake with the coordinator, of our own instead of gRPC's.

gRPC says "failed to connect" for whatever is wrong with a certificate, takes a common name for a host name and a
certificate without a purpose for a server's. So a dial demands what PROTOCOL says of the coordinator's
certificate, waits for the coordinator's answer to ours, and names the cause when either is refused. What was checked
is the connection that is used: ``channel`` hands it to gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import ssl
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from paritree import certificate as certificates
from paritree.certificate import Unfit
from paritree.core.errors import PeerError
from paritree.core.limits import DIAL_TIMEOUT_S
from paritree.tls import Tls
from paritree.wire.dial import Address

CHUNK_BYTES: Final = 65_536
UNKNOWN_AUTHORITY: Final = frozenset({7, 18, 19, 20, 21})
"""X509_V_ERR: signature failure, self-signed, self-signed in chain, no local issuer, cannot verify the leaf."""
WRONG_PURPOSE: Final = 26
EXPIRED: Final = 10
NOT_YET_VALID: Final = 9
MAKE_COORDINATOR: Final = (
    "make the coordinator's certificate with paritree pki coordinator --dns <the name agents dial>"
)
MAKE_CLIENT: Final = "make a certificate with paritree pki, under the coordinator's authority"


@dataclass(frozen=True, slots=True)
class Line:
    """A connection whose both ends have accepted each other; ``first`` is what the coordinator has said already."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    first: bytes

    async def close(self) -> None:
        """Hang up, whatever was not sent yet."""
        await _close(self.writer)


async def dial(address: Address, tls: Tls, *, timeout_s: float = DIAL_TIMEOUT_S) -> Line:
    """Shake hands with the coordinator.

    Raises PeerError: retryable when nobody answers, not retryable when one of the certificates is refused.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _shake_hands(address, tls)
    except TimeoutError:
        raise _unreachable(address, f"no answer within {timeout_s:g} s") from None
    except ssl.SSLError as error:
        raise _handshake_problem(address, error) from error
    except OSError as error:
        raise _unreachable(address, error.strerror or type(error).__name__) from error


async def look(address: Address, tls: Tls, *, timeout_s: float = DIAL_TIMEOUT_S) -> None:
    """Shake hands with the coordinator and leave again. Raises like :func:`dial`."""
    await (await dial(address, tls, timeout_s=timeout_s)).close()


async def _shake_hands(address: Address, tls: Tls) -> Line:
    context = _context()
    context.load_verify_locations(cadata=tls.authority.decode())
    _load_credential(context, tls)
    try:
        reader, writer = await _connect(address, context)
    except ssl.SSLCertVerificationError as error:
        raise _refused(*_verification_problem(error, await _shown_certificate(address))) from error
    try:
        try:
            certificates.require_server(_peer_certificate(writer), address.server_name)
        except Unfit as error:
            raise _refused(str(error)) from error
        first = await _first(reader)
        if not first:
            raise _own_problem(tls)
    except BaseException:
        await _close(writer)
        raise
    return Line(reader, writer, first)


async def _first(reader: asyncio.StreamReader) -> bytes:
    """What the coordinator says first: the SETTINGS of HTTP/2, for which gRPC does not wait for ours.

    In TLS 1.3 a server looks at our certificate after we are done; gRPC hangs up without a word if it refuses it.
    """
    try:
        return await reader.read(CHUNK_BYTES)
    except ConnectionError:
        return b""


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
    # certificate.require_server looks at the names: more strictly, without common names.
    context.set_alpn_protocols(["h2"])
    return context


def _load_credential(context: ssl.SSLContext, tls: Tls) -> None:
    """Hand the key to OpenSSL, which takes only files: one that exists in memory alone."""
    content = tls.credential.certificate + b"\n" + tls.credential.key
    with os.fdopen(os.memfd_create("paritree", os.MFD_CLOEXEC), "wb") as file:
        file.write(content)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")


async def _connect(address: Address, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(address.host, address.port, ssl=context, server_hostname=address.server_name)


async def _shown_certificate(address: Address) -> x509.Certificate | None:
    """The certificate that was just refused, for the message; nothing is sent to who shows it."""
    context = _context()
    context.verify_mode = ssl.CERT_NONE
    try:
        _, writer = await _connect(address, context)
    except OSError:
        return None
    shown = _peer_certificate(writer)
    await _close(writer)
    return shown


def _peer_certificate(writer: asyncio.StreamWriter) -> x509.Certificate:
    encoded = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    try:
        return x509.load_der_x509_certificate(encoded)
    except ValueError as error:
        raise _refused("it cannot be read") from error


async def _close(writer: asyncio.StreamWriter) -> None:
    # Not close(): that waits for the other side's close_notify, and gRPC often sends none.
    writer.transport.abort()
    with contextlib.suppress(OSError):  # the other side may have closed less politely
        await writer.wait_closed()


# --- causes ---------------------------------------------------------------------------------------------------------


def _verification_problem(error: ssl.SSLCertVerificationError, shown: x509.Certificate | None) -> tuple[str, str]:
    """What OpenSSL disliked about the coordinator's certificate, and what to do."""
    code = error.verify_code
    if code in (EXPIRED, NOT_YET_VALID) and shown is not None:
        try:
            certificates.require_valid(shown, dt.datetime.now(dt.UTC))
        except Unfit as reason:
            return str(reason), "check the clocks, then make a new one with paritree pki coordinator"
    if code in UNKNOWN_AUTHORITY:
        return "it is of an unknown authority", "use the ca.pem of the authority that issued it"
    if code == WRONG_PURPOSE and shown is not None:
        names = ", ".join(certificates.uri_names(shown) + certificates.host_names(shown))
        return f"it is {certificates.purpose_text(shown)}, not for servers ({names})", MAKE_COORDINATOR
    return error.verify_message, MAKE_COORDINATOR


def _refused(reason: str, next_step: str = MAKE_COORDINATOR) -> PeerError:
    return PeerError(f"the coordinator's certificate is refused: {reason}", next_step=next_step)


def _unreachable(address: Address, reason: str) -> PeerError:
    return PeerError(
        f"the coordinator at {address} cannot be reached ({reason})",
        next_step="check that it runs and that the address and the network between are right",
        retryable=True,
    )


def _own_problem(tls: Tls) -> PeerError:
    """Why the coordinator hung up on our certificate: what we can see ourselves, else a guess that is called one."""
    own = tls.certificate
    try:
        certificates.require_valid(own, dt.datetime.now(dt.UTC))
        certificates.client_name(own)
        authorities = x509.load_pem_x509_certificates(tls.authority)
        if not any(certificates.issued_by(own, authority) for authority in authorities):
            raise Unfit("it is not of the authority that issued the coordinator's")
    except Unfit as error:
        return PeerError(f"the coordinator refuses our certificate: {error}", next_step=MAKE_CLIENT)
    return PeerError(
        "the coordinator hung up when it saw our certificate: it may trust another authority, or its clock differs",
        next_step=MAKE_CLIENT,
        retryable=True,  # a network that cuts connections looks the same
    )


def _handshake_problem(address: Address, error: ssl.SSLError) -> PeerError:
    return PeerError(
        f"no TLS with {address} ({(error.reason or 'closed').replace('_', ' ').lower()})",
        next_step="check that the address is the coordinator's and not another service",
        retryable=True,
    )
