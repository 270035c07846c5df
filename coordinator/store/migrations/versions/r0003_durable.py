"""Sweeps that outlive their coordinator: stored answers, the fencing token, circuit breakers, pause and cancel."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Only adds: rebuilding ``sweeps`` in SQLite would take the findings with it."""
    for column in (
        sa.Column(
            "resumed",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="how often a coordinator took it up again",
        ),
        sa.Column("paused_by", sa.String(255), comment="who wants it to rest; such a sweep is queued"),
        sa.Column("cancelled_by", sa.String(255), comment="who ended it early, or wants to"),
        sa.Column("checkpoint", sa.JSON, comment="seconds of work and bytes up to the last stored answer"),
    ):
        op.add_column("sweeps", column)
    _create_answers()
    op.create_table(
        "breakers",
        sa.Column("region", sa.String(63), nullable=False),
        sa.Column("dataset", sa.String(255), nullable=False),
        sa.Column("circuit", sa.String(16), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False, comment="sweeps in a row that lost the region"),
        sa.Column("opened", sa.Integer, nullable=False, comment="how often in a row it was opened"),
        sa.Column("retry_at", sa.Float, nullable=False, comment="seconds since 1970"),
        sa.Column("reason", sa.Text, nullable=False, comment="of the last failure"),
        sa.PrimaryKeyConstraint("region", "dataset", name="pk_breakers"),
        sa.CheckConstraint("circuit IN ('closed', 'open', 'half-open')", name=op.f("ck_breakers_circuit")),
    )
    op.create_table(
        "leases",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column(
            "token",
            sa.BigInteger,
            nullable=False,
            comment="one higher with every coordinator that takes the store",
        ),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_leases"),
        sa.CheckConstraint("id = 1", name=op.f("ck_leases_only")),
    )


def _create_answers() -> None:
    op.create_table(
        "answers",
        sa.Column("sweep_id", sa.String(64), nullable=False),
        sa.Column("region", sa.String(63), nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False, comment="of the region's exchanges"),
        sa.Column("part", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("request", sa.LargeBinary, nullable=False, comment="what was asked: fingerprint, 16 bytes"),
        sa.Column("at_s", sa.Float, nullable=False, comment="seconds of work when the round was complete"),
        sa.Column("lost", sa.Text, comment="why the region gave no answer; such a row has no body"),
        sa.Column("failed", sa.Boolean, nullable=False, comment="whether the breaker counts the loss"),
        sa.Column(
            "body", sa.LargeBinary, comment="one part as it came over the wire: digests and counts, no key, no value"
        ),
        sa.PrimaryKeyConstraint("sweep_id", "region", "number", "part", name="pk_answers"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name="fk_answers_sweep_id", ondelete="CASCADE"),
    )
