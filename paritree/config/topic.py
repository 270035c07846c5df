"""Where a dataset's changed keys come from when somebody else tells them: a NATS JetStream stream::

[refresh.orders]
changes = "topic"
[refresh.orders.topic]
url = "tls://nats.internal:4222"
user = "paritree"
password = "env:NATS_PASSWORD"
stream = "CDC"
subject = "shop.public.orders"
format = "debezium"
columns = { id = "order_id" }
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from paritree.config.mistakes import Fault
from paritree.config.settings import ConfigPath, Part, SecretSpec

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        parts, port, host = urlsplit(""), None, None
    if parts.scheme not in ("nats", "tls") or not host or parts.path or parts.query:
        raise Fault("this is no URL of a NATS server", 'write it like url = "tls://nats.internal:4222"')
    if parts.username is not None:
        raise Fault("user and password stand beside the URL", 'set user = "..." and password = "env:NAME"')
    return text if port else f"{text.rstrip(':')}:4222"


def _named(text: str) -> str:
    if not re.fullmatch(r"[^\s.*>/\\\x00-\x1f\x7f]{1,200}", text):
        raise Fault("this cannot be the name of a stream or consumer", "leave out spaces, dots, slashes, * and >")
    return text


def _subject(text: str) -> str:
    tokens = text.split(".")
    if any(not token or re.search(r"[\s\x00-\x1f]", token) for token in tokens) or ">" in tokens[:-1]:
        raise Fault("this is no subject", 'write it like subject = "shop.public.orders", with * or a last > for any')
    return text


def _field(value: Any) -> Any:
    return {"field": value} if isinstance(value, str) else value


class TopicField(Part):
    """Where a key column is in a message; ``id = "order_id"`` is short for its field."""

    field: str = Field(min_length=1)
    """The field's name in ``before`` and ``after``, or in the key."""
    form: Literal["", "text", "s", "ms", "us", "ns", "days", "base64", "hex"] = ""
    """How its value is written where JSON leaves it open: unit of a time that is a number, ``text`` of a decimal, …

    Default: what the message's schema says; else times are ISO 8601 and bytes are base64.
    """


class TopicConfig(Part):
    """A stream of messages that name changed rows, and how they are read."""

    url: Annotated[str, AfterValidator(_url)]
    """``tls://host:port``, or ``nats://host:port`` without TLS."""
    stream: Annotated[str, AfterValidator(_named)]
    """The stream. Its retention has to be ``limits``: a gap in it is noticed, and means a scan."""
    subject: Annotated[str, AfterValidator(_subject)]
    """The subject of this table's messages, wildcards allowed."""
    marker_subject: Annotated[str, AfterValidator(_subject)] | None = None
    """The subject of markers in the same stream, if it is another one; then all of the stream is read."""
    consumer: Annotated[str, AfterValidator(_named)] | None = None
    """The durable consumer, of this agent and dataset alone; default: a name made of both. Deleted and made anew."""
    format: Literal["debezium", "keys"] = "debezium"
    """``debezium``: change events, with or without their schema. ``keys``: ``{"id": 1}``, ``[1]`` or ``1``."""
    key_header: str = ""
    """The header that has a message's key as JSON, for tombstones; default: there is none."""
    columns: Mapping[str, Annotated[TopicField, BeforeValidator(_field)]] = {}
    """Key column -> field; default: as the table's column is named (``debezium``) or the dataset's (``keys``)."""
    user: str = ""
    """The user, with ``password``."""
    password: SecretSpec | None = None
    """The user's password."""
    token: SecretSpec | None = None
    """A token instead of user and password."""
    ca: ConfigPath | None = None
    """The authority of the server's certificate; default: the system's."""
    cert: ConfigPath | None = None
    """This agent's certificate towards the server."""
    key: ConfigPath | None = None
    """That certificate's private key."""
    settle_s: float = Field(default=1.0, ge=0, le=600, allow_inf_nan=False)
    """Seconds after which a change can surely be read where its message was stored; until then it is read again."""
    lag_max_s: float | None = Field(default=None, ge=0, le=604_800, allow_inf_nan=False)
    """Seconds after which the feed has delivered a change, whatever happens; default: not known.

    Then any message proves everything committed so long before it was stored; without it only markers do.
    """

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise Fault("cert and key belong together", "add the other one")
        if self.token is not None and (self.user or self.password is not None):
            raise Fault("token and user exclude each other", "remove one of them")
        if bool(self.user) != (self.password is not None):
            raise Fault("user and password belong together", "add the other one")
        if not self.url.startswith("tls://"):
            if any(one is not None for one in (self.ca, self.cert)):
                raise Fault("ca, cert and key are for TLS", 'write url = "tls://..."')
            if (self.token is not None or self.password is not None) and urlsplit(self.url).hostname not in _LOOPBACK:
                raise Fault("a password or token would cross the network in clear", 'write url = "tls://..."')
        return self
