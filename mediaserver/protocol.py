"""The signalling messages of `/ws`: the one definition from which the AsyncAPI document and the JS typings are made.

Each message is one JSON object in one text frame; `type` says which. A request carries an `id` of the client's
choice, and what answers it carries the same: `joined`, `answer`, `participants`, `pong`, `ok` or `error`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mediaserver.budgets import Skew, SourceBudget
from mediaserver.consent import ConsentState, ConsentTerms, Whose
from mediaserver.sfu.session.model import (
    Freshness,
    QualityCause,
    QualityState,
    Right,
    Role,
    Source,
    TrackInfo,
    TransportState,
)

VERSION = 1
"""Grows when a message changes in a way that an older client can't read."""

MAX_SDP = 128 * 1024
MAX_TRACKS = 64
MAX_SOURCES = 16

RecordingState = Literal["off", "starting", "on", "alarm"]
ErrorCode = Literal[
    "bad-message",
    "unsupported-version",
    "unauthorized",
    "forbidden",
    "not-joined",
    "already-joined",
    "not-found",
    "bad-offer",
    "not-negotiated",
    "resume-failed",
    "removed",
    "timeout",
    "replaced",
    "room-full",
    "overloaded",
    "too-fast",
    "too-slow",
    "shutting-down",
    "internal",
]

RequestId = Annotated[int, Meta(ge=0, le=2**53 - 1, description="Chosen by the client; the answer carries it again.")]
ObjectId = Annotated[str, Meta(min_length=1, max_length=64)]
Mid = Annotated[str, Meta(min_length=1, max_length=32, description="The mid of an m-line in the offer (RFC 8843).")]
RoomName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="Letters, digits, `.`, `_`, `-`; a letter or digit first.",
        extra_json_schema={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
    ),
]
DisplayName = Annotated[str, Meta(max_length=80)]
Label = Annotated[str, Meta(max_length=80)]
Token = Annotated[str, Meta(min_length=1, max_length=8192)]
Sdp = Annotated[str, Meta(min_length=1, max_length=MAX_SDP)]


class Message(msgspec.Struct, frozen=True, tag_field="type"):
    """What all messages share: the `type` field."""


# Parts of messages


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What the client sends on one m-line."""

    mid: Mid
    source: Source
    label: Label = ""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """The track that the client wants to receive on one m-line."""

    mid: Mid
    track: ObjectId


class ViewWish(msgspec.Struct, frozen=True, kw_only=True):
    """What is wished of one track; what is left out stays as it was."""

    track: ObjectId
    height: (
        Annotated[int, Meta(ge=0, le=65535, description="Of the picture as it is shown, in device pixels; 0: all.")]
        | None
    ) = None
    rank: Annotated[int, Meta(ge=0, le=255, description="0 is served first.")] | None = None
    paused: bool | None = None


class ViewGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one track from now on. `height` is 0 where the size as shown makes no difference."""

    track: str
    height: int
    rank: int
    paused: bool


class TrackQuality(msgspec.Struct, frozen=True, kw_only=True):
    """What the client gets of a track.

    `below-floor`: less than its source must hold. `cause`: `line` is the client's own line, `source` the publisher,
    `viewer` the client's wish. Layers are -1 where nothing is left out; what is not known is 0.
    """

    track: str
    state: QualityState
    cause: QualityCause
    spatial: int
    temporal: int
    frames: int
    width: int
    height: int


class TrackAges(msgspec.Struct, frozen=True, kw_only=True):
    """Of one track, how old some of what was shown or played was: from its capture on, in ms."""

    track: ObjectId
    ages: Annotated[list[Annotated[int, Meta(ge=0, le=60_000)]], Meta(min_length=1, max_length=16)]


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """Which track an m-line of the answer carries, in either direction."""

    mid: str
    track: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why an m-line that was asked for carries nothing."""

    mid: str
    reason: str


class ParticipantView(msgspec.Struct, frozen=True, kw_only=True):
    """A participant as the others see it."""

    id: str
    name: str
    role: Role
    consent: ConsentState = "unasked"
    """What it has said to being recorded."""
    consent_sources: list[Source] | None = None
    """Of a consent that is given: what it is for, null for everything."""


class RecordingView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the room is being recorded. `alarm`: it should be, and something of it is being lost.

    `whose` tracks may go in: nobody's (`forbidden`), of those who have agreed (`consent`), everybody's (`required`);
    `tracks` are those that do now.
    """

    state: RecordingState = "off"
    recording: str | None = None
    detail: str = ""
    whose: Whose = "required"
    tracks: list[str] = []


class IceServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A STUN or TURN server, shaped as the browsers' RTCIceServer."""

    urls: list[str]
    username: str = ""
    credential: str = ""


# Client to server


class Join(Message, frozen=True, kw_only=True, tag="join"):
    """The first message of a connection. `resume` is what an earlier `joined` gave: it takes up that session.

    A name in the token goes before `name`.
    """

    id: RequestId
    version: int
    room: RoomName
    token: Token
    name: DisplayName = ""
    resume: Annotated[str, Meta(max_length=64)] | None = None


class Offer(Message, frozen=True, kw_only=True, tag="offer"):
    """A WebRTC offer: the first, or a later one that adds or removes tracks or restarts ICE.

    An m-line that sends is named in `publish`, one that receives in `subscribe`; what is in neither is declined.
    """

    id: RequestId
    sdp: Sdp
    publish: Annotated[list[Publication], Meta(max_length=MAX_TRACKS)] = []
    subscribe: Annotated[list[Subscription], Meta(max_length=MAX_TRACKS)] = []


class Candidate(Message, frozen=True, kw_only=True, tag="candidate"):
    """A trickled ICE candidate; an empty one ends the list."""

    candidate: Annotated[str, Meta(max_length=1024)]
    mid: Annotated[str, Meta(max_length=32)] = ""


class Mute(Message, frozen=True, kw_only=True, tag="mute"):
    """Stop or go on forwarding a track of one's own."""

    id: RequestId
    track: ObjectId
    muted: bool


class Subscribe(Message, frozen=True, kw_only=True, tag="subscribe"):
    """Go on receiving a track that the answer has bound."""

    id: RequestId
    track: ObjectId


class Unsubscribe(Message, frozen=True, kw_only=True, tag="unsubscribe"):
    """Pause a received track: its packets stop, its m-line stays."""

    id: RequestId
    track: ObjectId


class View(Message, frozen=True, kw_only=True, tag="view"):
    """What the client looks at: how large it shows tracks, which it holds for important, which it does without.

    It can be sent for any track of the room, received already or not, and holds until the next one. The room's
    policy bounds it; `viewing` answers with what it comes to.
    """

    id: RequestId
    tracks: Annotated[list[ViewWish], Meta(max_length=MAX_TRACKS)]


class Keyframe(Message, frozen=True, kw_only=True, tag="keyframe"):
    """Ask the publisher of a track for a keyframe; limited by the server."""

    track: ObjectId


class Record(Message, frozen=True, kw_only=True, tag="record"):
    """Switch the recording of the room; needs the right `record`."""

    id: RequestId
    on: bool


class Consent(Message, frozen=True, kw_only=True, tag="consent"):
    """Agree to be recorded, refuse, or withdraw: `given` false after true. `version` names the text that was shown.

    Without `sources` it is about everything that the client publishes. With them, a yes is for these and takes back
    what was agreed to besides; a no is to these alone, and leaves the others as they are.

    Nothing that arrives after the refusal is recorded. Where everybody is recorded, who refuses may not publish, and
    who publishes when it refuses is removed.
    """

    id: RequestId
    given: bool
    version: Annotated[str, Meta(max_length=64)] = ""
    sources: Annotated[list[Source], Meta(min_length=1, max_length=MAX_SOURCES)] | None = None


class AskConsent(Message, frozen=True, kw_only=True, tag="ask-consent"):
    """Have a participant asked (again) whether it may be recorded; needs the right `record`."""

    id: RequestId
    participant: ObjectId


