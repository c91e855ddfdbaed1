"""Recordings, their participants, tracks, segments and gaps."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "recordings",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("room", sa.String, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("words", sa.String, nullable=False),
    )
    op.create_index("recordings_started", "recordings", ["started_us"])
    op.create_index("recordings_room", "recordings", ["room", "started_us"])
    op.create_table(
        "participants",
        _recording(),
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("joined_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tracks",
        _recording(),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("codec", sa.String(16), nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("participant", sa.String, nullable=False),
    )
    op.create_index("tracks_source", "tracks", ["source", "recording"])
    op.create_table(
        "segments",
        _recording(),
        sa.Column("file", sa.String, primary_key=True),
        sa.Column("track", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("container", sa.String(8), nullable=False),
        sa.Column("codec", sa.String(16), nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("first_us", sa.BigInteger, nullable=False),
        sa.Column("last_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "gaps",
        _recording(),
        sa.Column("track", sa.String(64), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("packets", sa.BigInteger, nullable=False),
        sa.Column("skipped", sa.BigInteger, nullable=False),
        sa.Column("from_us", sa.BigInteger, nullable=False),
        sa.Column("to_us", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("gaps", "segments", "tracks", "participants", "recordings"):
        op.drop_table(table)


def _recording() -> sa.Column[str]:
    target = sa.ForeignKey("recordings.id", ondelete="CASCADE")
    return sa.Column("recording", sa.String(64), target, primary_key=True)
