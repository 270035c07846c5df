"""Agents, sweeps, traffic and findings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "agents",
        sa.Column("region", sa.String(63), nullable=False),
        sa.Column("agent", sa.String(255), nullable=False),
        sa.Column("instance", sa.String(255), nullable=False, comment="new with every start of the agent process"),
        sa.Column("connected", sa.Boolean, nullable=False),
        sa.Column(
            "connected_since",
            sa.DateTime(timezone=True),
            comment="start of the connection that is or was the last",
        ),
        sa.Column("last_seen", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("region", "agent", name="pk_agents"),
    )
    _create_sweeps()
    op.create_table(
        "traffic",
        sa.Column("sweep_id", sa.String(64), nullable=False),
        sa.Column("region", sa.String(63), nullable=False),
        sa.Column("round", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("byte_class", sa.String(16), nullable=False),
        sa.Column("bytes_sent", sa.BigInteger, nullable=False, comment="by the region"),
        sa.Column("bytes_received", sa.BigInteger, nullable=False, comment="by the region"),
        sa.PrimaryKeyConstraint("sweep_id", "region", "round", "byte_class", name="pk_traffic"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name="fk_traffic_sweep_id", ondelete="CASCADE"),
    )
    _create_findings()


def _create_sweeps() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(255), nullable=False),
        sa.Column("dataset", sa.String(255), nullable=False),
        sa.Column("profile_id", sa.String(32), comment="hex"),
        sa.Column("regions", sa.JSON, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("operator", sa.String(255), nullable=False, comment="identity of who asked"),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("error", sa.Text, comment="why it failed or was interrupted"),
        sa.Column("report", sa.JSON),
        sa.PrimaryKeyConstraint("id", name="pk_sweeps"),
        sa.UniqueConstraint("job_id", name="uq_sweeps_job_id"),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'finished', 'failed', 'interrupted')", name=op.f("ck_sweeps_state")
        ),
        sa.CheckConstraint("(state = 'finished') = (verdict IS NOT NULL)", name=op.f("ck_sweeps_verdict")),
    )
    op.create_index("ix_sweeps_dataset", "sweeps", ["dataset", "started_at"])


def _create_findings() -> None:
    op.create_table(
        "findings",
        sa.Column("sweep_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("token", sa.String(32)),
        sa.Column("key", sa.JSON, comment="clear key, only where a policy granted it"),
        sa.Column("groups", sa.JSON),
        sa.Column("missing_in", sa.JSON),
        sa.Column("columns", sa.JSON),
        sa.Column("detail", sa.JSON, comment="what only some kinds have: counts, prefix, bits, rows"),
        sa.PrimaryKeyConstraint("sweep_id", "number", name="pk_findings"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name="fk_findings_sweep_id", ondelete="CASCADE"),
    )
