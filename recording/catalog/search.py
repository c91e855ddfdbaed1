"""Finding a page of recordings: which of them, how many there are, and what is shown of each.

The list is ordered by `recordings.place`, so a page begins behind the last place of the one before. With words, SQLite
goes through its full-text index in that order. PostgreSQL's index of terms knows no order, and its planner can't know
how often the beginning of a word occurs: so a stretch of the list is looked through first, which is enough for what is
common, and what is rare comes from the index.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Integer, Row, Select, cast, column, func, literal_column, select, table, text
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

STRETCH = 5_000
"""So many recordings of the list PostgreSQL looks through before it asks its index."""
COMMON = 0.02
"""A term that this share of all recordings has is common."""

_COMMON = text(
    "SELECT term FROM pg_stats, unnest(most_common_elems::text::text[], most_common_elem_freqs) AS one (term, share)"
    " WHERE schemaname = current_schema() AND tablename = 'recordings' AND attname = 'terms'"
    " AND term IS NOT NULL AND share >= :share"
)
_found = table("found", column("rowid", Integer))


class _Matching(NamedTuple):
    """What matches: the expression for its place, and the conditions. On PostgreSQL the terms are apart, and those that
    say nearly what the conditions on columns say."""

    place: ColumnElement[int]
    where: list[ColumnElement[bool]]
    groups: Sequence[Sequence[Term]] = ()
    columns: Sequence[Sequence[Term]] = ()


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
    total = len(await _places(connection, matching, COUNTED + 1, ordered=False))
    if after is not None:
        matching.where.append(matching.place < after)
    places = await _places(connection, matching, query.limit + 1, query.offset)
    views = await _views(connection, places[: query.limit])
    more = len(places) > query.limit and places
    cursor = str(places[query.limit - 1]) if more and query.limit else str(after or _TOP) if more else ""
    return RecordingList(min(total, COUNTED), views, at_least=total > COUNTED, cursor=cursor)


_TOP = (1 << 62) - 1
"""Before all places."""


async def _places(
    connection: AsyncConnection, matching: _Matching, limit: int, offset: int = 0, *, ordered: bool = True
) -> list[int]:
    """The newest that match, or any where the order is of no interest."""
    where = list(matching.where)
    if matching.groups:
        found = await _among_the_newest(connection, matching, limit, offset)
        if len(found) == limit:
            return found
        where += await _by_terms(connection, matching)
    page = select(matching.place.label("place")).where(*where)
    if ordered:
        page = page.order_by(matching.place.desc())
    async with _by_index(connection, bool(matching.groups)):
        rows = await connection.execute(page.limit(limit).offset(offset))
        return list(rows.scalars())


async def _by_terms(connection: AsyncConnection, matching: _Matching) -> list[ColumnElement[bool]]:
    """The conditions on the terms. The index has to collect all that begins with an open-ended one: where something
    else is rarer, a common one is looked for in what that has found."""
    asked = [*matching.groups, *matching.columns]
    common = await _common(connection) if any(term.open_ended for group in asked for term in group) else []

    def is_common(term: Term) -> bool:
        return term.open_ended and any(one.startswith(term.text) for one in common)

    looked_up = [group for group in asked if not any(map(is_common, group))]
    if not looked_up:
        return [recordings.c.terms.bool_op("@@")(_tsquery(asked))]
    rest = [group for group in asked if group not in looked_up]
    # The function is the operator, but for the index.
    among = [func.ts_match_vq(recordings.c.terms, _tsquery(rest))] if rest else []
    return [recordings.c.terms.bool_op("@@")(_tsquery(looked_up)), *among]


async def _common(connection: AsyncConnection) -> list[str]:
    """The terms that many recordings have, as far as PostgreSQL has counted."""
    rows = await connection.execute(_COMMON, {"share": COMMON})
    return list(rows.scalars())


async def _among_the_newest(connection: AsyncConnection, matching: _Matching, limit: int, offset: int) -> list[int]:
    """What a stretch of the list has of them: up to `limit`, in order."""
    newest = select(recordings.c.place, recordings.c.terms).where(*matching.where).order_by(recordings.c.place.desc())
    stretch = newest.limit(max(STRETCH, 2 * (limit + offset))).subquery()
    matched = select(stretch.c.place).where(stretch.c.terms.bool_op("@@")(_tsquery(matching.groups)))
    rows = await connection.execute(matched.order_by(stretch.c.place.desc()).limit(limit).offset(offset))
    return list(rows.scalars())


@asynccontextmanager
async def _by_index(connection: AsyncConnection, wanted: bool) -> AsyncIterator[None]:
    """PostgreSQL takes its index of terms meanwhile, whatever it expects to find."""
    if wanted:
        await connection.execute(_switched("off"))
    yield
    if wanted:
        await connection.execute(_switched("on"))


def _switched(to: Literal["on", "off"]) -> Select[Any]:
    """Every way but by bitmaps of an index, for this transaction; and room for bitmaps of millions of recordings: one
    that does not fit forgets which rows it meant."""
    others = ("enable_seqscan", "enable_indexscan", "enable_indexonlyscan")
    return select(*(func.set_config(name, to, True) for name in others), func.set_config("work_mem", "64MB", True))


def _matching(query: Query, dialect: str) -> _Matching:
    where = list(conditions(query))
    groups = term_groups(query)
    if dialect == "postgresql":
        return _Matching(recordings.c.place, where, groups, column_groups(query))
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


def _tsquery(groups: Sequence[Sequence[Term]]) -> ColumnElement[Any]:
    """A query in the words of PostgreSQL's tsquery. Terms have no quotation marks."""

    def one(term: Term) -> str:
        return f"'{term.text}'{':*' if term.open_ended else ''}"

    return cast(" & ".join(f"({' | '.join(map(one, group)) or _NOTHING_THERE})" for group in groups), TSQUERY)


_NOTHING_THERE = "'·'"
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
        retention=row.retention,
    )
