"""The command `mediaserver archive`: list, show, export, verify, identify, hold, release, rebuild, rewrap, erase."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, NoReturn, TypeVar

import msgspec
import rich.progress
import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Column, Table

from mediaserver.recording import manifest, views
from mediaserver.recording.keys import PRIVATE, TrustedKeys, read_private
from mediaserver.recording.problem import Verdict
from mediaserver.recording.verify import Report

# The archive brings the database's library with it and the export PyAV: neither is wanted for a help text.
if TYPE_CHECKING:
    from mediaserver.recording.archive import Archive
    from mediaserver.recording.evidence import Evidence
    from mediaserver.recording.export.kinds import Kind
    from mediaserver.recording.storage import LocalStorage
    from mediaserver.recording.upkeep import Progress

app = typer.Typer(help="Find, show, export and verify recordings.", no_args_is_help=True, rich_markup_mode=None)
WIDTH = 160
"""Columns of a table that goes into a file or another program."""
MAX_LIMIT = 100_000
DAY_US = 86_400_000_000

ResultT = TypeVar("ResultT")


class Place(NamedTuple):
    """The server's data folder, where the keys are whose signatures count, the catalog's URL, and where recordings
    lie."""

    data: Path
    keys: Path
    catalog: str
    storage: LocalStorage


class Asked(NamedTuple):
    """What the command line says of the server."""

    config: Path | None
    data: Path | None
    keys: Path | None
    catalog: str

    @property
    def place(self) -> Place:
        try:
            storage, catalog = stores_of(self.config, self.data)
        except BadSettings as error:
            _fail(str(error))
        data = storage.root.parent
        return Place(data, self.keys or data / "keys", self.catalog or catalog, storage)


Identifier = Annotated[str, typer.Argument(metavar="ID", help="The recording, as `list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


class BadSettings(Exception):
    """The settings can't be used; the message says why."""


def _plain_stores(config: Path | None, data: Path | None) -> tuple[LocalStorage, str]:
    from mediaserver.recording.storage import LocalStorage

    return LocalStorage((data or Path("data")) / "archive"), ""


def _no_audit(config: Path | None, data: Path | None, action: Literal["archive-erase"], facts: dict[str, str]) -> None:
    raise BadSettings("there is no audit trail here that this could be written to")


# What only a server's settings can say; `mediaserver.archive_command` puts it here.
stores_of: Callable[[Path | None, Path | None], tuple[LocalStorage, str]] = _plain_stores
write_audit: Callable[[Path | None, Path | None, Literal["archive-erase"], dict[str, str]], None] = _no_audit


@app.callback()
def archive(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="The server's data folder.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The server's TOML file: where its recordings lie, and their keys."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The public keys to trust, in place of those in DIR/keys.")
    ] = None,
    catalog: Annotated[
        str, typer.Option(metavar="URL", envvar="MEDIASERVER_CATALOG_URL", help="The server's `catalog.url`.")
    ] = "",
) -> None:
    """Find, show, export and verify recordings."""
    context.obj = Asked(config, data, keys, catalog)


@app.command("list")
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
        accession=accession, participant=participant, state=state, has_gaps=gaps, on_hold=held,
        from_us=_time(since, "--from"), to_us=_time(until, "--to", to_its_end=True), limit=limit, cursor=cursor,
    )  # fmt: skip
    try:
        found = _with_archive(context, lambda archive: archive.find(query))
    except BadCursor as error:
        raise typer.BadParameter(str(error), param_hint="--cursor") from None
    if as_json:
        _print_json(found)
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


@app.command()
def show(context: typer.Context, recording: Identifier) -> None:
    """Show all that is known of a recording, as JSON."""
    kept = _with_archive(context, lambda archive: archive.get(recording))
    if kept.state == "recording":
        _print_json(views.detail(kept))
    else:
        typer.echo(manifest.encode(kept).decode(), nl=False)


@app.command()
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


@app.command()
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

    given = context.params
    try:
        chosen = options.from_flags(
            {name: given[name] for name in options.Identifiers.__struct_fields__},
            transcode=transcode, h264=h264, voices=voices, drop=drop, masks=mask, deidentify=deidentify, key=key,
            time_source=time_source,
        )  # fmt: skip
        receivers = outbox.receivers(stow, cstore, auth, ca, calling)
        if out is None and not receivers:
            raise ExportError("say where to: --out DIR, --stow URL, --cstore HOST:PORT:AET")
        kept = outbox.Outbox(out, context.obj.place.data, recording)
    except (ExportError, OSError) as error:
        _fail(str(error))
    _export(context, recording, kinds.find("dicom"), chosen, kept.take)
    failures = 0
    for receiver in receivers:
        outcome = send(kept.paths, receiver)
        typer.echo(f"{receiver.name}: {len(outcome.accepted)} objects accepted, {len(outcome.refused)} not")
        for path, text in (*outcome.warnings, *outcome.refused):
            typer.echo(f"{path.name}: {text}", err=True)
        failures += len(outcome.refused)
    if failures:
        _fail(f"all objects are kept in {kept.folder}; the same command sends them again, under the same UIDs")
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
            _with_archive(context, work)
        except ExportError as error:
            _fail(str(error))
    for warning in progress.warnings:
        typer.echo(warning, err=True)