class ListParticipants(Message, frozen=True, kw_only=True, tag="participants"):
    """Ask for the list of those in the room."""

    id: RequestId


class Ages(Message, frozen=True, kw_only=True, tag="ages"):
    """How old what the client shows is, by the capture times that come with it and the server's clock (`pong`).

    A handful of samples of each track, once a second; what comes more often than every 0.5 s is left aside. The report
    of the session has their percentiles.
    """

    tracks: Annotated[list[TrackAges], Meta(max_length=MAX_TRACKS)]


class Leave(Message, frozen=True, kw_only=True, tag="leave"):
    """Leave the room for good; the server answers `ok` and closes the connection."""

    id: RequestId


class Ping(Message, frozen=True, kw_only=True, tag="ping"):
    """Ask for a sign of life."""

    id: RequestId


# Server to client


class Joined(Message, frozen=True, kw_only=True, tag="joined"):
    """The join was granted. `resume` is the key that takes this session up again after a dropped connection."""

    id: RequestId
    version: int = VERSION
    participant: str
    room: str
    name: str
    role: Role
    rights: list[Right]
    resume: str
    resumed: bool = False
    resume_seconds: float
    participants: list[ParticipantView]
    tracks: list[TrackInfo]
    qualities: list[TrackQuality]
    speaker: str | None
    recording: RecordingView
    consent: ConsentTerms
    ice_servers: list[IceServer]
    budgets: dict[Source, SourceBudget]
    skew: Skew


class Answer(Message, frozen=True, kw_only=True, tag="answer"):
    """The answer to an offer. What was asked for and is not in `bound` is in `refused`, with the reason."""

    id: RequestId
    sdp: str
    bound: list[Binding]
    refused: list[Refusal] = []


class ParticipantJoined(Message, frozen=True, kw_only=True, tag="participant-joined"):
    """Somebody has joined."""

    participant: ParticipantView


class ParticipantLeft(Message, frozen=True, kw_only=True, tag="participant-left"):
    """Somebody has left.

    `reason` is `left`, `disconnected` (the socket dropped and did not resume), `silent` (no media connection any
    more), `never-connected`, `transport-closed` (WHIP and WHEP), `removed` (by an operator), `refused-recording`
    (where everybody is recorded) or `room-closed`.
    """

    participant: str
    reason: str


class TrackAdded(Message, frozen=True, kw_only=True, tag="track-added"):
    """A track can be subscribed to. Everybody in the room is told, its publisher too."""

    track: TrackInfo


class TrackChanged(Message, frozen=True, kw_only=True, tag="track-changed"):
    """A track's codec, size, label or mute has changed, or what is wrong with its sound."""

    track: TrackInfo


class TrackFreshness(Message, frozen=True, kw_only=True, tag="track-freshness"):
    """Nothing new comes of a track (`stale`), its pictures show nothing new (`unchanging`), or it is live again.

    The server judges by packets and by what frames cost, so a small change may pass for none: who sees the pixels
    knows better than `unchanging`. Whether what arrives is of now a client must judge by its own clock as well.
    """

    track: str
    state: Freshness


class TrackRemoved(Message, frozen=True, kw_only=True, tag="track-removed"):
    """A track is gone."""

    track: str


class QualityChanged(Message, frozen=True, kw_only=True, tag="quality"):
    """What the client gets of a track is another than before."""

    quality: TrackQuality


class EncodingsWanted(Message, frozen=True, kw_only=True, tag="encodings"):
    """To the publisher of a track with several simulcast encodings: those that somebody gets or records, by their rids.

    One that is wanted again is to be sent at once. One that is no longer wanted may be left out (`active: false` in
    `setParameters`), better not before it has been unwanted for some seconds.
    """

    track: str
    wanted: list[str]


class Speaker(Message, frozen=True, kw_only=True, tag="speaker"):
    """Somebody else speaks, or, with null, nobody any more; voices (`microphone`) alone are heard.

    A short noise takes the floor from nobody, and two speakers begin at least a second apart. Who leaves, or ends the
    track, no longer speaks; that is not told apart.
    """

    participant: str | None
    track: str | None


