"""Every operation of the HTTP interface, for the OpenAPI document.

`python -m mediaserver.operations` prints the document of a server with all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from mediaserver.desk.keeping_operations import KEEPING
from mediaserver.desk.operations import ARCHIVE
from mediaserver.http.app import PAGES, RoomList
from mediaserver.http.openapi import Operation, document

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"


class Health(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str


class Readiness(msgspec.Struct, frozen=True):
    """Whether consultations should be sent here, and if not why."""

    status: str
    reasons: list[str]


class WhipQuery(msgspec.Struct, frozen=True):
    """What is published."""

    source: Annotated[str, Meta(description="One source of a picture, one of a sound, or both with a comma.")] = ""
    label: Annotated[str, Meta(description="What the tracks are called.")] = ""
    name: Annotated[str, Meta(description="The participant's name, where the token has none.")] = ""


class WhepQuery(msgspec.Struct, frozen=True):
    """Who watches."""

    name: Annotated[str, Meta(description="The viewer's name, where the token has none.")] = ""


def _page(path: str) -> Operation:
    name = f"page{path.strip('/').title() or 'Start'}"
    answers = {200: ("The page.", "text/html")}
    return Operation(method="GET", path=path, name=name, tag="pages", summary="A page.", answers=answers, token=False)


_PAGES = (
    *map(_page, PAGES),
    Operation(
        method="GET", path="/favicon.ico", name="favicon", tag="pages", summary="The icon.", token=False,
        answers={200: ("The icon.", "image/svg+xml")},
    ),
    Operation(
        method="GET", path="/static/{file}", name="static", tag="pages", summary="A part of the pages.", token=False,
        answers={200: ("The file.", "*/*"), 206: ("A range.", "*/*"), 304: ("Unchanged.", None)},
        refusals=(403, 404, 416),
    ),
)  # fmt: skip

_OPERATORS = (
    Operation(
        method="GET", path="/healthz", name="health", tag="operators", summary="Is the process alive?", token=False,
        answers={200: ("It is.", Health)},
    ),
    Operation(
        method="GET", path="/readyz", name="readiness", tag="operators", token=False,
        summary="Should consultations be sent here?",
        answers={200: ("They should.", Readiness), 503: ("They should not.", Readiness)},
    ),
    Operation(
        method="GET", path="/metrics", name="metrics", tag="operators", summary="Figures for Prometheus.", token=False,
        answers={200: ("The figures.", "text/plain")},
    ),
    Operation(
        method="GET", path="/asyncapi.json", name="asyncapi", tag="documents", token=False,
        summary="The AsyncAPI document of the WebSocket.", answers={200: ("The document.", "application/json")},
    ),
    Operation(
        method="GET", path="/openapi.json", name="openapi", tag="documents", summary="This document.", token=False,
        answers={200: ("The document.", "application/json")},
    ),
    Operation(
        method="GET", path="/api/rooms", name="listRooms", tag="operators", summary="The open rooms.",
        answers={200: ("The rooms.", RoomList)},
    ),
    Operation(
        method="DELETE", path="/api/rooms/{room}", name="closeRoom", tag="operators",
        summary="Close a room: everybody leaves.", answers={204: ("It is closed.", None)}, refusals=(404,),
    ),
    Operation(
        method="DELETE", path="/api/rooms/{room}/participants/{participant}", name="removeParticipant",
        tag="operators", summary="Remove a participant.", answers={204: ("Removed.", None)}, refusals=(404,),
    ),
)  # fmt: skip

_OFFER_REFUSALS = (400, 404, 408, 409, 413, 415, 422, 503)
_PATCH_REFUSALS = (400, 404, 408, 409, 412, 413, 415, 428, 503)


def _ended(way: str) -> tuple[Operation, ...]:
    path = f"/{way}/{{room}}/resources/{{id}}"
    return (
        Operation(
            method="PATCH", path=path, name=f"{way}Trickle", tag=way, body=FRAGMENT,
            headers={"If-Match": "The resource's ETag; * to restart ICE. It must be given."},
            summary="Trickle candidates or restart ICE (RFC 8840).",
            answers={200: ("ICE was restarted.", FRAGMENT), 204: ("Taken.", None)}, refusals=_PATCH_REFUSALS,
        ),
        Operation(
            method="DELETE", path=path, name=f"{way}End", tag=way, summary="End.",
            answers={200: ("It has ended.", None)}, refusals=(404,),
        ),
    )  # fmt: skip


def _offer(
    path: str, name: str, query: type[msgspec.Struct], summary: str, headers: Mapping[str, str] | None = None
) -> Operation:
    answers = {201: ("The answer; Location is the resource.", SDP)}
    return Operation(
        method="POST", path=path, name=name, tag=path.split("/")[1], summary=summary, query=query, body=SDP,
        answers=answers, refusals=_OFFER_REFUSALS, headers=dict(headers or {}),
    )  # fmt: skip


_MEDIA = (
    Operation(
        method="GET", path="/ws", name="signalling", tag="signalling", token=False,
        summary="The WebSocket of a participant (/asyncapi.json).",
        answers={101: ("It is a WebSocket now.", None)}, refusals=(400, 426, 503),
    ),
    _offer(
        "/whip/{room}", "whipPublish", WhipQuery, "Publish (RFC 9725).",
        {
            "Recording-Consent": "May it be recorded? `given` or `refused`, maybe with `; version=` of the text shown, "
            'and `; sources="ultrasound stethoscope"` where it is not for all.'
        },
    ),
    *_ended("whip"),
    _offer("/whep/{room}", "whepView", WhepQuery, "Watch every track of a room."),
    _offer("/whep/{room}/{source}", "whepViewSource", WhepQuery, "Watch one source of a room."),
    *_ended("whep"),
)  # fmt: skip

OPERATIONS = (*_PAGES, *_OPERATORS, *_MEDIA, *ARCHIVE, *KEEPING)


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document(OPERATIONS)), indent=2).decode() + "\n")
