"""Continuous validation: changes that were told and not checked yet, and the roots that were verified last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Columns only."""
    for column in (
        sa.Column("waiting", sa.JSON, comment="keys that were told to have changed, by the end of their window"),
        sa.Column("late", sa.BigInteger, nullable=False, server_default="0", comment="keys that were told too late"),
        sa.Column("late_at", sa.Float, comment="when the newest of them was committed, seconds since 1970"),
        sa.Column("verdict", sa.String(16), comment="of the roots that were verified last, where they can be compared"),
    ):
        op.add_column("watches", column)
    op.add_column("watch_regions", sa.Column("root", sa.String(64), comment="that was verified last"))
