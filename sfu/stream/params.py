"""What the control plane tells the data plane, and what it hears back.

`Engine` (virtual time, for tests) and `Worker` (a thread with a socket) take the same commands; `Plane` is
their common face. Identifiers are positive integers that the control plane hands out and never uses twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from mediaserver.sfu.stream.tap import TapRing

MEDIA_CLOCK_START_S = 0xE0000000
"""What the NTP time of sender reports shows at 0 of the monotonic clock; see `sfu/stream/clocks.pxd`."""
Address = tuple[str, int]
"""An IP address in text and a UDP port."""


class PayloadParams(msgspec.Struct, frozen=True):
    """One payload type that a publisher may send on a track.

    `codec` is a `mediaserver.codecs.payload.Codec`. `rtx_type` is the payload type of its retransmissions
    (RFC 4588), 0 when the peer offers none. The flags say which feedback (RFC 4585, RFC 5104) was agreed.
    """

    payload_type: int
    codec: int
    clock_rate: int
    rtx_type: int = 0
    nack: bool = False
    pli: bool = False
    fir: bool = False
    transport_cc: bool = False
    remb: bool = False


class LegPolicy(msgspec.Struct, frozen=True):
    """What a leg is worth to its viewer when the line does not carry everything; the allocator goes by it.

    Smaller ranks are served first. Heights are of the picture in pixels, 0 for no wish and no limit. With
    `frames_first` the frame rate gives way before the picture's size and quality.
    """

    rank: int = 4
    floor_bps: int = 0
    floor_frames: int = 0
    least_height: int = 0
    desired_height: int = 0
    max_height: int = 0
    frames_first: bool = False


class FreshnessParams(msgspec.Struct, frozen=True):
    """When a track's newest frame is too old, and when its picture does not change; see `sfu.policy.freshness`.

    No new frame for `stale_frames` frame intervals, but never before `stale_us`, is stale. With `unchanged_us` frames
    that show nothing new for so long are told as well; 0 does not look.
    """

    stale_us: int
    stale_frames: int = 3
    unchanged_us: int = 0


class TrackParams(msgspec.Struct, frozen=True):
    """An incoming track: how its packets are recognised and what they may carry.

    `ssrcs` are those that the SDP names, empty when they are to be learnt from the mid (RFC 8843, section 9.2).
    `rtx_ssrcs` runs parallel to `ssrcs`, 0 where there is none. `extensions` are pairs of the negotiated id
    and its `ExtKind`. `keyframe_interval_us` is the least time between two keyframe requests to the publisher.
    """

    mid: str
    video: bool
    payloads: tuple[PayloadParams, ...]
    ssrcs: tuple[int, ...] = ()
    rtx_ssrcs: tuple[int, ...] = ()
    extensions: tuple[tuple[int, int], ...] = ()
    keyframe_interval_us: int = 500_000
    rids: tuple[str, ...] = ()
    """Simulcast encodings (RFC 8853) by their rid, the lowest first; empty for a track with one."""
    freshness: FreshnessParams | None = None
    """None: not watched"""
    untouched_bps: int | None = None
    """The least bitrate of a sound that is to come as it was asked for, which is watched; None: any sound will do."""
    voice: bool = False
    """Its audio levels (RFC 6464) tell who speaks."""


class LegPayload(msgspec.Struct, frozen=True):
    """How a publisher's payload type leaves on a leg; `rtx_type` is 0 where the viewer takes no RTX. `unwrap`: of RED
    (RFC 2198) only the packet's own Opus leaves."""

    incoming: int
    outgoing: int
    rtx_type: int = 0
    nack: bool = False
    unwrap: bool = False


class LegParams(msgspec.Struct, frozen=True):
    """An outgoing copy of a track to one viewer. `extensions` are pairs of the viewer's id and its `ExtKind`."""

    mid: str
    ssrc: int
    rtx_ssrc: int
    cname: str
    payloads: tuple[LegPayload, ...]
    extensions: tuple[tuple[int, int], ...] = ()
    paused: bool = False
    playout_delay: tuple[int, int] | None = None
    """Least and greatest playout delay in units of 10 ms that the server asks of the viewer, where that extension was
    negotiated and the publisher does not say; (0, 0) is "show at once"."""
    policy: LegPolicy = LegPolicy()
    named: bool = False
    """The viewer tells when each packet came by its own number (RFC 8888)."""


class EventKind(IntEnum):
    """What the data plane reports. `id` names the peer, track or leg; `value` and `data` depend on the kind."""

    CONNECTED = 1  # peer: the first valid ICE check has passed; data: the address as text "ip port"
    MOVED = 2  # peer: media now goes to another address; data as above
    DTLS = 3  # peer: a datagram with DTLS records from a checked address; data: the datagram
    SILENT = 4  # peer: no valid check for the consent timeout (RFC 7675)
    TRACK_LIVE = 5  # track: its first packet; value: ssrc; data: the payload type, one byte
    PICTURE = 6  # track: the size of the picture; value: width << 16 | height
    TRACK_BYE = 7  # track: the publisher said BYE (RFC 3550, section 6.6)
    LEG_LIVE = 8  # leg: its first packet has left; value: µs since the leg was added
    REMOVED = 9  # peer, track, leg or tap: its removal is complete, nothing refers to it any more
    REFUSED = 10  # a command that the engine could not carry out (limits); data: the reason
    LEG_QUALITY = 11  # leg: what the line lets through; value: see LegQuality.of
    TRACK_FRESHNESS = 12  # track: 0 live, 1 stale, 2 unchanging
    LAYERS_WANTED = 13  # track: bit mask of the encodings that somebody needs
    SOUND = 14  # track: what is wrong with its sound; value: bits of sfu.policy.untouched.SoundFault
    VOICE = 15  # track: whether somebody speaks; value: speaking << 8 | loudness in dB over -127 dBov


