"""Where objects lie until every PACS has them."""

from __future__ import annotations

import shutil
from pathlib import Path

from mediaserver.recording.export.dicom.send import Receiver
from mediaserver.recording.export.progress import ExportError
from mediaserver.recording.settings import DICOM_OUTBOX


class Outbox:
    """A folder that keeps objects: one that was named, or one of the recording's below the server's data folder."""

    def __init__(self, out: Path | None, data: Path, recording: str) -> None:
        """Raises `ExportError`."""
        if out is not None and not out.is_dir() and not out.parent.is_dir():
            raise ExportError(f"there is no folder {out.parent}")
        self.folder = out or data / DICOM_OUTBOX / Path(recording).name
        self._is_ours = out is None
        self.paths: list[Path] = []
        """The objects that came last."""

    def take(self, made: Path) -> None:
        """Move the objects of an export here, over those of the same names. Raises OSError."""
        if self._is_ours:
            # Those of an earlier try are made anew, or its choices were others.
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=self._is_ours, exist_ok=True)
        self.paths = [Path(shutil.move(path, self.folder / path.name)) for path in sorted(made.glob("*.dcm"))]

    def close(self) -> None:
        """All of them were accepted: what nobody asked to keep goes."""
        if self._is_ours:
            shutil.rmtree(self.folder)


def receivers(stow: str, cstore: str, auth: Path | None, ca: Path | None, calling: str) -> list[Receiver]:
    """Those that are named. Raises `ExportError` and OSError."""
    try:
        from mediaserver.recording.export.dicom.cstore import CStoreReceiver
        from mediaserver.recording.export.dicom.stow import StowReceiver
    except ImportError as error:
        raise ExportError(f"DICOM needs more packages ({error.name}): pip install 'mediaserver[dicom]'") from error
    found: list[Receiver] = []
    if stow:
        found.append(StowReceiver(stow, auth.read_text().strip() if auth else "", ca))
    if cstore:
        found.append(CStoreReceiver.parse(cstore, calling, ca))
    return found
