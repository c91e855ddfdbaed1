"""Finding a page of recordings: which of them, how many there are, and what is shown of each.

The list is ordered by `recordings.place`, so a page begins behind the last place of the one before. With words, SQLite
goes through its full-text index in that order; PostgreSQL's planner chooses between the same order and the index of
terms, by what it knows of how often a term occurs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, Row, cast, column, func, literal_column, select, table
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.asyncio import AsyncConnection

from mediaserver.recording.catalog.query import (
    Groups,
    Query,
    Term,
    column_groups,
    conditions,
    parse_cursor,
    term_groups,
)
from mediaserver.recording.catalog.rows import wanted_place
from mediaserver.recording.catalog.schema import identifiers, recordings, tracks
from mediaserver.recording.sidecars import Identifiers
from mediaserver.recording.views import RecordingList, RecordingView, TrackView, iso

COUNTED = 1000
"""Totals are exact up to here."""

GIVEN_WAY = 10_000
"""Recordings that may have begun at the same moment."""
PREFIXES = (12, 10, 8, 6, 5, 4, 3, 2, 1)
"""The lengths of which SQLite's index has all beginnings of words; others it would have to collect first."""

_found = table("found", column("rowid", Integer))


class _Matching(NamedTuple):
    """What matches: the expression for its place, and the conditions."""

    place: ColumnElement[int]
    where: list[ColumnElement[bool]]


async def find(connection: AsyncConnection, query: Query) -> RecordingList:
    """A page of what matches, newest first. Raises `BadCursor`."""
    after = parse_cursor(query.cursor)
    matching = _matching(query, connection.dialect.name)
    if query.from_us is not None:
        longest = await connection.scalar(select(func.max(recordings.c.length_us))) or 0
        matching.where.append(matching.place >= wanted_place(query.from_us - longest))
    if query.to_us is not None:
        # Those that had to give way stand a little behind their start.
        matching.where.append(matching.place <= wanted_place(query.to_us) + GIVEN_WAY)
    counted = select(matching.place).where(*matching.where).limit(COUNTED + 1).subquery()
    total = await connection.scalar(select(func.count()).select_from(counted)) or 0
    places = await _places(connection, query, matching, after)
    views = await _views(connection, places[: query.limit])
    more = len(places) > query.limit and places
    cursor = str(places[query.limit - 1]) if more and query.limit else str(after or _TOP) if more else ""
    return RecordingList(min(total, COUNTED), views, at_least=total > COUNTED, cursor=cursor)


_TOP = (1 << 62) - 1
"""Before all places."""


async def _places(connection: AsyncConnection, query: Query, matching: _Matching, after: int | None) -> list[int]:
    """Of the page and one more, where there is one."""
    where = matching.where if after is None else [*matching.where, matching.place < after]
    page = select(matching.place.label("place")).where(*where).order_by(matching.place.desc())
    rows = await connection.execute(page.limit(query.limit + 1).offset(query.offset))
    return list(rows.scalars())


def _matching(query: Query, dialect: str) -> _Matching:
    where = list(conditions(query))
    groups = term_groups(query)
    if dialect == "postgresql":
        if groups:
            where.append(recordings.c.terms.bool_op("@@")(cast(_tsquery(groups), TSQUERY)))
        return _Matching(recordings.c.place, where)
    groups += column_groups(query)
    if not groups:
        return _Matching(recordings.c.place, where)
    where += _longer_words(groups)
    if where:
        # The sum keeps SQLite from going the other way round, through the recordings with a look into the index each.
        where.append(recordings.c.place == _found.c.rowid + literal_column("0"))
    where.append(literal_column("found", Integer).bool_op("MATCH")(_fts(groups)))
    return _Matching(_found.c.rowid, where)


def _fts(groups: Groups) -> str:
    """A query in the words of SQLite's FTS5. Terms have no quotation marks."""

    def one(term: Term) -> str:
        return f'"{term.text[: _indexed(term)]}"*' if term.open_ended else f'"{term.text}"'

    return " AND ".join(f"({' OR '.join(map(one, group)) or _NOTHING})" for group in groups)


def _longer_words(groups: Groups) -> Iterator[ColumnElement[bool]]:
    """What the index of beginnings leaves open: whether a longer word goes on as it was asked for."""
    for term in (term for group in groups for term in group):
        if term.open_ended and len(term.text) > _indexed(term):
            # Both have a blank in front, and neither % nor _ is in a term.
            yield (literal_column("' '") + recordings.c.terms).like(f"% {term.text}%")


def _indexed(term: Term) -> int:
    return next(length for length in PREFIXES if length <= len(term.text))


def _tsquery(groups: Groups) -> str:
    """A query in the words of PostgreSQL's tsquery. Terms have no quotation marks."""

    def one(term: Term) -> str:
        return f"'{term.text}'{':*' if term.open_ended else ''}"

    return " & ".join(f"({' | '.join(map(one, group))})" for group in groups)


_NOTHING = '"·"'
"""A term that no recording has."""


async def _views(connection: AsyncConnection, places: Sequence[int]) -> list[RecordingView]:
    if not places:
        return []
    one = select(recordings, *(c.label(f"known_{c.name}") for c in identifiers.c))
    joined = one.outerjoin(identifiers, identifiers.c.recording == recordings.c.id)
    newest_first = recordings.c.place.desc()
    found = (await connection.execute(joined.where(recordings.c.place.in_(places)).order_by(newest_first))).all()
    by_recording: dict[str, list[TrackView]] = {row.id: [] for row in found}
    own = select(tracks).where(tracks.c.recording.in_(list(by_recording)))
    for row in await connection.execute(own.order_by(tracks.c.recording, tracks.c.position)):
        fields = {name: getattr(row, name) for name in TrackView.__struct_fields__}
        by_recording[row.recording].append(TrackView(**fields))
    return [_view(row, by_recording[row.id]) for row in found]


def _view(row: Row[Any], own: list[TrackView]) -> RecordingView:
    known = {name: getattr(row, f"known_{name}") for name in Identifiers.__struct_fields__}
    return RecordingView(
        id=row.id,
        room=row.room,
        started=iso(row.started_us),
        ended=iso(row.ended_us),
        duration_ms=row.length_us // 1000,
        state=row.state,
        tracks=own,
        identifiers=None if row.known_recording is None else Identifiers(**known),
        held=row.held,
    )
