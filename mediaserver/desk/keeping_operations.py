"""How long recordings are kept, and who opened one in an emergency: the operations over HTTP and their types."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mediaserver.desk.operations import ONE, Line
from mediaserver.http.openapi import Operation
from mediaserver.recording.disposal import Case, ClassView, DisposalReport

MOST_NAMED = 1000
LONGEST_REASON = 256


def _check_line(text: str) -> None:
    if not text.strip() or not text.isprintable():
        raise ValueError("a reason is needed, in characters that can be printed")


class DueQuery(msgspec.Struct, frozen=True, kw_only=True):
    """When."""

    within: Annotated[float, Meta(description="Also what is due in so many days.", ge=0, le=73_000)] = 0.0


class RetentionView(msgspec.Struct, frozen=True, kw_only=True):
    """The classes, and what is over its time."""

    classes: list[ClassView]
    due: list[Case]


class KeptView(msgspec.Struct, frozen=True, kw_only=True, rename={"into": "class"}):
    """The class that a recording was given, empty for none; by whom, why and when (RFC 3339 in UTC)."""

    into: str = ""
    by: str = ""
    reason: str = ""
    since: str | None = None


class RetainRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"into": "class"}):
    """Another class, and why."""

    into: Line
    reason: Annotated[str, Meta(min_length=1, max_length=LONGEST_REASON)]

    def __post_init__(self) -> None:
        _check_line(self.reason)


class DisposalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Only what is due goes; with `recordings` only these, and among them those that are to be reviewed."""

    reason: Annotated[str, Meta(min_length=1, max_length=LONGEST_REASON)]
    dry_run: bool = True
    recordings: Annotated[list[Line], Meta(max_length=MOST_NAMED)] = []

    def __post_init__(self) -> None:
        _check_line(self.reason)


class ErasureRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the key is destroyed."""

    reason: Annotated[str, Meta(min_length=1, max_length=LONGEST_REASON)]

    def __post_init__(self) -> None:
        _check_line(self.reason)


class GlassRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it must be opened; how long a reason has to be is a setting."""

    reason: Annotated[str, Meta(min_length=1, max_length=LONGEST_REASON)]

    def __post_init__(self) -> None:
        _check_line(self.reason)


class GlassView(msgspec.Struct, frozen=True, kw_only=True):
    """That somebody opened a recording in an emergency, and who has looked into it. Times are RFC 3339 in UTC."""

    id: str
    recording: str
    who: str
    role: str
    reason: str
    address: str
    opened: str
    until: str
    reviewed: str | None
    reviewed_by: str
    note: str


class GlassList(msgspec.Struct, frozen=True):
    """The newest first."""

    opened: list[GlassView]


class ReviewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the review has found."""

    note: Line = ""


_TAG = "archive"
_GLASS = "/api/archive/break-glass"

KEEPING: tuple[Operation, ...] = (
    Operation(
        method="GET", path="/api/archive/retention", name="showDue", tag=_TAG, query=DueQuery,
        summary="The classes of retention, and what is over its time. For archivists and operators of all rooms.",
        answers={200: ("Classes and recordings.", RetentionView)}, refusals=(400, 503),
    ),
    Operation(
        method="POST", path="/api/archive/disposals", name="dispose", tag=_TAG, body=DisposalRequest,
        summary="Dispose of what is due, or only say what would go (`dry_run`, the default). For operators.",
        answers={200: ("What has gone, or would go, and what keeps the rest.", DisposalReport)},
        refusals=(400, 413, 503),
    ),
    Operation(
        method="GET", path=f"{ONE}/retention", name="showRetention", tag=_TAG,
        summary="The class of retention that a recording was given.",
        answers={200: ("The class.", KeptView)}, refusals=(404,),
    ),
    Operation(
        method="PUT", path=f"{ONE}/retention", name="retain", tag=_TAG, body=RetainRequest,
        summary="Put it into another class. For archivists and operators.",
        answers={200: ("The class.", KeptView)}, refusals=(400, 404, 413, 422, 503),
    ),
    Operation(
        method="POST", path=f"{ONE}/erasure", name="eraseRecording", tag=_TAG, body=ErasureRequest,
        summary="Destroy the key of an encrypted recording: nobody can ever play it again. For operators.",
        answers={204: ("It can't be read any more.", None)}, refusals=(400, 404, 409, 413, 422, 503),
    ),
    Operation(
        method="POST", path=f"{ONE}/break-glass", name="breakGlass", tag=_TAG, body=GlassRequest,
        summary="Open a recording that the token does not reach, for a while; it raises an alert.",
        answers={201: ("It is open to this token.", GlassView)}, refusals=(400, 404, 413, 422, 429),
    ),
    Operation(
        method="GET", path=_GLASS, name="listBroken", tag=_TAG,
        summary="Who opened what in an emergency. For archivists and operators of all rooms.",
        answers={200: ("The newest first.", GlassList)},
    ),
    Operation(
        method="POST", path=f"{_GLASS}/{{opening}}/review", name="reviewBroken", tag=_TAG, body=ReviewRequest,
        summary="Say that it was looked into; nobody reviews himself. For archivists and operators of all rooms.",
        answers={200: ("It is reviewed.", GlassView)}, refusals=(400, 404, 409, 413, 503),
    ),
)  # fmt: skip
