"""What the archive can be asked over HTTP: each operation with the types of its query, its body and its answer."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mediaserver.archive_timeline import Timeline
from mediaserver.openapi import RANGED, Operation
from mediaserver.recording.export.jobs import ExportView
from mediaserver.recording.export.join import Format
from mediaserver.recording.sidecars import Identifiers
from mediaserver.recording.stills import LEAST, MOST
from mediaserver.recording.verify import Report
from mediaserver.recording.views import RecordingDetail, RecordingList

MAX_LIMIT = 500
MAX_TEXT = 200
MAX_TIME_MS = 7 * 86_400_000

Text = Annotated[str, Meta(max_length=MAX_TEXT)]


def _says(text: str, **limits: Any) -> Meta:
    return Meta(description=text, **limits)


class SearchQuery(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """What to look for; all that is given must match."""

    room: Annotated[Text, _says("The room's name.")] = ""
    source: Annotated[Text, _says("A source that was recorded, such as ultrasound.")] = ""
    from_: Annotated[Text, _says("Recordings that go on after this date or time (RFC 3339; without a zone: UTC).")] = ""
    to: Annotated[Text, _says("Recordings that have begun by this date or time.")] = ""
    text: Annotated[Text, _says("Beginnings of words in the room, the id, labels, names or identifiers.")] = ""
    state: Annotated[Text, _says("recording, complete or recovered.")] = ""
    patient: Annotated[Text, _says("The patient's id.")] = ""
    name: Annotated[Text, _says("Beginnings of words in the patient's name.")] = ""
    encounter: Annotated[Text, _says("The encounter.")] = ""
    accession: Annotated[Text, _says("The accession number.")] = ""
    participant: Annotated[Text, _says("Beginnings of words in a participant's name.")] = ""
    gaps: Annotated[bool | None, _says("Only with gaps, or only without.")] = None
    held: Annotated[bool | None, _says("Only on hold, or only those that are not.")] = None
    limit: Annotated[int, _says("Recordings of one answer.", ge=0, le=MAX_LIMIT)] = 50
    offset: Annotated[int, _says("How many to leave out.", ge=0, le=1 << 31)] = 0
    cursor: Annotated[Text, _says("The cursor of the page before; quicker than an offset.")] = ""


class MediaQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which file of a track."""

    segment: Annotated[int, _says("The file's number, from 0.", ge=0, le=1 << 31)] = 0


class ThumbnailQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which picture of a track."""

    at: Annotated[int, _says("ms from the recording's beginning.", ge=0, le=MAX_TIME_MS)] = 0
    width: Annotated[int, _says("Pixels; a smaller source is not enlarged.", ge=LEAST, le=MOST)] = 320


class ExportQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How to export."""

    format: Annotated[Format, _says("The container: mkv takes every codec, mp4 all but VP8.")] = "mkv"


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`kind`: mkv takes every codec, mp4 all but VP8."""

    kind: Format = "mkv"


class ExportList(msgspec.Struct, frozen=True):
    """The exports of a recording that are there, the newest first."""

    exports: list[ExportView]


EVERY = "/api/archive/recordings"
ONE = f"{EVERY}/{{recording}}"
TRACK = f"{ONE}/tracks/{{track}}"
EXPORTS = f"{ONE}/exports"
EXPORT = f"{EXPORTS}/{{export}}"

RANGES = {
    "Range": "One range of bytes; of several all of the file is sent.",
    "If-Range": "The ETag of the bytes that the client has.",
    "If-None-Match": "ETags of what the client has.",
    "If-Match": "ETags of which one must be the file's.",
}
_TAG = "archive"

ARCHIVE: tuple[Operation, ...] = (
    Operation(
        method="GET", path=EVERY, name="listRecordings", tag=_TAG, query=SearchQuery,
        summary="Search, the newest first; what goes on now comes before.",
        answers={200: ("A page of what matches.", RecordingList)}, refusals=(400, 503),
    ),
    Operation(
        method="GET", path=ONE, name="showRecording", tag=_TAG,
        summary="One recording with its tracks, files, gaps, participants and notes.",
        answers={200: ("The recording.", RecordingDetail)}, refusals=(404,),
    ),
    Operation(
        method="GET", path=f"{ONE}/manifest", name="showManifest", tag=_TAG,
        summary="The manifest byte for byte, whose digest is the ETag.",
        answers={200: ("The manifest (docs/recording.md).", "application/json")}, refusals=(404,),
    ),
    Operation(
        method="GET", path=f"{ONE}/timeline.json", name="showTimeline", tag=_TAG,
        summary="All files, gaps, floor breaches and stale spells on the recording's own time.",
        answers={200: ("The timeline.", Timeline)}, refusals=(404,),
    ),
    Operation(
        method="GET", path=f"{ONE}/report", name="showReport", tag=_TAG,
        summary="The report of the recording's session.",
        answers={200: ("The report (docs/priority.md).", "application/json")}, refusals=(404,),
    ),
    Operation(
        method="GET", path=f"{ONE}/identifiers", name="showIdentifiers", tag=_TAG,
        summary="Whom and what the recording is about.",
        answers={200: ("What is known.", Identifiers)}, refusals=(404,),
    ),
    Operation(
        method="PUT", path=f"{ONE}/identifiers", name="setIdentifiers", tag=_TAG, body=Identifiers,
        summary="Say whom and what the recording is about, in the place of what was said; while it goes on, too.",
        answers={204: ("It is kept.", None)}, refusals=(400, 404, 413, 507),
    ),
    Operation(
        method="DELETE", path=f"{ONE}/identifiers", name="eraseIdentifiers", tag=_TAG,
        summary="Forget whom and what the recording is about; for archivists and operators.",
        answers={204: ("It is forgotten.", None)}, refusals=(404, 507),
    ),
    Operation(
        method="GET", path=f"{TRACK}/media", name="getMedia", tag=_TAG, query=MediaQuery, headers=RANGES,
        summary="A file of a track, by ranges, with its SHA-256 as a strong ETag.",
        answers={200: ("All of the file.", "video/mp4, video/webm, audio/mp4"), **RANGED}, refusals=(400, 404, 409),
    ),
    Operation(
        method="GET", path=f"{TRACK}/thumbnail", name="getThumbnail", tag=_TAG, query=ThumbnailQuery,
        summary="The keyframe at or before a moment of a track of pictures.",
        answers={200: ("The picture.", "image/jpeg"), 304: ("The client has it.", None)},
        refusals=(400, 404, 409, 503),
    ),
    Operation(
        method="GET", path=f"{ONE}/verify", name="verify", tag=_TAG,
        summary="Read every byte and compare it with the manifest.",
        answers={200: ("What was found.", Report)}, refusals=(404, 409),
    ),
    Operation(
        method="POST", path=f"{ONE}/verify", name="verifyNow", tag=_TAG,
        summary="The same; for clients that keep answers to GET.",
        answers={200: ("What was found.", Report)}, refusals=(404, 409),
    ),
    Operation(
        method="GET", path=f"{ONE}/export", name="export", tag=_TAG, query=ExportQuery,
        summary="One file with all tracks, sent as soon as it is made. For long recordings begin a job instead.",
        answers={200: ("The file.", "video/x-matroska, video/mp4")}, refusals=(400, 404, 409, 422),
    ),
    Operation(
        method="POST", path=EXPORTS, name="beginExport", tag=_TAG, body=ExportRequest,
        summary="Begin an export; Location tells where it can be followed.",
        answers={202: ("It has begun.", ExportView)}, refusals=(400, 404, 409, 413, 422, 429, 507),
    ),
    Operation(
        method="GET", path=EXPORTS, name="listExports", tag=_TAG,
        summary="The exports of a recording that are there.",
        answers={200: ("The exports.", ExportList)}, refusals=(404,),
    ),
    Operation(
        method="GET", path=EXPORT, name="showExport", tag=_TAG,
        summary="How an export stands.",
        answers={200: ("The export.", ExportView)}, refusals=(404,),
    ),
    Operation(
        method="GET", path=f"{EXPORT}/result", name="getExport", tag=_TAG, headers=RANGES,
        summary="The file of an export, by ranges, with its SHA-256 as a strong ETag.",
        answers={200: ("All of the file.", "video/x-matroska, video/mp4"), **RANGED}, refusals=(404, 409),
    ),
    Operation(
        method="DELETE", path=EXPORT, name="removeExport", tag=_TAG,
        summary="Stop an export and remove its result.",
        answers={204: ("It has gone.", None)}, refusals=(404,),
    ),
)  # fmt: skip
