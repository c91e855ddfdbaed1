"""What a recording can be exported as, in one table.

    kind = KINDS["zip"]
    export(kind, folder, manifest, Path("out.zip"), kind.options(), Progress(tell=print))

An export blocks its thread, and writes nothing but `out`: what is left of it after an error or a stop is the caller's
to remove. The libraries behind a kind are loaded when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mediaserver.recording.export.dicom.options import DicomOptions
from mediaserver.recording.export.progress import ExportError, Progress
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.storage import LocalStorage

if TYPE_CHECKING:
    from mediaserver.recording.export.media import Files


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There is nothing to choose."""


class Mp4Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    transcode: bool = False
    """What MP4 can't hold becomes H.264; without it that is an error."""


Run = Callable[[Path, Manifest, Path, Any, Progress, "Files"], None]


class Kind(NamedTuple):
    """`options` is the type of what can be chosen; msgspec makes one from JSON. `run` is for `export` to call."""

    name: str
    title: str
    suffix: str
    """The ending of the file's name; empty where the export is a folder."""
    content_type: str
    options: type[msgspec.Struct]
    run: Run


def export(
    kind: Kind, folder: Path, manifest: Manifest, out: Path, options: msgspec.Struct | None = None,
    progress: Progress | None = None, storage: Files | None = None,
) -> None:  # fmt: skip
    """Export the closed recording in `folder` to `out`, a file or (for a kind without suffix) a folder that is there.
    `storage` is where its files lie and what knows its key; without one they are in `folder`, in the clear.

    Raises `ExportError`, `ExportCancelled` and OSError.
    """
    chosen = kind.options() if options is None else options
    if not isinstance(chosen, kind.options):
        raise TypeError(f"{kind.name} takes {kind.options.__name__}, not {type(chosen).__name__}")
    progress = progress or Progress()
    progress(0)
    kind.run(folder, manifest, out, chosen, progress, storage or LocalStorage(folder))
    progress(1)


def check(kind: Kind, manifest: Manifest, options: msgspec.Struct) -> None:
    """Raises `ExportError` for what can be told before anything is read."""
    if kind.name in ("mkv", "mp4"):
        from mediaserver.recording.export import join

        join.check(manifest, kind.name, isinstance(options, Mp4Options) and options.transcode)  # type: ignore[arg-type]


def find(name: str) -> Kind:
    """Raises `ExportError`."""
    try:
        return KINDS[name]
    except KeyError:
        raise ExportError(f"there is no export {name}: choose {', '.join(KINDS)}") from None


def _mkv(folder: Path, manifest: Manifest, out: Path, options: NoOptions, progress: Progress, storage: Files) -> None:
    from mediaserver.recording.export import media
    from mediaserver.recording.export.join import join

    join(folder, manifest, out, "mkv", progress, source=storage)
    progress.warnings += media.left_out(manifest.tracks)


def _mp4(folder: Path, manifest: Manifest, out: Path, options: Mp4Options, progress: Progress, storage: Files) -> None:
    from mediaserver.recording.export import media
    from mediaserver.recording.export.join import join

    join(folder, manifest, out, "mp4", progress, options.transcode, storage)
    progress.warnings += media.left_out(manifest.tracks)


def _zip(folder: Path, manifest: Manifest, out: Path, options: NoOptions, progress: Progress, storage: Files) -> None:
    from mediaserver.recording.export import media
    from mediaserver.recording.export.bundle import bundle

    with out.open("wb") as stream:
        altered = bundle(folder, manifest, stream, progress, storage)
    _warn(progress, altered)
    progress.warnings += [f"{words}: Wireshark and rtptools read it" for words in media.unplayable(manifest.tracks)]


def _dicom(
    folder: Path, manifest: Manifest, out: Path, options: DicomOptions, progress: Progress, storage: Files
) -> None:
    try:
        from mediaserver.recording.export.dicom.study import export_study
    except ImportError as error:
        raise ExportError(f"DICOM needs more packages ({error.name}): pip install 'mediaserver[dicom]'") from error

    export_study(folder, manifest, out, options, progress, storage)


def _warn(progress: Progress, altered: Sequence[str]) -> None:
    for name in altered:
        progress.warnings.append(f"{name} is not as it was recorded: its SHA-256 is not that of the manifest")


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("mkv", "all tracks in one MKV, as they were sent", ".mkv", "video/x-matroska", NoOptions, _mkv),
        Kind("mp4", "all tracks in one MP4, as they were sent", ".mp4", "video/mp4", Mp4Options, _mp4),
        Kind("zip", "all its files, with a page that verifies them", ".zip", "application/zip", NoOptions, _zip),
        Kind("dicom", "a DICOM study, a series for each track", "", "application/dicom", DicomOptions, _dicom),
    )
}