class QualityReason(IntEnum):
    """Why a viewer gets of a track what it gets."""

    OK = 0
    BELOW_FLOOR = 1  # less than its source must hold
    PAUSED_BY_LINE = 2  # the line does not carry even the least of it
    NO_SOURCE = 3  # the publisher sends nothing that could be forwarded


class LegQuality(NamedTuple):
    """The value of LEG_QUALITY. Layers are -1 where nothing is left out (or nothing is known of them)."""

    reason: QualityReason
    spatial: int
    temporal: int

    @classmethod
    def of(cls, value: int) -> LegQuality:
        return cls(QualityReason(value >> 16), (value >> 8 & 0xFF) - 1, (value & 0xFF) - 1)


class PlaneEvent(NamedTuple):
    """One report of the data plane."""

    kind: EventKind
    id: int
    value: int
    data: bytes
    time: int
    """µs on the worker's monotonic clock"""


class Plane(Protocol):
    """Commands to a data plane. None blocks; none raises for an unknown id (its object may just have gone)."""

    def add_peer(self, peer: int, ufrag: str, pwd: str) -> None:
        """Answer ICE checks for this username fragment and password."""

    def restart_peer(self, peer: int, ufrag: str, pwd: str) -> None:
        """ICE restart (RFC 8445, section 9): new credentials; the old ones hold until the new ones are used."""

    def set_remote(self, peer: int, ufrag: str, pwd: str) -> None:
        """The peer's own credentials, with which it is asked where it seems to have moved; none of over 64 bytes."""

    def set_keys(
        self,
        peer: int,
        profile: int,
        rx_key: bytes,
        rx_salt: bytes,
        tx_key: bytes,
        tx_salt: bytes,
        flight: Sequence[bytes] = (),
    ) -> None:
        """The SRTP keys of both directions; `profile` as in RFC 5764 and RFC 7714. `flight`: the datagrams that end the
        handshake. They leave when the keys are in place, for a browser sends its first probes as soon as it has them
        and never again, and before any media, which could not be opened."""

    def send_dtls(self, peer: int, datagram: bytes) -> None:
        """Send a datagram of DTLS records to the peer's address."""

    def remove_peer(self, peer: int) -> None:
        """Forget the peer, its tracks and its legs; legs of its tracks elsewhere get BYE."""

    def add_track(self, track: int, peer: int, params: TrackParams) -> None: ...

    def add_mirror(self, mirror: int, track: int, home: Plane, params: TrackParams) -> None:
        """A copy of a track that `home` has, for legs of peers here; it takes the commands of a track. REMOVED is told
        of it, and else nothing: of the track its home tells."""

    def update_track(self, track: int, params: TrackParams) -> None:
        """After a re-offer: other payload types, ssrcs or extension ids."""

    def mute_track(self, track: int, muted: bool) -> None:
        """Forward nothing of a muted track; the legs continue without a gap when it is unmuted."""

    def remove_track(self, track: int) -> None: ...

    def add_leg(self, leg: int, track: int, peer: int, params: LegParams) -> None: ...

    def update_leg(self, leg: int, params: LegParams) -> None: ...

    def pause_leg(self, leg: int, paused: bool) -> None: ...

    def remove_leg(self, leg: int) -> None: ...

    def request_keyframe(self, track: int) -> None: ...

    def add_tap(self, tap: int, track: int, ring: TapRing, *, from_now: bool = True) -> None:
        """Copies of the track's packets for a recorder. `from_now`: surely nothing that had been sent by now, however
        late it comes and whatever its number; it takes 0.1 s until that can be known of what comes, and a keyframe is
        asked for then. Without it a keyframe is asked for at once."""

    def remove_tap(self, tap: int) -> None: ...

    def poll_events(self) -> Sequence[PlaneEvent]: ...

    def counters(self) -> Mapping[str, int]: ...

    def track_stats(self, track: int) -> Mapping[str, Any]:
        """packets, bytes, lost, recovered, given_up, jitter (RTP units), keyframes, plis, nacks, last_arrival_us,
        captured and served (each a Spread: sum and most in µs, counts by bucket), width and height of the picture;
        empty when unknown."""

    def leg_stats(self, leg: int) -> Mapping[str, Any]:
        """packets, bytes, retransmitted, nacked, plis, fraction_lost (of 256), rtt_us, paced (a Spread), and
        of the layers that it is given frames a second, width and height (0: not known); empty when unknown."""

    def peer_stats(self, peer: int) -> Mapping[str, int]:
        """The line to a viewer: estimate_bps (0: none is made), allocated_bps, backlog_us, rtt_us, lost_permille,
        padding_bytes, repair_bytes; empty when unknown."""
