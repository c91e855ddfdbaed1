"""Consent for some sources: their names, empty where it is for all."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("consents", sa.Column("sources", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    raise NotImplementedError("an older version makes its catalog anew: move this one away")
