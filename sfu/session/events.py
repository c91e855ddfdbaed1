"""What a room reports: the outcome of commands, of the data plane's events, and of time."""

from __future__ import annotations

import msgspec

from mediaserver.sfu.session.model import (
    Freshness,
    ParticipantInfo,
    Quality,
    SoundFault,
    TrackInfo,
    TransportState,
)


class ParticipantJoined(msgspec.Struct, frozen=True):
    participant: ParticipantInfo


class ParticipantLeft(msgspec.Struct, frozen=True):
    """`reason`: what was given to `leave`, or "silent", "never-connected", "transport-closed", "room-closed"."""

    participant: str
    reason: str
    hidden: bool = False


class TrackAdded(msgspec.Struct, frozen=True):
    track: TrackInfo


class TrackChanged(msgspec.Struct, frozen=True):
    """Muted, relabelled, its codec or its picture's size became known, or it went live."""

    track: TrackInfo


class PayloadsChanged(msgspec.Struct, frozen=True):
    """After a later offer the track comes with other payload types."""

    track: str


class TrackRemoved(msgspec.Struct, frozen=True):
    track: str
    participant: str


class TransportChanged(msgspec.Struct, frozen=True):
    participant: str
    state: TransportState


class TrackLive(msgspec.Struct, frozen=True):
    """The first packet of a track, or of its new SSRC. `codec` is a `mediaserver.codecs.payload.Codec`."""

    track: str
    codec: int
    ssrc: int
    payload_type: int
    clock_rate: int
    time: int
    """µs, the clock of the plane"""


class PictureChanged(msgspec.Struct, frozen=True):
    track: str
    width: int
    height: int


class FreshnessChanged(msgspec.Struct, frozen=True):
    """A track went stale, stopped changing, or is live again."""

    track: str
    state: Freshness
    time: int
    """µs, the clock of the plane"""


class SoundChanged(msgspec.Struct, frozen=True):
    """What arrives of a clinical sound is not as it was asked for, in these ways; with none it is well again."""

    track: str
    faults: tuple[SoundFault, ...]
    time: int
    """µs, the clock of the plane"""


class SpeakerChanged(msgspec.Struct, frozen=True):
    """Somebody else speaks, or nobody any more: then both are None."""

    participant: str | None
    track: str | None


class LegLive(msgspec.Struct, frozen=True):
    """The first packet of a track has left for this participant. `since_join_us` counts from its `join`, or from what
    it had to wait for later: the track's publication, its own offer of another peer connection."""

    participant: str
    track: str
    since_join_us: int


class LegQuality(msgspec.Struct, frozen=True):
    """What a viewer gets of a track is another than before."""

    participant: str
    track: str
    quality: Quality


class LegEnded(msgspec.Struct, frozen=True):
    """By a later offer a participant gets a track no more that is still there."""

    participant: str
    track: str


class EncodingsWanted(msgspec.Struct, frozen=True):
    """Of a track with several encodings, those that somebody gets or records. The publisher may leave out the others
    until they are wanted."""

    track: str
    participant: str
    """the publisher"""
    rids: tuple[str, ...]


Event = (
    ParticipantJoined
    | ParticipantLeft
    | TrackAdded
    | TrackChanged
    | PayloadsChanged
    | TrackRemoved
    | TransportChanged
    | TrackLive
    | PictureChanged
    | FreshnessChanged
    | SoundChanged
    | SpeakerChanged
    | LegLive
    | LegQuality
    | LegEnded
    | EncodingsWanted
)
