"""The tables as the last step of `migrations` leaves them; a test compares the two on both databases."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy import Column as C
from sqlalchemy.dialects.postgresql import TSVECTOR

meta = MetaData()

# Identifiers are compared by bytes: their order is that of time, whatever the database's language is.
_Id = String(64).with_variant(String(64, collation="C"), "postgresql")
# SQLite's own row number is of this type alone.
_Place = BigInteger().with_variant(Integer(), "sqlite")


def _recording() -> C[str]:
    return C("recording", _Id, ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True)


recordings = Table(
    "recordings", meta,
    C("place", _Place, primary_key=True, autoincrement=False),
    C("id", _Id, nullable=False), C("room", String, nullable=False), C("state", String(16), nullable=False),
    C("started_us", BigInteger, nullable=False), C("ended_us", BigInteger, nullable=False),
    C("length_us", BigInteger, nullable=False), C("digest", String(64), nullable=False),
    C("gaps", Integer, nullable=False), C("held", Boolean, nullable=False),
    C("retention", String(64), nullable=False, server_default=""),
    C("terms", Text().with_variant(TSVECTOR(), "postgresql"), nullable=False),
    Index("recordings_id", "id", unique=True),
    Index("recordings_room", "room", "place"),
    Index("recordings_length", "length_us"),
    Index("recordings_retention", "retention", "ended_us"),
    Index("recordings_terms", "terms", postgresql_using="gin", postgresql_with={"fastupdate": "off"})
    .ddl_if("postgresql"),
)  # fmt: skip
"""`place` is the order of the list: 16 µs since 1970, a number that no other has. `digest` is the manifest's, empty
for a row that must be entered anew; `terms` is what the recording is found by (see `terms`)."""

participants = Table(
    "participants", meta, _recording(),
    C("id", String, primary_key=True), C("name", String, nullable=False), C("role", String(16), nullable=False),
    C("joined_us", BigInteger, nullable=False),
)  # fmt: skip
tracks = Table(
    "tracks", meta, _recording(),
    C("id", String(64), primary_key=True), C("position", Integer, nullable=False),
    C("source", String(32), nullable=False), C("kind", String(8), nullable=False),
    C("codec", String(16), nullable=False), C("label", String, nullable=False),
    C("participant", String, nullable=False), C("duration_ms", BigInteger, nullable=False),
    C("bytes", BigInteger, nullable=False), C("width", Integer, nullable=False), C("height", Integer, nullable=False),
    C("gaps", Integer, nullable=False), C("segments", Integer, nullable=False),
)  # fmt: skip
segments = Table(
    "segments", meta, _recording(),
    C("file", String, primary_key=True), C("track", String(64), nullable=False),
    C("position", Integer, nullable=False), C("container", String(8), nullable=False),
    C("codec", String(16), nullable=False), C("width", Integer, nullable=False), C("height", Integer, nullable=False),
    C("bytes", BigInteger, nullable=False), C("sha256", String(64), nullable=False),
    C("first_us", BigInteger, nullable=False), C("last_us", BigInteger, nullable=False),
)  # fmt: skip
gaps = Table(
    "gaps", meta, _recording(),
    C("track", String(64), primary_key=True), C("position", Integer, primary_key=True),
    C("cause", String(16), nullable=False), C("packets", BigInteger, nullable=False),
    C("skipped", BigInteger, nullable=False), C("from_us", BigInteger, nullable=False),
    C("to_us", BigInteger, nullable=False),
)  # fmt: skip
identifiers = Table(
    "identifiers", meta, _recording(),
    C("patient_id", String, nullable=False), C("patient_issuer", String, nullable=False),
    C("patient_name", String, nullable=False), C("birth_date", String, nullable=False),
    C("sex", String, nullable=False),
    C("encounter", String, nullable=False), C("accession", String, nullable=False),
    C("study_uid", String, nullable=False), C("modality", String, nullable=False),
    C("study_description", String, nullable=False), C("referring", String, nullable=False),
    Index("identifiers_patient", "patient_id"), Index("identifiers_encounter", "encounter"),
    Index("identifiers_accession", "accession"),
)  # fmt: skip
bookmarks = Table(
    "bookmarks", meta, _recording(),
    C("id", String(16), primary_key=True), C("at_us", BigInteger, nullable=False),
    C("track", String(64), nullable=False), C("text", String, nullable=False), C("by", String, nullable=False),
    C("made_us", BigInteger, nullable=False),
)  # fmt: skip
consents = Table(
    "consents", meta, _recording(),
    C("id", String(16), primary_key=True), C("scope", String, nullable=False), C("given", Boolean, nullable=False),
    C("subject", String, nullable=False), C("by", String, nullable=False), C("at_us", BigInteger, nullable=False),
    C("note", String, nullable=False), C("sources", String, nullable=False, server_default=""),
)  # fmt: skip
holds = Table(
    "holds", meta, _recording(),
    C("id", String(16), primary_key=True), C("reason", String, nullable=False), C("by", String, nullable=False),
    C("placed_us", BigInteger, nullable=False), C("lifted_by", String, nullable=False), C("lifted_us", BigInteger),
)  # fmt: skip

PARTS = (participants, tracks, segments, gaps, identifiers, bookmarks, consents, holds)
"""What hangs on a recording's row and is entered with it."""

accesses = Table(
    "accesses", meta,
    C("recording", _Id, primary_key=True), C("who", String, primary_key=True), C("action", String, primary_key=True),
    C("first_us", BigInteger, nullable=False), C("last_us", BigInteger, nullable=False),
    C("times", Integer, nullable=False),
)  # fmt: skip
"""Of a recording that goes on too, so it hangs on no row."""

marks = Table("marks", meta, C("name", String, primary_key=True), C("value", String, nullable=False))
"""How far long work has come, to go on there after an interruption."""
