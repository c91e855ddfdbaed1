"""`archive retention`, `archive retain`, `archive dispose` and `archive glass`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from getpass import getuser
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from mediaserver.recording.commands import common
from mediaserver.recording.commands.common import DAY_US, AsJson, Identifier, fail, print_json, wall_us, with_archive
from mediaserver.recording.views import iso

if TYPE_CHECKING:
    from mediaserver.recording.archive import Archive
    from mediaserver.recording.disposal import Case, ClassView, DisposalReport

WIDTH = 160
By = Annotated[str, typer.Option(help="Who says so; the system's user by default.")]


def retention(
    context: typer.Context,
    within: Annotated[float, typer.Option(metavar="DAYS", min=0, help="Also what is due in so many days.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Show the classes of retention, and which recordings are over their time."""

    async def work(archive: Archive) -> tuple[list[ClassView], list[Case]]:
        at_us = wall_us() + round(within * DAY_US)
        return await archive.disposals.classes(), await archive.disposals.due(at_us)

    classes, due = with_archive(context, work)
    if as_json:
        print_json({"classes": classes, "due": due})
        return
    table = Table("class", "days", "at its end", "recordings")
    for one in classes:
        days = f"{one.days:g}" if one.days >= 0 else ""
        table.add_row(one.name or "(none)", days, one.at_end, str(one.recordings))
    _print(table)
    _show(due)


def retain(
    context: typer.Context,
    recording: Identifier,
    into: Annotated[str, typer.Option("--class", metavar="NAME", help="The class of retention.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")],
    by: By = "",
) -> None:
    """Put a recording into another class of retention. No server may run, for the audit trail has one writer."""
    who = by or getuser()

    async def work(archive: Archive) -> str:
        await archive.get(recording)
        archive.disposals.policy.need(into)
        facts = {"recording": recording, "by": who, "class": into, "reason": reason}
        common.write_audit(context.obj.config, context.obj.data, "archive-retention", facts)
        return await archive.set_retention(recording, into=into, by=who, reason=reason, at_us=wall_us())

    before = with_archive(context, work, alone=True)
    typer.echo(f"{recording}: {into}, before: {before or 'none'}")


def dispose(
    context: typer.Context,
    recordings: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Only these; else all that are due.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the audit trail; the class by default.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Dispose of what is over its time by its class of retention, and of nothing that is held or locked.

    What is to be reviewed goes only when it is named. No server may run, but for --dry-run.
    """
    who = by or getuser()

    def tell(recording: str, facts: Mapping[str, str]) -> None:
        config, data = context.obj.config, context.obj.data
        common.write_audit(config, data, "archive-delete", {"recording": recording} | dict(facts))

    async def work(archive: Archive) -> DisposalReport:
        words = reason or "its time by the class of retention is over"
        return await archive.disposals.run(
            by=who, reason=words, now_us=wall_us(), only=recordings or (), dry_run=dry_run, tell=tell
        )

    report = with_archive(context, work, alone=not dry_run)
    if as_json:
        print_json(report)
    else:
        _show(report.cases)
        counts = ", ".join(f"{count} {state}" for state, count in sorted(report.counts.items()))
        what = "would be freed" if dry_run else "freed"
        typer.echo(f"{counts or 'nothing is due'}; {report.bytes / 1e6:.1f} MB {what}")
    if report.counts.get("failed"):
        fail("not all of it could be done; the same command goes on")


def glass(
    context: typer.Context,
    review: Annotated[str, typer.Option(metavar="OPENING", help="Say that this one was looked into.")] = "",
    note: Annotated[str, typer.Option(help="What the review has found.")] = "",
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Show who opened a recording by breaking the glass, and who has looked into it, the newest first.

    To review one no server may run: it is done on its page.
    """
    from mediaserver.recording.openings import NAME, Reviewed, append, fold

    path = context.obj.place.data / NAME
    try:
        found = {one.opened.id: one for one in fold(path)}
        if review:
            one, who = found.get(review), by or getuser()
            if refusal := one.refusal(who) if one else f"there is no opening {review}":
                fail(refusal)
            reviewed = Reviewed(id=review, by=who, note=note, at_us=wall_us())

            async def work(archive: Archive) -> None:
                facts = {"opening": review, "by": who} | ({"note": note} if note else {})
                common.write_audit(context.obj.config, context.obj.data, "break-glass-reviewed", facts)
                append(path, reviewed)

            with_archive(context, work, alone=True)
            found = {one.opened.id: one for one in fold(path)}
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    openings = sorted(found.values(), key=lambda one: one.opened.at_us, reverse=True)
    if as_json:
        print_json([{"opened": one.opened, "alerted": one.alerted, "reviewed": one.reviewed} for one in openings])
        return
    table = Table(
        Column("opening", no_wrap=True), Column("recording", no_wrap=True), "opened", "who", "why", "reviewed"
    )
    for one in openings:
        opened = one.opened
        said = f"{one.reviewed.by}, {iso(one.reviewed.at_us)}: {one.reviewed.note}" if one.reviewed else ""
        who = f"{opened.who} ({opened.role})"
        table.add_row(opened.id, opened.recording, iso(opened.at_us), who, opened.reason, said)
    _print(table)


def _show(cases: Sequence[Case]) -> None:
    if not cases:
        return
    table = Table(Column("id", no_wrap=True), "room", "ended", "class", "due", "state", "MB", "why")
    for case in cases:
        size = f"{case.bytes / 1e6:.1f}"
        table.add_row(case.recording, case.room, case.ended, case.retention, case.due, case.state, size, case.reason)
    _print(table)


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)