@app.command()
def verify(
    context: typer.Context,
    recording: Annotated[str, typer.Argument(metavar="ID", help="The recording; not with --all.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All recordings, their register, the audit trail.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read every byte of a recording; exits 1 when anything is not as it was recorded."""
    if everything == bool(recording):
        raise typer.BadParameter("give the ID of a recording, or --all")
    if everything:
        _verify_all(context, as_json)
        return
    report = _with_archive(context, lambda archive: archive.verify(recording))
    if as_json:
        _print_json(report)
    else:
        _tell(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def audit(
    context: typer.Context,
    since: Annotated[str, typer.Option(metavar="TIME", help="From this date or time (RFC 3339) on.")] = "",
    recording: Annotated[str, typer.Option(metavar="ID", help="Only what is about this recording.")] = "",
    check: Annotated[bool, typer.Option("--verify", help="Verify the chain and its seals; exits 1 if broken.")] = False,
    fhir: Annotated[
        Literal["ndjson", "bundle"] | None, typer.Option(help="As FHIR R5 AuditEvent: one a line, or one Bundle.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the audit trail, verify it, or give it as FHIR."""
    from mediaserver.recording import audit_command
    from mediaserver.recording.trail import verify_trail

    place: Place = context.obj.place
    try:
        trusted = TrustedKeys.load(place.keys)
        if not check:
            audit_command.print_trail(place.data, trusted, since=since, recording=recording, fhir=fhir, as_json=as_json)
            return
        verdict = verify_trail(place.data, trusted)
    except ValueError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    if as_json:
        _print_json(verdict)
    else:
        _tell_verdict("audit trail", verdict)
    if not verdict.ok:
        raise typer.Exit(1)


@app.command()
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

    _print_json(_with_archive(context, work))


@app.command()
def hold(
    context: typer.Context,
    recording: Identifier,
    reason: Annotated[str, typer.Option(help="Why it must be kept.")],
    by: Annotated[str, typer.Option(help="Who says so; the system's user by default.")] = "",
) -> None:
    """Keep a recording from being disposed of until it is released."""
    who = by or getuser()
    at_us = _wall_us()
    _with_archive(context, lambda archive: archive.place_hold(recording, reason=reason, by=who, at_us=at_us))


@app.command()
def release(
    context: typer.Context,
    recording: Identifier,
    by: Annotated[str, typer.Option(help="Who says so; the system's user by default.")] = "",
) -> None:
    """Lift all holds of a recording; who placed and lifted them stays on record."""
    who = by or getuser()
    at_us = _wall_us()
    count = _with_archive(context, lambda archive: archive.lift_hold(recording, by=who, at_us=at_us))
    typer.echo(f"{count} holds lifted")


@app.command()
def rebuild(context: typer.Context) -> None:
    """Make the catalog anew from the recordings' folders; after an interruption, go on."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.completed} of {task.total} recordings"), BarColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("")

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        place: Place = context.obj.place
        try:
            for name in place.storage.restore_logs(place.data):
                typer.echo(f"the {name} was brought back from the bucket", err=True)
        except OSError as error:
            _fail(str(error))
        count = _with_archive(context, lambda archive: archive.rebuild(show), alone=True)
    typer.echo(f"{count} recordings")


@app.command()
def rewrap(context: typer.Context) -> None:
    """Put the keys of all encrypted recordings under the master key in use."""
    count, failures = _with_archive(context, lambda archive: archive.rewrap())
    typer.echo(f"{count} recordings rewrapped")
    for failure in failures:
        typer.echo(failure, err=True)
    if failures:
        raise typer.Exit(1)


@app.command()
def erase(
    context: typer.Context,
    recording: Identifier,
    reason: Annotated[str, typer.Option(help="Why, for the tombstone and the audit trail.")],
) -> None:
    """Destroy the key of an encrypted recording: nobody can ever play it again. The manifest stays. No server may
    run, for the audit trail has one writer."""
    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")

    async def work(archive: Archive) -> None:
        await archive.get(recording)
        # First the trail: what can't be put on record is not done.
        facts = {"recording": recording, "reason": reason}
        write_audit(context.obj.config, context.obj.data, "archive-erase", facts)
        try:
            await archive.erase(recording, reason, _wall_us())
        except OSError as error:
            write_audit(context.obj.config, context.obj.data, "archive-erase", facts | {"failed": str(error)})
            raise

    _with_archive(context, work, alone=True)
    typer.echo(f"{recording}: erased")


class Everything(msgspec.Struct, frozen=True):
    """What `verify --all` has found."""

    ok: bool
    recordings: list[Report]
    register: Verdict
    audit: Verdict


def _verify_all(context: typer.Context, as_json: bool) -> None:
    from mediaserver.recording.trail import verify_trail

    place: Place = context.obj.place

    async def work(archive: Archive) -> tuple[list[Report], Verdict]:
        reports = []
        async for report in archive.verify_all():
            reports.append(report)
            if not as_json:
                _tell(report)
        return reports, await archive.verify_register()

    reports, register = _with_archive(context, work)
    audit = verify_trail(place.data, TrustedKeys.load(place.keys))
    try:
        elsewhere = place.storage.check_logs(place.data)
    except OSError as error:
        _fail(str(error))
    register, audit = register.joined(elsewhere.get("register")), audit.joined(elsewhere.get("audit"))
    ok = register.ok and audit.ok and all(report.ok for report in reports)
    if as_json:
        _print_json(Everything(ok, reports, register, audit))
    else:
        _tell_verdict("register", register)
        _tell_verdict("audit trail", audit)
    if not ok:
        raise typer.Exit(1)


def _tell(report: Report) -> None:
    """For people: the verdict in one line, or each problem in one."""
    if report.ok:
        by = f", signed by {report.signed_by}" if report.signed_by else ""
        at = f", time-stamped {report.time_stamp}" if report.time_stamp else ""
        opened = f", {report.opened} of them decrypted" if report.opened else ""
        typer.echo(f"{report.recording}: genuine, {report.files} files, {report.bytes} bytes{opened}{by}{at}")
    for problem in report.problems:
        typer.echo(f"{report.recording}: {problem.kind}: {problem.name}: {problem.detail}")
    for note in report.notes:
        typer.echo(f"{report.recording}: note: {note}")


def _tell_verdict(name: str, verdict: Verdict) -> None:
    if verdict.ok:
        typer.echo(f"{name}: genuine, {verdict.entries} entries, sealed up to {verdict.sealed}")
    for problem in verdict.problems:
        typer.echo(f"{name}: {problem.kind}: {problem.name}: {problem.detail}")
    for note in verdict.notes:
        typer.echo(f"{name}: note: {note}")


def _with_archive(
    context: typer.Context, work: Callable[[Archive], Awaitable[ResultT]], alone: bool = False
) -> ResultT:
    """Do `work` on the archive; errors that a user can cause become a sentence and exit code 2.

    Without `alone` a server may own the archive already, or take it meanwhile.
    """
    from mediaserver.recording.archive import Archive, ArchiveInUse, ArchiveUnusable, StillRecording, UnknownRecording
    from mediaserver.recording.catalog import BadCursor, CatalogError

    place: Place = context.obj.place
    storage = place.storage
    folder = storage.root

    async def run() -> ResultT:
        archive = Archive(folder, evidence=_evidence(place), storage=storage, catalog=place.catalog)
        try:
            await archive.open()
            for failure in archive.failures:
                typer.echo(failure, err=True)
            if not alone:
                archive.share()
        except ArchiveInUse:
            if alone:
                raise
            await archive.open_to_read()
        try:
            return await work(archive)
        finally:
            await archive.close()

    if not folder.is_dir():
        _fail(f"there is no archive in {place.data}: give the server's data folder by --data")
    try:
        return asyncio.run(run())
    except ArchiveInUse:
        _fail(f"a server records into {folder}: stop it first, or wait until another command has ended")
    except UnknownRecording as error:
        _fail(str(error.args[0]))
    except CatalogError as error:
        _fail(f"the catalog can't be used: {error}")
    except BadCursor:
        raise
    except (ArchiveUnusable, StillRecording, BadSettings, ValueError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _evidence(place: Place) -> Evidence | None:
    """None where no server with keys has been. Raises OSError and ValueError."""
    from mediaserver.recording.evidence import Evidence
    from mediaserver.recording.register import Register

    trusted, private = TrustedKeys.load(place.keys), place.data / "keys" / PRIVATE
    try:
        signer = read_private(private.read_text(), str(private))
    except (FileNotFoundError, PermissionError):
        return Evidence(trusted) if trusted.ids else None
    register = Register(place.storage, signer, _wall_us)
    return Evidence(trusted, signer, register, _wall_us)


def _wall_us() -> int:
    return time.time_ns() // 1000


def _time(text: str, option: str, *, to_its_end: bool = False) -> int | None:
    try:
        if not text:
            return None
        return views.from_iso(text) + (DAY_US - 1 if to_its_end and len(text) == len("2026-01-31") else 0)
    except ValueError:
        raise typer.BadParameter(f"a date or a time after RFC 3339, not {text!r}", param_hint=option) from None


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(2)


def _print_json(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
