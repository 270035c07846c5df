"""The tables of the store. A change here needs a revision in ``migrations/versions``; a test compares the two.

Nothing here can hold a raw value. ``findings.token`` and ``findings.key`` are null unless the regions' policies let
them leave: the store writes what it is given and computes nothing from it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints have names of our own making, the same in both engines, so that a migration can drop them."""


class UtcTime(TypeDecorator[datetime]):
    """An instant: aware on the Python side and always UTC, in both engines (SQLite keeps no zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """To UTC; a naive time is our mistake. Raises ValueError."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _json() -> JSON:
    # json, not jsonb: jsonb refuses \u0000, which a clear key may contain, and reorders a report's fields.
    return JSON(none_as_null=True)


metadata = MetaData(naming_convention=NAMING)

agents = Table(
    "agents",
    metadata,
    Column("region", String(63), primary_key=True),
    Column("agent", String(255), primary_key=True),
    Column("instance", String(255), nullable=False, comment="new with every start of the agent process"),
    Column("connected", Boolean, nullable=False),
    Column("connected_since", UtcTime, comment="start of the connection that is or was the last"),
    Column("last_seen", UtcTime, nullable=False),
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("job_id", String(255), nullable=False, unique=True),
    Column("dataset", String(255), nullable=False),
    Column("profile_id", String(32), comment="hex"),
    Column("regions", _json(), nullable=False),
    Column("options", _json(), nullable=False),
    Column("operator", String(255), nullable=False, comment="identity of who asked"),
    Column("state", String(16), nullable=False),
    Column("verdict", String(16)),
    Column("started_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("error", Text, comment="why it failed or was interrupted"),
    Column("report", _json()),
    Column("attempts", Integer, nullable=False, server_default="1", comment="how often it was begun"),
    Column("resumed", Integer, nullable=False, server_default="0", comment="how often a coordinator took it up again"),
    Column("paused_by", String(255), comment="who wants it to rest; such a sweep is queued"),
    Column("cancelled_by", String(255), comment="who ended it early, or wants to"),
    Column("checkpoint", _json(), comment="seconds of work and bytes up to the last stored answer"),
    CheckConstraint("state IN ('queued', 'running', 'finished', 'failed', 'interrupted')", name="state"),
    CheckConstraint("(state = 'finished') = (verdict IS NOT NULL)", name="verdict"),
    Index("ix_sweeps_dataset", "dataset", "started_at"),
)

traffic = Table(
    "traffic",
    metadata,
    Column("sweep_id", String(64), ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True),
    Column("region", String(63), primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("byte_class", String(16), primary_key=True),
    Column("bytes_sent", BigInteger, nullable=False, comment="by the region"),
    Column("bytes_received", BigInteger, nullable=False, comment="by the region"),
)

findings = Table(
    "findings",
    metadata,
    Column("sweep_id", String(64), ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("token", String(32)),
    Column("key", _json(), comment="clear key, only where a policy granted it"),
    Column("groups", _json()),
    Column("missing_in", _json()),
    Column("columns", _json()),
    Column("detail", _json(), comment="what only some kinds have: counts, prefix, bits, rows"),
)

answers = Table(
    "answers",
    metadata,
    Column("sweep_id", String(64), ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True),
    Column("region", String(63), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False, comment="of the region's exchanges"),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("request", LargeBinary, nullable=False, comment="what was asked: fingerprint, 16 bytes"),
    Column("at_s", Float, nullable=False, comment="seconds of work when the round was complete"),
    Column("lost", Text, comment="why the region gave no answer; such a row has no body"),
    Column("failed", Boolean, nullable=False, comment="whether the breaker counts the loss"),
    Column("body", LargeBinary, comment="one part as it came over the wire: digests and counts, no key, no value"),
)

breakers = Table(
    "breakers",
    metadata,
    Column("region", String(63), primary_key=True),
    Column("dataset", String(255), primary_key=True),
    Column("circuit", String(16), nullable=False),
    Column("failures", Integer, nullable=False, comment="sweeps in a row that lost the region"),
    Column("opened", Integer, nullable=False, comment="how often in a row it was opened"),
    Column("retry_at", Float, nullable=False, comment="seconds since 1970"),
    Column("reason", Text, nullable=False, comment="of the last failure"),
    CheckConstraint("circuit IN ('closed', 'open', 'half-open')", name="circuit"),
)

leases = Table(
    "leases",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("token", BigInteger, nullable=False, comment="one higher with every coordinator that takes the store"),
    Column("holder", String(255), nullable=False),
    Column("taken_at", UtcTime, nullable=False),
    Column("renewed_at", UtcTime, nullable=False),
    CheckConstraint("id = 1", name="only"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("region", String(63), primary_key=True, comment="empty: the coordinator's own"),
    Column("id", String(16), primary_key=True, comment="opaque"),
    Column("dataset", String(255), nullable=False, comment="empty: messages"),
    Column("kind", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("columns", _json(), nullable=False),
    Column("keyed", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("first_seen", UtcTime, nullable=False),
    Column("last_seen", UtcTime, nullable=False),
    Column("sweep_id", String(64), nullable=False, comment="the sweep that saw it last, or empty"),
    Column("count", BigInteger, nullable=False),
    Column("note", Text, nullable=False, comment="why it was discarded"),
    Column("detail", _json(), comment="of the coordinator's own: size, digest and peer of a message; job of a sweep"),
    CheckConstraint("kind IN ('row', 'rows', 'schema', 'message', 'job')", name="kind"),
    CheckConstraint("state IN ('open', 'discarded')", name="state"),
    Index("ix_dead_letters_dataset", "dataset", "region"),
)

letter_lists = Table(
    "letter_lists",
    metadata,
    Column("region", String(63), primary_key=True),
    Column("dataset", String(255), primary_key=True),
    Column("not_kept", BigInteger, nullable=False, comment="further letters that were counted only"),
    Column("as_of", UtcTime, nullable=False, comment="when the region was asked"),
)

letter_acts = Table(
    "letter_acts",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False),
    Column("operator", String(255), nullable=False),
    Column("action", String(16), nullable=False),
    Column("region", String(63), nullable=False),
    Column("dataset", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("ids", _json(), nullable=False, comment="empty: all of the dataset"),
)

_END: Final = "end of a window, seconds since 1970"
watches = Table(
    "watches",
    metadata,
    Column("dataset", String(255), primary_key=True),
    Column("watch_id", String(16), nullable=False, comment="of profile and regions"),
    Column("opened", BigInteger, comment=_END),
    Column("decided", BigInteger, comment=_END),
    Column("verified", BigInteger, comment=_END),
    Column("waiting", _json(), comment="keys that were told to have changed, by the end of their window"),
    Column("late", BigInteger, nullable=False, server_default="0", comment="keys that were told too late"),
    Column("late_at", Float, comment="when the newest of them was committed, seconds since 1970"),
    Column("verdict", String(16), comment="of the roots that were verified last, where they can be compared"),
)

watch_regions = Table(
    "watch_regions",
    metadata,
    Column("dataset", String(255), primary_key=True),
    Column("region", String(63), primary_key=True),
    Column("verified", BigInteger, comment=_END),
    Column("position", Text, comment="at which it was verified"),
    Column("reason", Text, nullable=False, comment="why the last window was not verified"),
    Column("root", String(64), comment="that was verified last"),
)

watch_windows = Table(
    "watch_windows",
    metadata,
    Column("dataset", String(255), primary_key=True),
    Column("ended", BigInteger, primary_key=True, autoincrement=False, comment=_END),
    Column("since", BigInteger, comment="verified before"),
    Column("verdict", String(16), nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("sweep_id", String(64)),
    Column("decided_at", UtcTime, nullable=False),
    Column("outcome", _json(), nullable=False, comment="reasons, new and ended findings"),
)

watch_findings = Table(
    "watch_findings",
    metadata,
    Column("dataset", String(255), primary_key=True),
    Column("fingerprint", String(32), primary_key=True, comment="of the finding as it is reported"),
    Column("copies", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False, comment=_END),
)
