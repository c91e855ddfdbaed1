"""What the archive can be asked over HTTP: each operation with the types of its query, its body and its answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mediaserver.desk.timeline import BookmarkView, Timeline
from mediaserver.http.openapi import RANGED, Operation
from mediaserver.recording.export.jobs import ExportView, JobKind
from mediaserver.recording.export.join import Format
from mediaserver.recording.sidecars import LONGEST, Identifiers
from mediaserver.recording.stills import LEAST, MOST
from mediaserver.recording.verify import Report
from mediaserver.recording.views import RecordingDetail, RecordingList

Action = Literal[
    "list", "show", "play", "verify", "export", "follow", "fetch", "discard", "look", "identify", "erase", "bookmark",
    "unmark", "hold", "lift", "review", "due", "retain", "dispose", "destroy", "break", "broken",
]  # fmt: skip
"""What somebody does to a recording, as rights and the audit trail tell it: follow, fetch and discard an export; look
at what was added; review who has looked; see what is due; retain by another class; dispose; destroy the key; break the
glass; review who has."""

MAX_LIMIT = 500
MAX_TEXT = 200
MAX_TIME_MS = 7 * 86_400_000

Line = Annotated[str, Meta(max_length=LONGEST)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]


def _says(text: str, **limits: Any) -> Meta:
    return Meta(description=text, **limits)


class SearchQuery(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """What to look for; all that is given must match."""

    room: Annotated[Text, _says("The room's name.")] = ""
    source: Annotated[Text, _says("A source that was recorded, such as ultrasound.")] = ""
    from_: Annotated[Text, _says("Recordings that go on after this date or time (RFC 3339; without a zone: UTC).")] = ""
    to: Annotated[Text, _says("Recordings that have begun by this date or time.")] = ""
    text: Annotated[
        Text, _says("Words that begin words of the room, the id, a label, a participant's name or an identifier.")
    ] = ""
    state: Annotated[Literal["", "recording", "complete", "recovered"], _says("How it stands.")] = ""
    patient: Annotated[Text, _says("The patient's identifier, exactly.")] = ""
    name: Annotated[Text, _says("Words that begin words of the patient's name.")] = ""
    encounter: Annotated[Text, _says("The encounter, exactly.")] = ""
    accession: Annotated[Text, _says("The accession number, exactly.")] = ""
    participant: Annotated[Text, _says("Words that begin words of a participant's name.")] = ""
    gaps: Annotated[bool | None, _says("Whether something is missing.")] = None
    held: Annotated[bool | None, _says("Whether a hold stands.")] = None
    retention: Annotated[Text, _says("The class of retention that it was given.")] = ""
    limit: Annotated[int, _says("Recordings of one answer.", ge=0, le=MAX_LIMIT)] = 50
    offset: Annotated[int, _says("How many to leave out.", ge=0, le=1 << 31)] = 0
    cursor: Annotated[Text, _says("Where the page before has ended, as its answer says; goes before `offset`.")] = ""


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
    """`kind`: mkv takes every codec, mp4 all but VP8, which it takes as H.264 with `transcode`; zip has all files and a
    page that verifies them."""

    kind: JobKind = "mkv"
    transcode: bool = False


class ExportList(msgspec.Struct, frozen=True):
    """The exports of a recording that are there, the newest first."""

    exports: list[ExportView]


class BookmarkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A moment in ms from the recording's beginning; without a track it is about all."""

    at_ms: Annotated[int, Meta(ge=0, le=MAX_TIME_MS)]
    text: Line = ""
    track: Annotated[str, Meta(max_length=64)] = ""

    def __post_init__(self) -> None:
        _check_line(self.text)


class BookmarkList(msgspec.Struct, frozen=True):
    """The bookmarks of a recording in the order of their moments."""

    bookmarks: list[BookmarkView]


class HoldRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the recording must be kept."""

    reason: Annotated[str, Meta(min_length=1, max_length=LONGEST)]

    def __post_init__(self) -> None:
        _check_line(self.reason)


class HoldView(msgspec.Struct, frozen=True, kw_only=True):
    """A hold stands until it is `lifted`. Times are RFC 3339 in UTC."""

    id: str
    reason: str
    by: str
    placed: str
    lifted: str | None
    lifted_by: str


class HoldList(msgspec.Struct, frozen=True):
    """All holds that a recording ever had."""

    holds: list[HoldView]


class AccessView(msgspec.Struct, frozen=True):
    """That somebody did something to a recording: how often, when first and when last (RFC 3339 in UTC)."""

    who: str
    action: str
    first: str
    last: str
    times: int


class AccessList(msgspec.Struct, frozen=True):
    """Who has looked at a recording, the last one first. The audit trail has each time."""

    accesses: list[AccessView]


def _check_line(text: str) -> None:
    if not text.isprintable():
        raise ValueError("a character can't be printed")


EVERY = "/api/archive/recordings"
ONE: str = f"{EVERY}/{{recording}}"
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
        answers={200: ("The report (docs/priority.md).", "application/json")}, refusals=(404, 410, 503),
    ),
    Operation(
        method="GET", path=f"{ONE}/report.html", name="showReportPage", tag=_TAG,
        summary="The same as a page that needs nothing else.",
        answers={200: ("The page.", "text/html")}, refusals=(404,),
    ),
    Operation(
        method="GET", path=f"{TRACK}/media", name="getMedia", tag=_TAG, query=MediaQuery, headers=RANGES,
        summary="A file of a track, by ranges, with its SHA-256 as a strong ETag.",
        answers={200: ("All of the file.", "video/mp4, video/webm, audio/mp4"), **RANGED},
        refusals=(400, 404, 409, 410, 503),
    ),
    Operation(
        method="GET", path=f"{TRACK}/thumbnail", name="getThumbnail", tag=_TAG, query=ThumbnailQuery,
        summary="The keyframe at or before a moment of a track of pictures.",
        answers={200: ("The picture.", "image/jpeg"), 304: ("The client has it.", None)},
        refusals=(400, 404, 409, 410, 503),
    ),
    Operation(
        method="GET", path=f"{ONE}/verify", name="verify", tag=_TAG,
        summary="Read every byte and compare it with the manifest.",
        answers={200: ("What was found.", Report)}, refusals=(404, 409, 503),
    ),
    Operation(
        method="POST", path=f"{ONE}/verify", name="verifyNow", tag=_TAG,
        summary="The same; for clients that keep answers to GET.",
        answers={200: ("What was found.", Report)}, refusals=(404, 409, 503),
    ),
    Operation(
        method="GET", path=f"{ONE}/export", name="export", tag=_TAG, query=ExportQuery,
        summary="One file with all tracks, sent as soon as it is made. For long recordings begin a job instead.",
        answers={200: ("The file.", "video/x-matroska, video/mp4")}, refusals=(400, 404, 409, 410, 422, 503),
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
        answers={200: ("All of the file.", "video/x-matroska, video/mp4, application/zip"), **RANGED},
        refusals=(404, 409),
    ),
    Operation(
        method="DELETE", path=EXPORT, name="removeExport", tag=_TAG,
        summary="Stop an export and remove its result.",
        answers={204: ("It has gone.", None)}, refusals=(404,),
    ),
    Operation(
        method="GET", path=f"{ONE}/identifiers", name="showIdentifiers", tag=_TAG,
        summary="Whom and what a recording is about.",
        answers={200: ("The identifiers.", Identifiers)}, refusals=(404,),
    ),
    Operation(
        method="PUT", path=f"{ONE}/identifiers", name="setIdentifiers", tag=_TAG, body=Identifiers,
        summary="Say whom and what it is about, in the place of what was said before.",
        answers={204: ("It is kept.", None)}, refusals=(400, 404, 413, 503),
    ),
    Operation(
        method="DELETE", path=f"{ONE}/identifiers", name="eraseIdentifiers", tag=_TAG,
        summary="Forget whom and what it is about. For archivists and operators.",
        answers={204: ("It is forgotten.", None)}, refusals=(404, 503),
    ),
    Operation(
        method="GET", path=f"{ONE}/bookmarks", name="listBookmarks", tag=_TAG, summary="The bookmarks.",
        answers={200: ("The bookmarks.", BookmarkList)}, refusals=(404,),
    ),
    Operation(
        method="POST", path=f"{ONE}/bookmarks", name="addBookmark", tag=_TAG, body=BookmarkRequest,
        summary="Mark a moment; a recording that goes on can be marked too.",
        answers={201: ("It is kept.", BookmarkView)}, refusals=(400, 404, 409, 413, 503),
    ),
    Operation(
        method="DELETE", path=f"{ONE}/bookmarks/{{bookmark}}", name="removeBookmark", tag=_TAG,
        summary="Remove a bookmark; one that is not there is no error.",
        answers={204: ("It is not there.", None)}, refusals=(404, 503),
    ),
    Operation(
        method="GET", path=f"{ONE}/holds", name="listHolds", tag=_TAG, summary="The holds, those lifted included.",
        answers={200: ("The holds.", HoldList)}, refusals=(404,),
    ),
    Operation(
        method="POST", path=f"{ONE}/holds", name="placeHold", tag=_TAG, body=HoldRequest,
        summary="Keep the recording from being disposed of. For archivists and operators.",
        answers={201: ("It stands.", HoldView)}, refusals=(400, 404, 409, 413, 503),
    ),
    Operation(
        method="DELETE", path=f"{ONE}/holds/{{hold}}", name="liftHold", tag=_TAG,
        summary="Lift a hold; it stays on record. For archivists and operators.",
        answers={204: ("It is lifted.", None)}, refusals=(404, 503),
    ),
    Operation(
        method="GET", path=f"{ONE}/accesses", name="listAccesses", tag=_TAG,
        summary="Who has looked at the recording. For archivists and operators.",
        answers={200: ("Who, what and when.", AccessList)}, refusals=(404, 503),
    ),
)  # fmt: skip