class RecordingChanged(Message, frozen=True, kw_only=True, tag="recording"):
    """The recording was switched, is in trouble, or other tracks go into it; fields as in `RecordingView`."""

    state: RecordingState
    recording: str | None = None
    detail: str = ""
    whose: Whose
    tracks: list[str]


class ConsentAsked(Message, frozen=True, kw_only=True, tag="consent-asked"):
    """The user is to be asked whether it may be recorded; `consent` answers. `by` is the participant who has it asked
    again. Nothing is recorded of it meanwhile, so there is no hurry."""

    terms: ConsentTerms
    by: str | None = None


class ConsentChanged(Message, frozen=True, kw_only=True, tag="participant-consent"):
    """A participant has been asked, has agreed, refused or withdrawn; the client's own one too. `sources`: what a
    consent that is given is for, null for everything."""

    participant: str
    consent: ConsentState
    sources: list[Source] | None = None


class TransportChanged(Message, frozen=True, kw_only=True, tag="transport"):
    """The state of the client's own media connection, as the server sees it."""

    state: TransportState


class Viewing(Message, frozen=True, kw_only=True, tag="viewing"):
    """The answer to `view`: what it comes to within the policy of the room."""

    id: RequestId
    tracks: list[ViewGrant]


class Participants(Message, frozen=True, kw_only=True, tag="participants"):
    """Those in the room."""

    id: RequestId
    participants: list[ParticipantView]


class Ok(Message, frozen=True, kw_only=True, tag="ok"):
    """The request was carried out."""

    id: RequestId


class Pong(Message, frozen=True, kw_only=True, tag="pong"):
    """The answer to `ping`. `time` is the server's clock in ms, NTP time as its RTCP sender reports show it: what the
    clock offset of abs-capture-time leads to. It is no time of day."""

    id: RequestId
    time: float


class Error(Message, frozen=True, kw_only=True, tag="error"):
    """A request was refused, or, with `fatal`, the connection is about to be closed.

    `line` is the line of the offer that can't be served. `retry_seconds` comes with `overloaded`: the server is at its
    limit and lets nobody more in; after so long it is worth another try, here or at another server.
    """

    code: ErrorCode
    message: str
    id: RequestId | None = None
    line: str | None = None
    fatal: bool = False
    retry_seconds: float | None = None


ClientMessage = (
    Join
    | Offer
    | Candidate
    | Mute
    | Subscribe
    | Unsubscribe
    | View
    | Keyframe
    | Record
    | Consent
    | AskConsent
    | Ages
    | ListParticipants
    | Leave
    | Ping
)
ServerMessage = (
    Joined
    | Answer
    | ParticipantJoined
    | ParticipantLeft
    | TrackAdded
    | TrackChanged
    | TrackFreshness
    | TrackRemoved
    | QualityChanged
    | EncodingsWanted
    | Speaker
    | RecordingChanged
    | ConsentAsked
    | ConsentChanged
    | TransportChanged
    | Viewing
    | Participants
    | Ok
    | Pong
    | Error
)


class CloseCode:
    """The codes with which the server closes a WebSocket, beside RFC 6455's own (section 7.4)."""

    LEFT = 1000
    GOING_AWAY = 1001
    TOO_BIG = 1009
    BAD_MESSAGE = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    TIMEOUT = 4408
    REPLACED = 4409
    TOO_SLOW = 4413
    TOO_FAST = 4429
    REMOVED = 4410


_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_encoder = msgspec.json.Encoder()


def decode(data: str | bytes) -> ClientMessage:
    """A client's message. Raises `msgspec.DecodeError` (or its `ValidationError`, which names the field)."""
    try:
        return _decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        # Text that is not UTF-8, or that is nested without end.
        raise msgspec.DecodeError(str(error)) from None


def encode(message: ServerMessage) -> bytes:
    """A server's message as JSON."""
    return _encoder.encode(message)
