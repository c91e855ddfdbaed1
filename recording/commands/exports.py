"""`archive export` and `archive dicom`."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import rich.progress
import typer
from rich.console import Console

from mediaserver.recording.commands.common import Identifier, fail, with_archive

# The export brings PyAV with it, which is not wanted for a help text.
if TYPE_CHECKING:
    from mediaserver.recording.archive import Archive
    from mediaserver.recording.export.kinds import Kind


def export(
    context: typer.Context,
    recording: Identifier,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to; its ending says what, where --format does not.")],
    container: Annotated[str, typer.Option("--format", metavar="mkv|mp4|zip", help="What to write.")] = "",
    transcode: Annotated[bool, typer.Option("--transcode", help="Make H.264 of what MP4 can't hold.")] = False,
) -> None:
    """Write a recording as one file: all tracks in sync (MKV, MP4), or a zip that verifies itself.

    Nothing is transcoded without --transcode.
    """
    from mediaserver.recording.export import kinds

    name = container or out.suffix.lower().removeprefix(".")
    kind = kinds.KINDS.get(name)
    if kind is None or not kind.suffix:
        choices = ", ".join(kind.suffix for kind in kinds.KINDS.values() if kind.suffix)
        raise typer.BadParameter(f"name a file that ends in one of {choices}, or give --format", param_hint="--out")
    if transcode and kind.options is not kinds.Mp4Options:
        raise typer.BadParameter(f"{name} takes everything as it is", param_hint="--transcode")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {out.parent}", param_hint="--out")
    options = kinds.Mp4Options(transcode=transcode) if kind.options is kinds.Mp4Options else None
    _export(context, recording, kind, options, lambda made: shutil.move(made, out))
    typer.echo(str(out))


def dicom(
    context: typer.Context,
    recording: Identifier,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the objects as files here.")] = None,
    stow: Annotated[str, typer.Option(metavar="URL", help="Store them by STOW-RS; /studies follows this.")] = "",
    cstore: Annotated[str, typer.Option(metavar="HOST:PORT:AET", help="Store them by C-STORE.")] = "",
    auth: Annotated[Path | None, typer.Option(metavar="FILE", help="Holds the Authorization header's value.")] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificates to trust instead of the system's.")
    ] = None,
    calling: Annotated[str, typer.Option(metavar="AET", help="Our own AE title.")] = "MEDIASERVER",
    patient_id: Annotated[str, typer.Option(help="The patient's id.")] = "",
    patient_issuer: Annotated[str, typer.Option(help="Who gave it out.")] = "",
    patient_name: Annotated[str, typer.Option(metavar="FAMILY^GIVEN", help="The patient's name.")] = "",
    birth_date: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="The patient's date of birth.")] = "",
    sex: Annotated[str, typer.Option(metavar="M|F|O", help="The patient's sex.")] = "",
    encounter: Annotated[str, typer.Option(help="The visit's number.")] = "",
    accession: Annotated[str, typer.Option(help="The accession number.")] = "",
    study_uid: Annotated[str, typer.Option(metavar="UID", help="The Study Instance UID of the order.")] = "",
    study_description: Annotated[str, typer.Option(help="What the study is.")] = "",
    referring: Annotated[str, typer.Option(metavar="FAMILY^GIVEN", help="The referring physician.")] = "",
    transcode: Annotated[bool, typer.Option("--transcode", help="Transcode what DICOM has no place for.")] = False,
    h264: Annotated[str, typer.Option(metavar="relabel|transcode|refuse", help="H.264 below the High profile.")] = "",
    voices: Annotated[str, typer.Option(metavar="camera|waveform", help="Where voices go.")] = "camera",
    drop: Annotated[str, typer.Option(metavar="SOURCE,...", help="Leave these sources out.")] = "",
    mask: Annotated[list[str], typer.Option(metavar="[SOURCE:]X,Y,W,H", help="Paint over; repeatable.")] = [],  # noqa: B006
    deidentify: Annotated[bool, typer.Option("--deidentify", help="Take the person out of the attributes.")] = False,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The secret for the same pseudonyms again.")] = None,
    time_source: Annotated[str, typer.Option(metavar="NTP|SNTP|PTP|GPS", help="What kept the server's clock.")] = "",
) -> None:
    """Write a recording as a DICOM study, and store it in a PACS.

    What a PACS does not accept stays as files. See docs/dicom.md.
    """
    from mediaserver.recording.export import kinds
    from mediaserver.recording.export.dicom import options, outbox
    from mediaserver.recording.export.dicom.send import send
    from mediaserver.recording.export.progress import ExportError
    from mediaserver.recording.sidecars import Identifiers

    given = context.params
    try:
        chosen = options.from_flags(
            {name: given[name] for name in Identifiers.__struct_fields__ if name in given},
            transcode=transcode, h264=h264, voices=voices, drop=drop, masks=mask, deidentify=deidentify, key=key,
            time_source=time_source,
        )  # fmt: skip
        receivers = outbox.receivers(stow, cstore, auth, ca, calling)
        if out is None and not receivers:
            raise ExportError("say where to: --out DIR, --stow URL, --cstore HOST:PORT:AET")
        kept = outbox.Outbox(out, context.obj.place.data, recording)
    except (ExportError, OSError) as error:
        fail(str(error))
    _export(context, recording, kinds.find("dicom"), chosen, kept.take)
    failures = 0
    for receiver in receivers:
        outcome = send(kept.paths, receiver)
        typer.echo(f"{receiver.name}: {len(outcome.accepted)} objects accepted, {len(outcome.refused)} not")
        for path, text in (*outcome.warnings, *outcome.refused):
            typer.echo(f"{path.name}: {text}", err=True)
        failures += len(outcome.refused)
    if failures:
        fail(f"all objects are kept in {kept.folder}; the same command sends them again, under the same UIDs")
    kept.close()
    if out is not None:
        typer.echo(str(out))


def _export(
    context: typer.Context, recording: str, kind: Kind, options: msgspec.Struct | None, take: Callable[[Path], object]
) -> None:
    """Exported, then given to `take`, which moves it away; shows how far it is where somebody watches."""
    from mediaserver.recording.export.progress import ExportError, Progress

    with rich.progress.Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as shown:
        bar = shown.add_task(kind.name, total=1.0)
        progress = Progress(lambda share: shown.update(bar, completed=share))

        async def work(archive: Archive) -> None:
            async with archive.export(recording, kind.name, options, progress) as path:
                await asyncio.to_thread(take, path)

        try:
            with_archive(context, work)
        except ExportError as error:
            fail(str(error))
    for warning in progress.warnings:
        typer.echo(warning, err=True)
