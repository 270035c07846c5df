"""Dead letters of all regions, and the coordinator's own; who tried them again or discarded them, and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Three tables."""
    _create_letters()
    op.create_table(
        "letter_lists",
        sa.Column("region", sa.String(63), nullable=False),
        sa.Column("dataset", sa.String(255), nullable=False),
        sa.Column("not_kept", sa.BigInteger, nullable=False, comment="further letters that were counted only"),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False, comment="when the region was asked"),
        sa.PrimaryKeyConstraint("region", "dataset", name="pk_letter_lists"),
    )
    op.create_table(
        "letter_acts",
        sa.Column("number", sa.Integer, nullable=False, autoincrement=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("operator", sa.String(255), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("region", sa.String(63), nullable=False),
        sa.Column("dataset", sa.String(255), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("ids", sa.JSON, nullable=False, comment="empty: all of the dataset"),
        sa.PrimaryKeyConstraint("number", name="pk_letter_acts"),
    )


def _create_letters() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("region", sa.String(63), nullable=False, comment="empty: the coordinator's own"),
        sa.Column("id", sa.String(16), nullable=False, comment="opaque"),
        sa.Column("dataset", sa.String(255), nullable=False, comment="empty: messages"),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("columns", sa.JSON, nullable=False),
        sa.Column("keyed", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("first_seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sweep_id", sa.String(64), nullable=False, comment="the sweep that saw it last, or empty"),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False, comment="why it was discarded"),
        sa.Column(
            "detail", sa.JSON, comment="of the coordinator's own: size, digest and peer of a message; job of a sweep"
        ),
        sa.PrimaryKeyConstraint("region", "id", name="pk_dead_letters"),
        sa.CheckConstraint("kind IN ('row', 'rows', 'schema', 'message', 'job')", name=op.f("ck_dead_letters_kind")),
        sa.CheckConstraint("state IN ('open', 'discarded')", name=op.f("ck_dead_letters_state")),
    )
    op.create_index("ix_dead_letters_dataset", "dead_letters", ["dataset", "region"])
