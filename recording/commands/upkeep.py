"""`archive rebuild`, `archive rewrap` and `archive erase`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from mediaserver.recording.commands import common
from mediaserver.recording.commands.common import Identifier, Place, fail, wall_us, with_archive

if TYPE_CHECKING:
    from mediaserver.recording.archive import Archive
    from mediaserver.recording.upkeep import Progress


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
            fail(str(error))
        count = with_archive(context, lambda archive: archive.rebuild(show), alone=True)
    typer.echo(f"{count} recordings")


def rewrap(context: typer.Context) -> None:
    """Put the keys of all encrypted recordings under the master key in use."""
    count, failures = with_archive(context, lambda archive: archive.rewrap())
    typer.echo(f"{count} recordings rewrapped")
    for failure in failures:
        typer.echo(failure, err=True)
    if failures:
        raise typer.Exit(1)


def erase(
    context: typer.Context,
    recording: Identifier,
    reason: Annotated[str, typer.Option(help="Why, for the tombstone and the audit trail.")],
) -> None:
    """Destroy the key of an encrypted recording: nobody can ever play it again. The manifest stays. No server may
    run, for the audit trail has one writer."""
    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")

    from mediaserver.recording.archive import Held

    async def work(archive: Archive) -> None:
        await archive.get(recording)
        # First the trail: what can't be put on record is not done.
        facts = {"recording": recording, "reason": reason}
        common.write_audit(context.obj.config, context.obj.data, "archive-erase", facts)
        try:
            await archive.erase(recording, reason, wall_us())
        except (Held, OSError) as error:
            common.write_audit(context.obj.config, context.obj.data, "archive-erase", facts | {"failed": str(error)})
            raise

    with_archive(context, work, alone=True)
    typer.echo(f"{recording}: erased")
