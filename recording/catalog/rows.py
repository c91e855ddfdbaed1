"""A recording's folder as rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Table

from mediaserver.recording import views
from mediaserver.recording.catalog import schema, terms
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.sidecars import Consent, Sidecars

Row = dict[str, Any]


class Entry(msgspec.Struct, frozen=True):
    """What the catalog knows of a recording."""

    manifest: Manifest
    sidecars: Sidecars = Sidecars()


def wanted_place(started_us: int) -> int:
    """Where a recording belongs in the list: its start in steps of 16 µs."""
    return started_us >> 4


def recording_row(entry: Entry, place: int) -> Row:
    kept = entry.manifest
    return {
        "place": place,
        "id": kept.id,
        "room": kept.room,
        "state": kept.state,
        "started_us": kept.started_us,
        "ended_us": kept.ended_us,
        "length_us": kept.ended_us - kept.started_us,
        "digest": kept.digest,
        "gaps": sum(len(track.gaps) for track in kept.tracks),
        "held": entry.sidecars.held,
        "retention": entry.sidecars.retention.into if entry.sidecars.retention else "",
        "terms": " ".join(sorted(terms.of(kept, entry.sidecars))),
    }


def part_rows(entry: Entry) -> dict[Table, list[Row]]:
    """The rows of `schema.PARTS`."""
    kept, added = entry.manifest, entry.sidecars
    base = {"recording": kept.id}
    return {
        schema.participants: _rows(base, schema.participants, kept.participants),
        schema.tracks: [
            base | {"position": position} | _picked(track, schema.tracks)
            for position, track in enumerate(views.view(kept).tracks)
        ],
        schema.segments: [
            base | {"track": track.id, "position": position} | _picked(segment, schema.segments)
            for track in kept.tracks
            for position, segment in enumerate(track.segments)
        ],
        schema.gaps: [
            base | {"track": track.id, "position": position} | _picked(gap, schema.gaps)
            for track in kept.tracks
            for position, gap in enumerate(track.gaps)
        ],
        schema.identifiers: _rows(base, schema.identifiers, [added.identifiers] if added.identifiers else []),
        schema.bookmarks: _rows(base, schema.bookmarks, added.bookmarks),
        schema.consents: _rows(base, schema.consents, [*_consents(kept), *added.consents]),
        schema.holds: _rows(base, schema.holds, added.holds),
    }


def _consents(kept: Manifest) -> list[Consent]:
    """What the participants said while it was made."""
    names = {participant.id: participant.name for participant in kept.participants}
    facts = [] if kept.consent is msgspec.UNSET else kept.consent.facts
    return [
        Consent(
            id=f"m{number}",
            scope=views.CONSENT_SCOPE,
            given=fact.state == "given",
            subject=names.get(fact.participant, "") or fact.participant,
            by=fact.witness or fact.by,
            at_us=fact.at_us,
            note=f"{fact.state}, text {fact.version}" if fact.version else fact.state,
            sources=[] if fact.sources is msgspec.UNSET else fact.sources,
        )
        for number, fact in enumerate(facts)
    ]


def _rows(base: Row, table: Table, structs: Iterable[msgspec.Struct]) -> list[Row]:
    return [base | _picked(struct, table) for struct in structs]


def _picked(struct: msgspec.Struct, table: Table) -> Row:
    """Those fields of a struct that the table has."""
    fields = {name: getattr(struct, name) for name in struct.__struct_fields__ if name in table.c}
    return {name: _storable(value) for name, value in fields.items()}


def _storable(value: Any) -> Any:
    """Names as words of one text; and PostgreSQL takes no NUL in a text."""
    if isinstance(value, list):
        value = " ".join(value)
    return value.replace("\0", "") if isinstance(value, str) else value
