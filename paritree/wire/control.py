"""What an operator's command and the coordinator say to each other: plain values and their bytes.

The one module that imports the generated messages of the Control service. Encoding raises InvariantBroken for what no
message can hold; decoding raises PeerError, and nothing else, for any bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import DecodeError

from paritree.core.asks import ANY_AGE, Freshness
from paritree.core.budget import Budget
from paritree.core.deadletters import LetterAction
from paritree.core.errors import InvariantBroken, PeerError
from paritree.core.limits import PART_BYTES_MAX
from paritree.wire.v1 import control_pb2 as pb

SERVICE: Final = pb.DESCRIPTOR.services_by_name["Control"].full_name
SWEEP: Final = f"/{SERVICE}/Sweep"
STATUS: Final = f"/{SERVICE}/Status"
FINDINGS: Final = f"/{SERVICE}/Findings"
STEER: Final = f"/{SERVICE}/Steer"
LETTERS: Final = f"/{SERVICE}/Letters"
DOCUMENT_BYTES_MAX: Final = 64 << 20
"""A report or page that a client puts together from its pieces: 10,000 findings are about 4 MB."""
_SAME_VERSION: Final = "run the same paritree version on both sides"


@dataclass(frozen=True, slots=True)
class SweepOrder:
    """Compare a dataset over ``regions`` (none named: all of them).

    The same ``job_id`` twice is one sweep. ``purpose`` says why clear keys are asked for; "" when they are not.
    ``lag_max_s`` (seconds) None: what the dataset says. ``limit`` findings listed in the report; 0: the usual number.
    ``budget``: used up, it ends the sweep with what it has found. ``scope`` and ``bucket``: only the rows of that
    bucket, whose id is from a region. ``freshness``: how old an index may be.
    """

    dataset: str
    regions: tuple[str, ...] = ()
    job_id: str = ""
    purpose: str = ""
    lag_max_s: float | None = None
    limit: int = 0
    budget: Budget = field(default_factory=Budget)
    scope: str = ""
    bucket: bytes = b""
    freshness: Freshness = ANY_AGE


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """How far one region is (``region`` "": the sweep as a whole) in a stage such as "scan" or "look".

    ``elapsed_s`` seconds since the sweep began to run, ``eta_s`` until this region's scan is over; None: not known.
    """

    region: str
    stage: str
    shards_done: int = 0
    shards_total: int = 0
    rows: int = 0
    elapsed_s: float = 0.0
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class JsonPiece:
    """A piece of a JSON document; joined in order up to ``last`` they are the text."""

    text: str
    last: bool


@dataclass(frozen=True, slots=True)
class SweepEvent:
    """Progress, or a piece of the report that ends the sweep."""

    sweep_id: str
    body: SweepProgress | JsonPiece


@dataclass(frozen=True, slots=True)
class StatusOrder:
    """``dataset`` "": all of them."""

    dataset: str = ""


@dataclass(frozen=True, slots=True)
class FindingsOrder:
    """A page of a sweep's findings; ``sweep_id`` "": the newest finished sweep of ``dataset``."""

    sweep_id: str = ""
    dataset: str = ""
    limit: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SteerOrder:
    """Do ``action`` (pause, resume, cancel) with the sweep of that id or job id."""

    sweep_id: str
    action: str


@dataclass(frozen=True, slots=True)
class LettersOrder:
    """What is to be done with dead letters: those of ``ids``, or all of ``dataset`` and ``region`` ("": of every one).

    ``reason`` says why they are discarded. A list has those that are discarded already only where ``discarded`` is set.
    """

    action: LetterAction
    dataset: str = ""
    region: str = ""
    ids: tuple[str, ...] = ()
    reason: str = ""
    discarded: bool = False
    limit: int = 0


def pieces(document: Mapping[str, Any]) -> Iterator[JsonPiece]:
    """The document as JSON in pieces that each fit into one message. Raises InvariantBroken for what is not JSON."""
    try:
        text = json.dumps(document, allow_nan=False, separators=(",", ":"))  # ASCII: a character is a byte
    except (ValueError, TypeError) as error:
        raise InvariantBroken(f"a document is not JSON: {error}") from error
    for first in range(0, len(text), PART_BYTES_MAX):
        yield JsonPiece(text[first : first + PART_BYTES_MAX], first + PART_BYTES_MAX >= len(text))


def joined(texts: Iterable[str]) -> Any:
    """The document whose pieces these are. Raises PeerError."""
    try:
        return json.loads("".join(texts))
    except ValueError:
        raise PeerError("the coordinator's answer is not JSON", next_step=_SAME_VERSION) from None


def encode_sweep(order: SweepOrder) -> bytes:
    """The order as bytes."""
    with _sending():
        return pb.SweepRequest(
            dataset=order.dataset,
            regions=order.regions,
            job_id=order.job_id,
            purpose=order.purpose,
            lag_max_s=order.lag_max_s,
            limit=order.limit,
            scope=order.scope,
            bucket=order.bucket,
            max_age_s=order.freshness.max_age_s,
            rescan=order.freshness.rescan,
            **order.budget.options(),
        ).SerializeToString()


