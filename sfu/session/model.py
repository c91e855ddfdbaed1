"""The words of a room: roles, rights, sources, and what is told of participants and tracks."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Role(StrEnum):
    """What a participant is in the consultation."""

    CART = "cart"
    DOCTOR = "doctor"
    OBSERVER = "observer"
    ARCHIVIST = "archivist"
    OPERATOR = "operator"


class Right(StrEnum):
    """What a participant may do."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    RECORD = "record"
    ADMIN = "admin"


class Kind(StrEnum):
    """The medium of a track."""

    AUDIO = "audio"
    VIDEO = "video"


class Source(StrEnum):
    """Where a track comes from; budgets and codec preferences hang on it."""

    CAMERA = "camera"
    ULTRASOUND = "ultrasound"
    STETHOSCOPE = "stethoscope"
    MICROPHONE = "microphone"
    SCREEN = "screen"
    DERMATOSCOPE = "dermatoscope"
    OTOSCOPE = "otoscope"
    VITALS = "vitals"


AUDIO_SOURCES = frozenset({Source.STETHOSCOPE, Source.MICROPHONE})
"""Sources that are sound; `screen` may be either, the rest are pictures."""

CLINICAL_ORDER = (
    Source.ULTRASOUND,
    Source.DERMATOSCOPE,
    Source.OTOSCOPE,
    Source.CAMERA,
    Source.SCREEN,
    Source.VITALS,
    Source.MICROPHONE,
    Source.STETHOSCOPE,
)
"""Which track comes first where a viewer did not say: of the pictures the examination before the room, of the
sounds the voices, so that a player with one loudspeaker line hears people."""


class TransportState(StrEnum):
    """A participant's peer connection as the room sees it."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSED = "closed"


class QualityState(StrEnum):
    """How much of a track a viewer gets. `waiting`: there is nothing of it to send."""

    OK = "ok"
    BELOW_FLOOR = "below-floor"
    PAUSED = "paused"
    WAITING = "waiting"


class QualityCause(StrEnum):
    """Why it is no more: the viewer's line, the publisher, or the viewer's own wish; none where all is well."""

    NONE = ""
    LINE = "line"
    SOURCE = "source"
    VIEWER = "viewer"


class Quality(msgspec.Struct, frozen=True):
    """What a viewer gets of a track. Layers are -1 where nothing is left out; frames (a second) and the size of the
    picture are 0 where they are not known, or nothing is sent."""

    state: QualityState = QualityState.OK
    cause: QualityCause = QualityCause.NONE
    spatial: int = -1
    temporal: int = -1
    frames: int = 0
    width: int = 0
    height: int = 0


class Wish(msgspec.Struct, frozen=True):
    """What a viewer wishes of a track. `rank`: how important it is, 0 first, None as the room has it. `height`: of the
    picture as it is shown, in lines of the screen; 0: no wish."""

    rank: int | None = None
    height: int = 0


class Freshness(StrEnum):
    """Whether what a track shows is of now. `stale`: nothing new comes; `unchanging`: new pictures show nothing new."""

    LIVE = "live"
    STALE = "stale"
    UNCHANGING = "unchanging"


class SoundFault(StrEnum):
    """Why a clinical sound is not to be trusted, by what arrives of it.

    `dtx`: silence is left out; `speech`: coded as speech; `bandwidth`: not the full band; `bitrate`: under the floor;
    `long-packets`: over 20 ms in each; `malformed`: no Opus.
    """

    DTX = "dtx"
    SPEECH = "speech"
    BANDWIDTH = "bandwidth"
    BITRATE = "bitrate"
    LONG_PACKETS = "long-packets"
    MALFORMED = "malformed"


class TrackInfo(msgspec.Struct, frozen=True):
    """A published track as others are told of it. `codec` is the rtpmap name, "" until it is known."""

    id: str
    participant: str
    source: Source
    kind: Kind
    label: str = ""
    codec: str = ""
    muted: bool = False
    width: int = 0
    height: int = 0
    live: bool = False
    freshness: Freshness = Freshness.LIVE
    faults: tuple[SoundFault, ...] = ()


class ParticipantInfo(msgspec.Struct, frozen=True):
    """A participant as others are told of it. A hidden one is not announced to the others."""

    id: str
    name: str
    role: Role
    hidden: bool = False


class Publication(msgspec.Struct, frozen=True):
    """What an m-line that the participant sends on carries."""

    source: Source
    label: str = ""


class PublishAll(msgspec.Struct, frozen=True):
    """For clients that cannot name their m-lines (WHIP): the source by kind; None refuses that kind."""

    video: Source | None = Source.CAMERA
    audio: Source | None = Source.MICROPHONE
    label: str = ""


class SubscribeAll(msgspec.Struct, frozen=True):
    """For clients that cannot name tracks (WHEP): every track, or those of `sources`, in clinical order."""

    sources: frozenset[Source] | None = None


PublishMap = Mapping[str, Publication] | PublishAll
SubscribeMap = Mapping[str, str] | SubscribeAll
