"""What can be asked of the catalog."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec
from sqlalchemy import ColumnElement, not_, or_, select

from mediaserver.recording.catalog import patterns, terms
from mediaserver.recording.catalog.rows import Entry
from mediaserver.recording.catalog.schema import identifiers, recordings


class Veil(msgspec.Struct, frozen=True):
    """Rooms of whose recordings somebody is not to learn whom they are about: those that a pattern fits, but `own`."""

    patterns: Collection[str] = ()
    own: str = ""

    def covers(self, room: str) -> bool:
        return room != self.own and any(fnmatchcase(room, one) for one in self.patterns)


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for; all that is given must match. Times are Unix times in µs."""

    room: str = ""
    source: str = ""
    state: str = ""
    """recording, complete or recovered."""
    from_us: int | None = None
    to_us: int | None = None
    """Recordings that go on at some time between the two."""
    text: str = ""
    """Each of its words must begin a word of the room's name, the id, a label, a participant's name, an identifier."""
    patient_id: str = ""
    patient_name: str = ""
    """Each of its words must begin a word of the name."""
    encounter: str = ""
    accession: str = ""
    participant: str = ""
    """Each of its words must begin a word of a participant's name."""
    has_gaps: bool | None = None
    on_hold: bool | None = None
    retention: str = ""
    """The class that it was given."""
    rooms: Collection[str] | None = None
    """Only these rooms; None: all."""
    veil: Veil = Veil()
    """What asks for a patient, a participant, an identifier, or for words, which might be one, does not find recordings
    of these rooms."""
    limit: int = 50
    offset: int = 0
    cursor: str = ""
    """Where the page before ended, as it was told there: quick however far one has come."""

    @property
    def asks_who(self) -> bool:
        """Whether what it finds tells whom a recording is about."""
        return any((self.text, self.patient_id, self.patient_name, self.encounter, self.accession, self.participant))

    def hides(self, room: str) -> bool:
        """Whether it must not find recordings of this room."""
        return self.asks_who and self.veil.covers(room)


class Term(NamedTuple):
    """A term to look for; with `open_ended`, whatever begins with it."""

    text: str
    open_ended: bool = False


Groups = list[list[Term]]
"""Of each group one term must occur."""


class BadCursor(ValueError):
    """A cursor that no page gave."""


def parse_cursor(cursor: str) -> int | None:
    """The place after which the page begins. Raises `BadCursor`."""
    if not cursor:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise BadCursor(f"{cursor!r} is not where a page has ended")
    return int(cursor)


def conditions(query: Query) -> Iterator[ColumnElement[bool]]:
    """What the columns say, exactly."""
    if query.room:
        yield recordings.c.room == query.room
    if query.retention:
        yield recordings.c.retention == query.retention
    if query.rooms is not None:
        yield recordings.c.room.in_(sorted(query.rooms))
    if query.from_us is not None:
        yield recordings.c.ended_us >= query.from_us
    if query.to_us is not None:
        yield recordings.c.started_us <= query.to_us
    if query.asks_who and query.veil.patterns:
        covered = or_(*(recordings.c.room.regexp_match(patterns.regex(one)) for one in query.veil.patterns))
        yield or_(recordings.c.room == query.veil.own, not_(covered))
    for column in (identifiers.c.patient_id, identifiers.c.encounter, identifiers.c.accession):
        wanted = getattr(query, column.name)
        if wanted:
            yield recordings.c.id.in_(select(identifiers.c.recording).where(column == wanted))


def term_groups(query: Query) -> Groups:
    """What the terms tell, exactly."""
    groups = [[Term(word, True)] for word in terms.words(query.text)]
    groups += [[Term(terms.word_in("n", word), True)] for word in terms.words(query.patient_name)]
    groups += [[Term(terms.word_in("w", word), True)] for word in terms.words(query.participant)]
    if query.source:
        groups.append([Term(terms.value("s", query.source))])
    if query.state:
        groups.append([Term(terms.value("v", query.state))])
    for mark, wanted in (("g", query.has_gaps), ("h", query.on_hold)):
        if wanted is not None:
            groups.append([Term(terms.flag(mark, wanted))])
    return groups


def column_groups(query: Query) -> Groups:
    """What the terms tell of the columns, nearly: for an index that has nothing but terms."""
    values = [("r", query.room), ("p", query.patient_id), ("e", query.encounter), ("a", query.accession)]
    groups = [[Term(terms.value(mark, text))] for mark, text in values if text]
    if query.rooms is not None and not query.room:
        groups.append([Term(terms.value("r", room)) for room in sorted(query.rooms)])
    return groups


def matches(entry: Entry, query: Query) -> bool:
    """The same for a recording that is not in the database."""
    kept, known = entry.manifest, entry.sidecars.identifiers
    if query.hides(kept.room):
        return False
    if query.room not in ("", kept.room) or (query.rooms is not None and kept.room not in query.rooms):
        return False
    own = entry.sidecars.retention
    if query.retention and (own is None or own.into != query.retention):
        return False
    if query.to_us is not None and kept.started_us > query.to_us:
        return False
    if query.from_us is not None and kept.state != "recording" and kept.ended_us < query.from_us:
        return False
    for name in ("patient_id", "encounter", "accession"):
        wanted = getattr(query, name)
        if wanted and (known is None or getattr(known, name) != wanted):
            return False
    found = terms.of(kept, entry.sidecars)
    return all(any(_occurs(term, found) for term in group) for group in [*term_groups(query), *column_groups(query)])


def _occurs(term: Term, own: set[str]) -> bool:
    return term.text in own or (term.open_ended and any(one.startswith(term.text) for one in own))
