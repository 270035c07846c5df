"""How often a sweep was begun: a failed or interrupted one is begun again under its id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Sweeps from before were begun once."""
    comment = "how often it was begun"
    op.add_column("sweeps", sa.Column("attempts", sa.Integer, nullable=False, server_default="1", comment=comment))
