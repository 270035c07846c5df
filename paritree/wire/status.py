"""Errors over a gRPC call: ours travel whole in the trailing metadata; gRPC's own are translated, once, here."""

from __future__ import annotations

import json
from typing import Any, Final

import grpc
import grpc.aio

from paritree.core.errors import ConfigError, InvariantBroken, ParitreeError, PeerError, SourceError
from paritree.wire.packing import line

METADATA_KEY: Final = "paritree-error-bin"
METADATA_BYTES_MAX: Final = 4_096
MESSAGE_CHARS_MAX: Final = 500
NEXT_STEP_CHARS_MAX: Final = 300
"""gRPC refuses metadata above 8 KiB, in base64; 800 characters of 4 bytes are 4.3 KiB."""
FAMILIES: Final[dict[str, type[ParitreeError]]] = {
    kind.__name__: kind for kind in (PeerError, ConfigError, SourceError, InvariantBroken)
}
SAME_VERSION: Final = "run the same paritree version on both sides"
MEANINGS: Final[dict[grpc.StatusCode, tuple[str, str, bool]]] = {
    grpc.StatusCode.UNAVAILABLE: ("the connection was lost", "", True),
    grpc.StatusCode.CANCELLED: ("the other side ended the call", "", True),
    grpc.StatusCode.DEADLINE_EXCEEDED: ("no answer in time", "", True),
    grpc.StatusCode.RESOURCE_EXHAUSTED: ("a message is too large", SAME_VERSION, False),
    grpc.StatusCode.UNIMPLEMENTED: ("the other side does not know this call", SAME_VERSION, False),
    grpc.StatusCode.UNAUTHENTICATED: ("our certificate is refused", "see the coordinator's log", False),
    grpc.StatusCode.PERMISSION_DENIED: ("our certificate may not do this", "see the coordinator's log", False),
}
"""Status code -> message, next step, retryable."""
OTHER: Final = ("the call failed", "see the log of the other side", True)
"""Any other code: a stream that a proxy reset is INTERNAL or UNKNOWN, like a mistake of the other side."""


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: ParitreeError) -> None:
    """End a call with the error; raises what ends the handler, always."""
    content = json.dumps(
        {
            "family": next((name for name, kind in FAMILIES.items() if isinstance(error, kind)), "PeerError"),
            "message": line(error.message, MESSAGE_CHARS_MAX),
            "next_step": line(error.next_step, NEXT_STEP_CHARS_MAX),
            "retryable": error.retryable,
        },
        ensure_ascii=False,
    )
    code = grpc.StatusCode.UNAVAILABLE if error.retryable else grpc.StatusCode.FAILED_PRECONDITION
    # The details are for clients that are not ours; HTTP/2 headers take ASCII.
    details = line(str(error)).encode("ascii", "replace").decode()
    await context.abort(code, details, trailing_metadata=((METADATA_KEY, content.encode()),))


def received(error: grpc.aio.AioRpcError) -> ParitreeError:
    """The error that ended a call of ours."""
    sent = _sent(error)
    if sent is not None:
        return sent
    message, next_step, retryable = MEANINGS.get(error.code(), OTHER)
    return PeerError(f"{message} ({error.code().name.lower()})", next_step=next_step, retryable=retryable)


def _sent(error: grpc.aio.AioRpcError) -> ParitreeError | None:
    """What :func:`abort` sent, or None when it is absent or not ours."""
    metadata: Any = error.trailing_metadata()
    content = metadata.get(METADATA_KEY) if metadata else None
    if not isinstance(content, bytes) or len(content) > METADATA_BYTES_MAX:
        return None
    try:
        said = json.loads(content)
        kind = FAMILIES[said["family"]]
        message, next_step = line(said["message"], MESSAGE_CHARS_MAX), line(said["next_step"], NEXT_STEP_CHARS_MAX)
        return kind(message, next_step=next_step, retryable=bool(said["retryable"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
