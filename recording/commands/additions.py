"""`archive identify`, `archive hold` and `archive release`."""

from __future__ import annotations

from getpass import getuser
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from mediaserver.recording.commands.common import Identifier, print_json, wall_us, with_archive

if TYPE_CHECKING:
    from mediaserver.recording.archive import Archive
    from mediaserver.recording.sidecars import Identifiers


def identify(
    context: typer.Context,
    recording: Identifier,
    patient_id: Annotated[str | None, typer.Option()] = None,
    patient_issuer: Annotated[str | None, typer.Option(help="Who gave out the patient's id.")] = None,
    patient_name: Annotated[str | None, typer.Option()] = None,
    birth_date: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD")] = None,
    sex: Annotated[str | None, typer.Option()] = None,
    encounter: Annotated[str | None, typer.Option()] = None,
    accession: Annotated[str | None, typer.Option()] = None,
    study_uid: Annotated[str | None, typer.Option()] = None,
    modality: Annotated[str | None, typer.Option()] = None,
    study_description: Annotated[str | None, typer.Option()] = None,
    referring: Annotated[str | None, typer.Option(help="The referring physician.")] = None,
    erase: Annotated[bool, typer.Option("--erase", help="Forget all of them.")] = False,
) -> None:
    """Say whom and what a recording is about; what is not given stays. Without options, show it."""
    from mediaserver.recording.sidecars import Identifiers

    given = {name: value for name in Identifiers.__struct_fields__ if (value := context.params[name]) is not None}
    if erase and given:
        raise typer.BadParameter("it goes with no other option", param_hint="--erase")

    async def work(archive: Archive) -> Identifiers:
        known = (await archive.added(recording)).identifiers or Identifiers()
        if erase:
            await archive.erase_identifiers(recording)
            return Identifiers()
        if given:
            known = msgspec.structs.replace(known, **given)
            await archive.set_identifiers(recording, known)
        return known

    print_json(with_archive(context, work))


def hold(
    context: typer.Context,
    recording: Identifier,
    reason: Annotated[str, typer.Option(help="Why it must be kept.")],
    by: Annotated[str, typer.Option(help="Who says so; the system's user by default.")] = "",
) -> None:
    """Keep a recording from being disposed of until it is released."""
    who = by or getuser()
    at_us = wall_us()
    with_archive(context, lambda archive: archive.place_hold(recording, reason=reason, by=who, at_us=at_us))


def release(
    context: typer.Context,
    recording: Identifier,
    by: Annotated[str, typer.Option(help="Who says so; the system's user by default.")] = "",
) -> None:
    """Lift all holds of a recording; who placed and lifted them stays on record."""
    who = by or getuser()
    at_us = wall_us()
    count = with_archive(context, lambda archive: archive.lift_hold(recording, by=who, at_us=at_us))
    typer.echo(f"{count} holds lifted")
