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
