"""Search: terms and places, and what people add to a recording.

What is in the database is taken over, so that it is listed at once. Each recording's digest is emptied: it is entered
anew from its folder, with its terms, when the archive is next opened.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BATCH = 1000
OLD = ("gaps", "segments", "tracks", "participants", "recordings")
ID = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
PLACE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TERMS = sa.Text().with_variant(TSVECTOR(), "postgresql")


def upgrade() -> None:
    op.drop_index("recordings_started", "recordings")
    op.drop_index("recordings_room", "recordings")
    op.drop_index("tracks_source", "tracks")
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in OLD:
        op.rename_table(table, f"old_{table}")
        if postgresql:  # a primary key's index keeps its name, and the new one would have it too
            op.execute(f"ALTER INDEX {table}_pkey RENAME TO old_{table}_pkey")
    _create_recordings()
    _create_parts()
    _create_added()
    if not postgresql:
        _create_sqlite_index()
    _take_over()
    for table in OLD:
        op.drop_table(f"old_{table}")


def downgrade() -> None:
    raise NotImplementedError("an older version makes its catalog anew: move this one away")


def _create_recordings() -> None:
    op.create_table(
        "recordings",
        sa.Column("place", PLACE, primary_key=True, autoincrement=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("room", sa.String, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger, nullable=False),
        sa.Column("length_us", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("gaps", sa.Integer, nullable=False),
        sa.Column("held", sa.Boolean, nullable=False),
        sa.Column("terms", TERMS, nullable=False),
    )
    op.create_index("recordings_id", "recordings", ["id"], unique=True)
    op.create_index("recordings_room", "recordings", ["room", "place"])
    op.create_index("recordings_length", "recordings", ["length_us"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE INDEX recordings_terms ON recordings USING gin (terms) WITH (fastupdate = off)")


def _create_parts() -> None:
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
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("gaps", sa.Integer, nullable=False),
        sa.Column("segments", sa.Integer, nullable=False),
    )
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


def _create_added() -> None:
    texts = ["patient_id", "patient_issuer", "patient_name", "birth_date", "sex", "encounter", "accession"]
    texts += ["study_uid", "modality", "study_description", "referring"]
    op.create_table("identifiers", _recording(), *(sa.Column(name, sa.String, nullable=False) for name in texts))
    op.create_index("identifiers_patient", "identifiers", ["patient_id"])
    op.create_index("identifiers_encounter", "identifiers", ["encounter"])
    op.create_index("identifiers_accession", "identifiers", ["accession"])
    op.create_table(
        "bookmarks",
        _recording(),
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("track", sa.String(64), nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("made_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "consents",
        _recording(),
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("given", sa.Boolean, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("note", sa.String, nullable=False),
    )
    op.create_table(
        "holds",
        _recording(),
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("placed_us", sa.BigInteger, nullable=False),
        sa.Column("lifted_by", sa.String, nullable=False),
        sa.Column("lifted_us", sa.BigInteger),
    )
    op.create_table(
        "accesses",
        sa.Column("recording", ID, primary_key=True),
        sa.Column("who", sa.String, primary_key=True),
        sa.Column("action", sa.String, primary_key=True),
        sa.Column("first_us", sa.BigInteger, nullable=False),
        sa.Column("last_us", sa.BigInteger, nullable=False),
        sa.Column("times", sa.Integer, nullable=False),
    )
    op.create_table(
        "marks", sa.Column("name", sa.String, primary_key=True), sa.Column("value", sa.String, nullable=False)
    )


def _create_sqlite_index() -> None:
    """An index of the terms that is no second copy of them, kept up by triggers and so in the same transaction.

    Terms are separated by blanks alone, which is how the tokenizer `ascii` sees them: their dot is no ASCII.
    """
    op.execute(
        "CREATE VIRTUAL TABLE found USING fts5(terms, content='recordings', content_rowid='place', detail=none,"
        " columnsize=0, tokenize='ascii', prefix='1 2 3 4 5 6 8 10 12')"
    )
    enter = "INSERT INTO found(rowid, terms) VALUES (new.place, new.terms);"
    leave = "INSERT INTO found(found, rowid, terms) VALUES ('delete', old.place, old.terms);"
    changed = "old.place <> new.place OR old.terms <> new.terms"
    op.execute(f"CREATE TRIGGER found_insert AFTER INSERT ON recordings BEGIN {enter} END")
    op.execute(f"CREATE TRIGGER found_delete AFTER DELETE ON recordings BEGIN {leave} END")
    op.execute(f"CREATE TRIGGER found_update AFTER UPDATE ON recordings WHEN {changed} BEGIN {leave} {enter} END")


def _take_over() -> None:
    connection = op.get_bind()
    old = sa.table("old_recordings", *map(sa.column, ("id", "room", "state", "started_us", "ended_us")))
    new = sa.table("recordings", *map(sa.column, (*_NEW, "terms")))
    rows = connection.execute(sa.select(old).order_by(old.c.started_us, old.c.id))
    place = 0
    for batch in iter(lambda: rows.fetchmany(BATCH), []):
        entered = []
        for row in batch:
            place = max(place + 1, row.started_us >> 4)
            length = row.ended_us - row.started_us
            values = (place, row.id, row.room, row.state, row.started_us, row.ended_us, length, "", 0, False)
            entered.append(dict(zip(_NEW, values, strict=True)))
        terms = sa.cast("", TERMS)
        connection.execute(sa.insert(new).values(terms=terms), entered)
    connection.execute(sa.text(_GAPS_OF_RECORDINGS))
    for table, columns in _SAME.items():
        connection.execute(sa.text(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM old_{table}"))
    connection.execute(sa.text(_TRACKS))


_NEW = ("place", "id", "room", "state", "started_us", "ended_us", "length_us", "digest", "gaps", "held")
_SAME = {
    "participants": "recording, id, name, role, joined_us",
    "segments": "recording, file, track, position, container, codec, width, height, bytes, sha256, first_us, last_us",
    "gaps": "recording, track, position, cause, packets, skipped, from_us, to_us",
}
_GAPS_OF_RECORDINGS = """
UPDATE recordings SET gaps = (SELECT count(*) FROM old_gaps WHERE old_gaps.recording = recordings.id)
"""
_TRACKS = """
INSERT INTO tracks
SELECT t.recording, t.id, t.position, t.source, t.kind, t.codec, t.label, t.participant,
  coalesce((SELECT (max(last_us) - min(first_us)) / 1000 FROM old_segments s
            WHERE s.recording = t.recording AND s.track = t.id), 0),
  coalesce((SELECT sum(bytes) FROM old_segments s WHERE s.recording = t.recording AND s.track = t.id), 0),
  coalesce((SELECT width FROM old_segments s WHERE s.recording = t.recording AND s.track = t.id
            ORDER BY position DESC LIMIT 1), 0),
  coalesce((SELECT height FROM old_segments s WHERE s.recording = t.recording AND s.track = t.id
            ORDER BY position DESC LIMIT 1), 0),
  (SELECT count(*) FROM old_gaps g WHERE g.recording = t.recording AND g.track = t.id),
  (SELECT count(*) FROM old_segments s WHERE s.recording = t.recording AND s.track = t.id)
FROM old_tracks t
"""


def _recording() -> sa.Column[str]:
    target = sa.ForeignKey("recordings.id", ondelete="CASCADE")
    return sa.Column("recording", ID, target, primary_key=True)
