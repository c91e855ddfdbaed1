"""What can be chosen of a DICOM export."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Literal

import msgspec

from mediaserver.recording.export.progress import ExportError
from mediaserver.recording.sidecars import Identifiers, read_identifiers

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

_MASK = re.compile(r"(?:([a-z]+):)?(\d+),(\d+),([1-9]\d*),([1-9]\d*)")


_LONGEST = {
    "patient_id": 64, "patient_issuer": 64, "patient_name": 64, "encounter": 64, "accession": 16, "study_uid": 64,
    "study_description": 64, "referring": 64,
}  # fmt: skip
_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+")


def check(identifiers: Identifiers) -> None:
    """Raises `ExportError` for what DICOM has no form for."""
    for name, longest in _LONGEST.items():
        text = getattr(identifiers, name)
        if len(text) > longest or "\\" in text or not text.isprintable():
            raise ExportError(f"{name} has more than {longest} characters, or one that DICOM can't hold: {text!r}")
    if identifiers.birth_date:
        try:
            date.fromisoformat(identifiers.birth_date)
        except ValueError:
            raise ExportError(f"birth_date is YYYY-MM-DD, not {identifiers.birth_date!r}") from None
    if identifiers.sex not in ("", "M", "F", "O"):
        raise ExportError(f"sex is M, F or O, not {identifiers.sex!r}")
    if identifiers.study_uid and not _UID.fullmatch(identifiers.study_uid):
        raise ExportError(f"study_uid is no UID: {identifiers.study_uid!r}")


def beside(folder: Path, read: Callable[[Path], bytes] = Path.read_bytes) -> Identifiers:
    """Those that lie with the recording, where there are any. Raises `ExportError`."""
    try:
        return read_identifiers(folder, read)
    except (OSError, ValueError) as error:
        raise ExportError(str(error)) from error


class BoxMask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A box of pixels to paint over in what comes from `source`, or in all pictures where that is empty."""

    x: int
    y: int
    width: int
    height: int
    source: str = ""


class DicomOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing is transcoded and nothing is left out unless it says so here."""

    identifiers: Identifiers = Identifiers()
    """What is left open here is taken from the recording's identifiers.json. Names are as DICOM writes them,
    family^given; the encounter becomes the Admission ID, and without a study UID one is derived from the recording's
    id."""
    transcode: bool = False
    """What DICOM has no place for is transcoded: VP8, VP9 and AV1 to H.264, voices to AAC."""
    h264: Literal["", "relabel", "transcode", "refuse"] = ""
    """What becomes of H.264 below the High profile. Empty: transcode where `transcode` is given, refuse elsewhere."""
    voices: Literal["camera", "waveform"] = "camera"
    """Mixed into the camera's pictures as AAC, or each a waveform of its own."""
    drop: tuple[str, ...] = ()
    """Sources to leave out."""
    masks: tuple[BoxMask, ...] = ()
    deidentify: bool = False
    key: str = ""
    """The secret that pseudonyms come from: the same one gives the same again. Empty: a new one for each export."""
    time_source: Literal["", "NTP", "SNTP", "PTP", "GPS"] = ""
    """How the server's clock was kept right; empty says nothing, and the objects say that it was not."""

    def masks_of(self, source: str) -> list[Box]:
        return [(box.x, box.y, box.width, box.height) for box in self.masks if box.source in ("", source)]

    @property
    def below_high(self) -> Literal["relabel", "transcode", "refuse"]:
        return self.h264 or ("transcode" if self.transcode else "refuse")


def read_mask(text: str) -> BoxMask:
    """`x,y,width,height` or `source:x,y,width,height`, in pixels. Raises `ExportError`."""
    found = _MASK.fullmatch(text)
    if found is None:
        raise ExportError(f"a mask is x,y,width,height or source:x,y,width,height in pixels, not {text!r}")
    x, y, width, height = (int(number) for number in found.groups()[1:])
    return BoxMask(x, y, width, height, found[1] or "")


def from_flags(
    identifiers: dict[str, str], *, transcode: bool, h264: str, voices: str, drop: str, masks: list[str],
    deidentify: bool, key: Path | None, time_source: str,
) -> DicomOptions:  # fmt: skip
    """As a command line gives them. Raises `ExportError` and OSError."""
    given = {
        "identifiers": identifiers, "transcode": transcode, "h264": h264, "voices": voices,
        "drop": [name for name in drop.split(",") if name], "masks": [read_mask(text) for text in masks],
        "deidentify": deidentify, "key": key.read_text().strip() if key else "", "time_source": time_source.upper(),
    }  # fmt: skip
    if key and not given["key"]:
        raise ExportError(f"{key} is empty: put a long secret into it")
    if key and not deidentify:
        raise ExportError("--key is for --deidentify")
    try:
        return msgspec.convert(msgspec.to_builtins(given), DicomOptions)
    except msgspec.ValidationError as error:
        raise ExportError(f"these options don't fit: {error}") from error
