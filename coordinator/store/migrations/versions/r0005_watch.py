"""Continuous validation: how far each dataset is verified, its last windows, and the findings that are open."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_END = "end of a window, seconds since 1970"


def upgrade() -> None:
    """Four tables."""
    op.create_table(
        "watches",
        sa.Column("dataset", sa.String(255), nullable=False),
        sa.Column("watch_id", sa.String(16), nullable=False, comment="of profile and regions"),
        sa.Column("opened", sa.BigInteger, comment=_END),
        sa.Column("decided", sa.BigInteger, comment=_END),
        sa.Column("verified", sa.BigInteger, comment=_END),
        sa.PrimaryKeyConstraint("dataset", name="pk_watches"),
    )
    op.create_table(
        "watch_regions",
        sa.Column("dataset", sa.String(255), nullable=False),
        sa.Column("region", sa.String(63), nullable=False),
        sa.Column("verified", sa.BigInteger, comment=_END),
        sa.Column("position", sa.Text, comment="at which it was verified"),
        sa.Column("reason", sa.Text, nullable=False, comment="why the last window was not verified"),
        sa.PrimaryKeyConstraint("dataset", "region", name="pk_watch_regions"),
    )
    op.create_table(
        "watch_windows",
        sa.Column("dataset", sa.String(255), nullable=False),
        sa.Column("ended", sa.BigInteger, nullable=False, autoincrement=False, comment=_END),
        sa.Column("since", sa.BigInteger, comment="verified before"),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("verified", sa.Boolean, nullable=False),
        sa.Column("sweep_id", sa.String(64)),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.JSON, nullable=False, comment="reasons, new and ended findings"),
        sa.PrimaryKeyConstraint("dataset", "ended", name="pk_watch_windows"),
    )
    op.create_table(
        "watch_findings",
        sa.Column("dataset", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(32), nullable=False, comment="of the finding as it is reported"),
        sa.Column("copies", sa.BigInteger, nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False, comment=_END),
        sa.PrimaryKeyConstraint("dataset", "fingerprint", name="pk_watch_findings"),
    )
