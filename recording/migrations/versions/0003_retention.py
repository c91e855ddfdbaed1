"""Retention: the class that a recording is in, empty where its folder names none."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not by a batch: that would make the table anew, and the triggers of the index of words would be gone.
    op.add_column("recordings", sa.Column("retention", sa.String(64), nullable=False, server_default=""))
    op.create_index("recordings_retention", "recordings", ["retention", "ended_us"])


def downgrade() -> None:
    raise NotImplementedError("an older version makes its catalog anew: move this one away")
