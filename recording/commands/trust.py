"""`archive verify` and `archive audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from mediaserver.recording.commands.common import AsJson, Place, fail, print_json, with_archive
from mediaserver.recording.keys import TrustedKeys
from mediaserver.recording.problem import Verdict
from mediaserver.recording.verify import Report

if TYPE_CHECKING:
    from mediaserver.recording.archive import Archive


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
    report = with_archive(context, lambda archive: archive.verify(recording))
    if as_json:
        print_json(report)
    else:
        _tell(report)
    if not report.ok:
        raise typer.Exit(1)


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
    from mediaserver.recording.commands import audit_lines
    from mediaserver.recording.trail import verify_trail

    place: Place = context.obj.place
    try:
        trusted = TrustedKeys.load(place.keys)
        if not check:
            audit_lines.print_trail(place.data, trusted, since=since, recording=recording, fhir=fhir, as_json=as_json)
            return
        verdict = verify_trail(place.data, trusted)
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    if as_json:
        print_json(verdict)
    else:
        _tell_verdict("audit trail", verdict)
    if not verdict.ok:
        raise typer.Exit(1)


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

    reports, register = with_archive(context, work)
    audit = verify_trail(place.data, TrustedKeys.load(place.keys))
    try:
        elsewhere = place.storage.check_logs(place.data)
    except OSError as error:
        fail(str(error))
    register, audit = register.joined(elsewhere.get("register")), audit.joined(elsewhere.get("audit"))
    ok = register.ok and audit.ok and all(report.ok for report in reports)
    if as_json:
        print_json(Everything(ok, reports, register, audit))
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
