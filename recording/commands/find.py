"""`archive list` and `archive show`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from mediaserver.recording import manifest, views
from mediaserver.recording.commands.common import AsJson, Identifier, print_json, read_time, with_archive

WIDTH = 160
"""Columns of a table that goes into a file or another program."""
MAX_LIMIT = 100_000


def list_recordings(
    context: typer.Context,
    room: Annotated[str, typer.Option(help="Only this room.")] = "",
    source: Annotated[str, typer.Option(help="Only with a track of this source.")] = "",
    text: Annotated[str, typer.Option(help="Beginnings of words in the room, the id, labels or names.")] = "",
    patient: Annotated[str, typer.Option(help="Only of the patient with this id.")] = "",
    name: Annotated[str, typer.Option(help="Beginnings of words in the patient's name.")] = "",
    encounter: Annotated[str, typer.Option(help="Only of this encounter.")] = "",
    accession: Annotated[str, typer.Option(help="Only with this accession number.")] = "",
    participant: Annotated[str, typer.Option(help="Beginnings of words in a participant's name.")] = "",
    state: Annotated[str, typer.Option(help="Only recording, complete or recovered.")] = "",
    gaps: Annotated[bool | None, typer.Option("--gaps/--no-gaps", help="Only with gaps, or without.")] = None,
    held: Annotated[bool | None, typer.Option("--held/--not-held", help="Only on hold, or not.")] = None,
    into: Annotated[str, typer.Option("--class", help="Only of this class of retention.")] = "",
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="A date or a time (RFC 3339).")] = "",
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="The same; a date is meant to its end.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="At most so many, the newest first.")] = 1000,
    cursor: Annotated[str, typer.Option(help="Go on where the page with this cursor ended.")] = "",
    as_json: AsJson = False,
) -> None:
    """List recordings, the newest first."""
    from mediaserver.recording.catalog import BadCursor, Query

    query = Query(
        room=room, source=source, text=text, patient_id=patient, patient_name=name, encounter=encounter,
        accession=accession, participant=participant, state=state, has_gaps=gaps, on_hold=held, retention=into,
        from_us=read_time(since, "--from"), to_us=read_time(until, "--to", to_its_end=True), limit=limit, cursor=cursor,
    )  # fmt: skip
    try:
        found = with_archive(context, lambda archive: archive.find(query))
    except BadCursor as error:
        raise typer.BadParameter(str(error), param_hint="--cursor") from None
    if as_json:
        print_json(found)
        return
    table = Table(Column("id", no_wrap=True), "patient", "room", "started", "length", "state", "tracks", "MB", "gaps")
    for recording in found.recordings:
        size = sum(track.bytes for track in recording.tracks) / 1e6
        sources = ", ".join(track.source for track in recording.tracks)
        gap_count = sum(track.gaps for track in recording.tracks)
        seconds = f"{recording.duration_ms / 1000:.1f} s"
        state = f"{recording.state}, held" if recording.held else recording.state
        patient = recording.identifiers.patient_id if recording.identifiers else ""
        table.add_row(
            recording.id,
            patient,
            recording.room,
            recording.started,
            seconds,
            state,
            sources,
            f"{size:.1f}",
            str(gap_count),
        )
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)
    if found.cursor:
        typer.echo(f"There are more: go on with --cursor {found.cursor}")


def show(context: typer.Context, recording: Identifier) -> None:
    """Show all that is known of a recording, as JSON."""
    kept = with_archive(context, lambda archive: archive.get(recording))
    if kept.state == "recording":
        print_json(views.detail(kept))
    else:
        typer.echo(manifest.encode(kept).decode(), nl=False)