def decode_sweep(data: bytes) -> SweepOrder:
    """The order that the bytes are."""
    with _receiving():
        asked = pb.SweepRequest.FromString(data)
    lag_max_s = asked.lag_max_s if asked.HasField("lag_max_s") else None
    named = [name for name in Budget().options() if asked.HasField(name)]
    budget = Budget.of({name: getattr(asked, name) for name in named})
    asked_how = asked.job_id, asked.purpose, lag_max_s, asked.limit, budget
    freshness = Freshness(asked.max_age_s, asked.rescan) if asked.HasField("max_age_s") else ANY_AGE
    return SweepOrder(asked.dataset, tuple(asked.regions), *asked_how, asked.scope, asked.bucket, freshness)


def encode_event(event: SweepEvent) -> bytes:
    """The event as bytes."""
    with _sending():
        out = pb.SweepEvent(sweep_id=event.sweep_id)
        body = event.body
        if isinstance(body, JsonPiece):
            out.report.text, out.report.last = body.text, body.last
        else:
            out.progress.region, out.progress.stage, out.progress.rows = body.region, body.stage, body.rows
            out.progress.shards_done, out.progress.shards_total = body.shards_done, body.shards_total
            out.progress.elapsed_s = body.elapsed_s
            if body.eta_s is not None:
                out.progress.eta_s = body.eta_s
        return out.SerializeToString()


def decode_event(data: bytes) -> SweepEvent:
    """The event that the bytes are."""
    with _receiving():
        event = pb.SweepEvent.FromString(data)
    match event.WhichOneof("event"):
        case "report":
            return SweepEvent(event.sweep_id, JsonPiece(event.report.text, event.report.last))
        case "progress":
            said = event.progress
            eta_s = said.eta_s if said.HasField("eta_s") else None
            shards = said.shards_done, said.shards_total
            progress = SweepProgress(said.region, said.stage, *shards, said.rows, said.elapsed_s, eta_s)
            return SweepEvent(event.sweep_id, progress)
        case _:
            raise PeerError("an event that this version does not know", next_step=_SAME_VERSION)


def encode_piece(piece: JsonPiece) -> bytes:
    """The piece as bytes."""
    with _sending():
        return pb.JsonPiece(text=piece.text, last=piece.last).SerializeToString()


def decode_piece(data: bytes) -> JsonPiece:
    """The piece that the bytes are."""
    with _receiving():
        piece = pb.JsonPiece.FromString(data)
    return JsonPiece(piece.text, piece.last)


def encode_status(order: StatusOrder) -> bytes:
    """The order as bytes."""
    with _sending():
        return pb.StatusRequest(dataset=order.dataset).SerializeToString()


def decode_status(data: bytes) -> StatusOrder:
    """The order that the bytes are."""
    with _receiving():
        return StatusOrder(pb.StatusRequest.FromString(data).dataset)


def encode_findings(order: FindingsOrder) -> bytes:
    """The order as bytes."""
    with _sending():
        return pb.FindingsRequest(
            sweep_id=order.sweep_id, dataset=order.dataset, limit=order.limit, offset=order.offset
        ).SerializeToString()


def decode_findings(data: bytes) -> FindingsOrder:
    """The order that the bytes are."""
    with _receiving():
        asked = pb.FindingsRequest.FromString(data)
    return FindingsOrder(asked.sweep_id, asked.dataset, asked.limit, asked.offset)


def encode_steer(order: SteerOrder) -> bytes:
    """The order as bytes."""
    with _sending():
        return pb.SteerRequest(sweep_id=order.sweep_id, action=order.action).SerializeToString()


def decode_steer(data: bytes) -> SteerOrder:
    """The order that the bytes are."""
    with _receiving():
        asked = pb.SteerRequest.FromString(data)
    return SteerOrder(asked.sweep_id, asked.action)


def encode_letters(order: LettersOrder) -> bytes:
    """The order as bytes."""
    with _sending():
        return pb.LettersRequest(
            action=order.action,
            dataset=order.dataset,
            region=order.region,
            ids=order.ids,
            reason=order.reason,
            discarded=order.discarded,
            limit=order.limit,
        ).SerializeToString()


def decode_letters(data: bytes) -> LettersOrder:
    """The order that the bytes are."""
    with _receiving():
        asked = pb.LettersRequest.FromString(data)
        action = LetterAction(asked.action)
    ids = tuple(asked.ids)
    return LettersOrder(action, asked.dataset, asked.region, ids, asked.reason, asked.discarded, asked.limit)


@contextmanager
def _sending() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:  # what protobuf raises for what does not fit a field
        raise InvariantBroken(f"a message cannot be sent: {error}") from error


@contextmanager
def _receiving() -> Iterator[None]:
    try:
        yield
    except (DecodeError, ValueError) as error:
        raise PeerError("a message cannot be read", next_step=_SAME_VERSION) from error
