"""The changes of a dataset as a topic tells them: read by sequence, acknowledged when they are in the index.

What a topic tells is what its feed has delivered, so being at its end proves nothing of the source. Proven is only::

    a marker     everything committed before its moment came before it (its producer's word)
    lag_max_s    a message stored at S: everything committed before S - lag_max_s came before it (the operator's word)

and never more than that: a silent topic makes the index older, not current. Sequences are counted: whatever expired,
was purged or deleted before it was read, or a stream made anew, is a gap, and needs a scan. A message may be told
before its change can be read (``settle_s``), so young ones are read again until they are that old.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from edge_agent.connectors.changes import KEYS_MAX, ChangeBatch, ChangeSource, Lag, Mark, RescanNeeded, Span
from edge_agent.topic.envelope import MARKER, PREFIX, Malformed, Said, read_debezium, read_keys
from edge_agent.topic.keys import KeyField, KeyReader
from edge_agent.topic.stream import Extent, Message, Server, Stream
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding

FORMAT: Final = 1
WORRY_S: Final = 900.0
"""Without anything that proves how far the topic is, it is worth a warning."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A dataset's topic: where it is and how its messages are read. ``consumer`` "" is named after the follower.

    ``marker_subject``: where markers are, if not on ``subject``. ``settle_s`` and ``lag_max_s`` in seconds.
    """

    server: Server
    stream: str
    subject: str = ""
    marker_subject: str = ""
    consumer: str = ""
    format: str = "debezium"
    key_header: str = ""
    columns: dict[str, KeyField] | None = None
    settle_s: float = 1.0
    lag_max_s: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What a mark says: of which stream, the last sequence taken over, and until when the source is proven.

    ``proven`` is seconds since 1970; ``deleted``: the last message was a delete, so a tombstone may follow.
    """

    stream: str
    created: str
    subject: str
    sequence: int
    proven: float
    deleted: bool = False

    def mark(self) -> Mark:
        """The mark of this state."""
        moment = datetime.fromtimestamp(self.proven, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {
            "format": FORMAT, "stream": self.stream, "created": self.created, "subject": self.subject,
            "sequence": self.sequence, "proven": self.proven, "deleted": self.deleted,
        }  # fmt: skip
        return Mark(f"topic:{self.stream} seq={self.sequence}, proven up to {moment}", json.dumps(said))

    @classmethod
    def of(cls, mark: Mark) -> State:
        """The state of a mark. Raises RescanNeeded for one that is not ours."""
        try:
            said: dict[str, Any] = json.loads(mark.state)
            if said.pop("format") == FORMAT:
                return cls(**said)
        except (ValueError, TypeError, KeyError):
            pass
        raise RescanNeeded("topic: how far changes were read was kept in another form")


@dataclass(slots=True)
class _Reading:
    """A batch that is being read: its keys, and the state up to the last message that is old enough."""

    state: State
    keys: list[tuple[Any, ...]]
    changes: int = 0
    read: int = 0
    young: bool = False
    reply: str = ""
    span_s: Span | None = None


class TopicChanges(ChangeSource):
    """The changes of one binding's table as a topic tells them. ``rejected`` keeps messages that are none."""

    proves = False

    def __init__(
        self,
        topic: Topic,
        binding: Binding,
        name: str,
        *,
        rejected: Callable[[Message, str], None] = lambda _, __: None,
        accepted: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``accepted`` is called once whatever was rejected before is behind us. Raises ConfigError."""
        self._topic = topic
        self._keys = KeyReader.of(binding, topic.columns or {}, native=topic.format == "debezium")
        self.consumer = topic.consumer or consumer_name(binding.dataset, name)
        self._rejected, self._accepted, self._clock = rejected, accepted, clock
        self._clean = False
        self._bad = 0
        self._replies: dict[int, str] = {}
        self._open: Stream | None = None
        self._last: State | None = None

    @property
    def name(self) -> str:
        """The durable consumer."""
        return self.consumer

    def check(self) -> list[str]:
        """What the stream keeps, and how a marker is published."""
        extent = self._stream.extent()
        _demand_kept(self._topic, extent)
        said = [
            f"topic {self._topic.stream}: publish a marker regularly, after every change committed before its moment:"
            f' {{"{MARKER}": "2026-01-31T12:00:00Z"}} to {self._topic.marker_subject or self._topic.subject or "it"};'
            f" PostgreSQL writes one with SELECT pg_logical_emit_message(true, '{PREFIX}', now()::text)."
            " Without one the index only gets older"
        ]
        if any(extent.config.get(limit, -1) > 0 for limit in ("max_age", "max_msgs", "max_bytes")):
            said.append(
                f"topic {self._topic.stream}: it forgets messages by age or size; what is forgotten while the agent is"
                " away means a scan"
            )
        return said if self._topic.lag_max_s is None else said[1:]

    def start(self) -> Mark:
        """Remember the end of the stream, and wait until what it told can be read."""
        extent = self._stream.extent()
        _demand_kept(self._topic, extent)
        self._stream.begin(extent.last + 1)
        time.sleep(self._topic.settle_s)
        topic = self._topic
        self._last = State(topic.stream, extent.created, _subjects(topic), extent.last, self._clock())
        return self._last.mark()

    def demand_kept(self, since: Mark) -> None:
        """The stream is the same one, and has every message since."""
        state = self._demand_ours(State.of(since))
        extent = self._extent(state)
        if extent.first > state.sequence + 1:
            raise RescanNeeded(f"topic {state.stream}: messages from {state.sequence + 1} on are gone")

    def changes(self, since: Mark, *, proven: bool, keys_max: int = KEYS_MAX) -> Iterator[ChangeBatch]:
        """See :class:`ChangeSource`; nothing is ever proven by being at the end, so ``proven`` changes nothing."""
        del proven
        state = self._demand_ours(State.of(since))
        end = self._extent(state).last
        pending = self._stream.begin(state.sequence + 1)
        reading = _Reading(state, [])
        self._replies.clear()
        while pending:
            messages = self._stream.pull(pending)
            pending = messages[-1].pending if messages[-1].sequence < end else 0
            for message in messages:
                self._take(reading, message, state.sequence)
            if pending and len(reading.keys) >= keys_max:
                yield self._told(reading, state)
                state, reading = reading.state, _Reading(reading.state, [], young=reading.young)
        if not reading.young and reading.state.sequence < end:  # what is left is of other subjects
            reading.state = replace(reading.state, sequence=end)
        yield self._told(reading, state)
        self._last = reading.state
        if not self._clean:
            self._accepted()
            self._clean = True

    def acknowledge(self, mark: Mark) -> None:
        """Tell the server, which shows it to operators; the index knows by itself."""
        sequence = State.of(mark).sequence
        if reply := self._replies.pop(sequence, ""):
            self._stream.acknowledge(reply)

    def lag(self) -> Lag:
        """The messages that are not in the index, by their share of the stream."""
        state, extent = self._last, self._stream.extent()
        if state is None:
            return Lag(0)
        held = max(1, extent.last - extent.first + 1)
        waiting = min(held, max(0, extent.last - state.sequence))
        age_s = self._clock() - state.proven
        worry = ""
        if age_s > WORRY_S:
            worry = f"topic {state.stream}: neither marker nor message for {age_s:,.0f} s, so the index only gets older"
        return Lag(extent.bytes * waiting // held, worry)

    def stop(self) -> None:
        """Delete the consumer."""
        self._stream.forget()

    def close(self) -> None:
        """Close the connection; the consumer stays."""
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def _stream(self) -> Stream:
        if self._open is None:
            topic = self._topic
            subject = "" if topic.marker_subject else topic.subject  # one filter is all that a consumer may have
            self._open = Stream(topic.server, topic.stream, self.consumer, subject)
        return self._open

    # --- one batch --------------------------------------------------------------------------------------------------

    def _take(self, reading: _Reading, message: Message, after: int) -> None:
        """One message. Raises RescanNeeded."""
        if message.sequence <= after:
            raise RescanNeeded(f"topic {self._topic.stream}: sequences run backwards")
        reading.young = reading.young or self._clock() - message.stored_at < self._topic.settle_s
        state = reading.state
        try:
            said = self._read(message, after_delete=state.deleted)
            keys = self._keys.keys(said)
        except Malformed as why:
            self._reject(message, why.reason)
            raise RescanNeeded(
                f"topic {self._topic.stream}: message {message.sequence} cannot be read ({why.reason}),"
                " so it is not known which row has changed"
            ) from None
        if said.rescan:
            raise RescanNeeded(f"topic {self._topic.stream}: message {message.sequence}: {said.rescan}")
        reading.keys += keys
        reading.changes += bool(keys)
        if keys:
            at_s = message.stored_at
            first_s, last_s = reading.span_s or (at_s, at_s)
            reading.span_s = min(first_s, at_s), max(last_s, at_s)
        if not reading.young:
            reading.read += 1
            reading.state = replace(
                state,
                sequence=message.sequence,
                proven=max(state.proven, min(self._proof(message, said), message.stored_at, self._clock())),
                deleted=said.deleted,
            )
            reading.reply = message.reply

    def _read(self, message: Message, *, after_delete: bool) -> Said:
        topic = self._topic
        if topic.marker_subject and topic.subject and not matches(topic.subject, message.subject):
            if not matches(topic.marker_subject, message.subject):
                return Said(deleted=after_delete)  # of another table
            said = self._parsed(message, after_delete=False)
            if said.rows:
                raise Malformed("a change on the subject of markers")
            return replace(said, deleted=after_delete)
        return self._parsed(message, after_delete=after_delete)

    def _parsed(self, message: Message, *, after_delete: bool) -> Said:
        if self._topic.format == "keys":
            return read_keys(message.data)
        key = message.headers.get(self._topic.key_header, "") if self._topic.key_header else ""
        return read_debezium(message.data, key.encode("utf-8", "surrogateescape"), after_delete=after_delete)

    def _proof(self, message: Message, said: Said) -> float:
        if said.marker is not None:
            return said.marker
        return 0.0 if self._topic.lag_max_s is None else message.stored_at - self._topic.lag_max_s

    def _reject(self, message: Message, why: str) -> None:
        self._clean = False
        if message.sequence != self._bad:
            self._bad = message.sequence
            self._rejected(message, why)

    def _told(self, reading: _Reading, since: State) -> ChangeBatch:
        """The batch, if nothing was missing from the stream when it was read. Raises RescanNeeded."""
        extent = self._extent(since)
        if lost := extent.lost(since.sequence, reading.state.sequence):
            raise RescanNeeded(
                f"topic {self._topic.stream}: message {lost} was gone before it was read (expired, purged or deleted)"
            )
        if not self._stream.filtered and reading.read != reading.state.sequence - since.sequence:
            raise SourceError(f"topic {self._topic.stream}: not every message of the stream was read", retryable=True)
        if reading.reply:
            self._replies[reading.state.sequence] = reading.reply
        batch = self._keys.batch(reading.keys)
        mark, as_of = reading.state.mark(), reading.state.proven
        return ChangeBatch(batch, mark, reading.changes, as_of=as_of, span_s=reading.span_s)

    def _extent(self, state: State) -> Extent:
        """The stream as it is, which is the one that was followed. Raises RescanNeeded."""
        extent = self._stream.extent()
        if extent.created != state.created:
            raise RescanNeeded(f"topic {state.stream}: the stream was made anew")
        if extent.last < state.sequence:
            raise RescanNeeded(f"topic {state.stream}: the stream ends before what was read of it")
        return extent

    def _demand_ours(self, state: State) -> State:
        if (state.stream, state.subject) != (self._topic.stream, _subjects(self._topic)):
            raise RescanNeeded(f"topic: {state.stream} {state.subject} was followed, now it is another topic")
        return state


def _subjects(topic: Topic) -> str:
    """What decides which messages are read, and how: with another one, what was read says nothing."""
    return " ".join((topic.server.url, topic.subject, topic.marker_subject, topic.format))


def _demand_kept(topic: Topic, extent: Extent) -> None:
    """A stream of which each reader takes messages away cannot be read by sequence. Raises ConfigError."""
    if extent.config.get("retention", "limits") != "limits":
        raise ConfigError(
            f"topic {topic.stream}: the stream has retention {extent.config['retention']}: messages that others have"
            " read are gone, and a gap would not be seen",
            next_step="read from a stream with retention limits, which may be a mirror of it",
        )
    if extent.config.get("max_msgs_per_subject", -1) > 0:
        raise ConfigError(
            f"topic {topic.stream}: the stream keeps {extent.config['max_msgs_per_subject']} messages of a subject, so"
            " that a change takes an earlier one away",
            next_step="set max_msgs_per_subject to -1 for this stream",
        )


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is of a pattern with ``*`` (one token) and ``>`` (the rest)."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1] if len(tokens) >= len(wanted) else []
    return len(wanted) == len(tokens) and all(one in ("*", token) for one, token in zip(wanted, tokens, strict=True))


def consumer_name(dataset: str, name: str) -> str:
    """By what a follower's consumer is told from those of others."""
    told = hashlib.blake2b(f"{name}\0{dataset}".encode(), digest_size=4).hexdigest()
    plain = "-".join(re.sub(r"[^A-Za-z0-9_-]", "_", part) for part in (name, dataset))
    return f"paritree-{plain[:100]}-{told}"
