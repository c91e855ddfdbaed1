"""What the swarm is told of a peer: the outcome of its signalling, its checks and its handshake."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec

from mediaserver.loadtest.clip import Clip
from mediaserver.loadtest.histogram import HistogramView


class SenderParams(msgspec.Struct, frozen=True):
    """A stream to publish. `source` numbers the kind of stream in the statistics; `phase` (0 to 1, of a frame) keeps
    many publishers from sending at the same moment."""

    clip: Clip
    source: int
    mid: str
    ssrc: int
    payload_type: int
    rtx_ssrc: int = 0
    rtx_type: int = 0
    phase: float = 0.0


class ReceiverParams(msgspec.Struct, frozen=True):
    """A stream to receive; SSRCs of 0 are learnt from the packets."""

    source: int
    mid: str
    video: bool
    clock_rate: int
    ssrc: int = 0
    rtx_ssrc: int = 0
    nack: bool = True
    direct: bool = True
    """no line of ours is in the way, so that its latency is the server's"""
    taped: bool = False
    """its packets go on the swarm's tape"""
    stale_ns: int = 0
    """without a new frame for so long it is frozen; 0: never"""
    floor_frames: int = 0
    """a second; 0: no floor"""
    floor_bits: int = 0


class Keys(msgspec.Struct, frozen=True):
    """SRTP keys of both directions, as DTLS exported them (RFC 5764, section 4.2)."""

    profile: int
    tx_key: bytes
    tx_salt: bytes
    rx_key: bytes
    rx_salt: bytes


class IceParams(msgspec.Struct, frozen=True):
    """`username` and `password` go with our checks, `local_password` verifies those of the other side."""

    username: str
    password: str
    local_password: str


OPEN_EVERY = 16
"""Of the packets that a viewer receives, one in so many is opened, if it is not one of the viewers that open all."""

RTX = 255
"""In `PeerParams.codecs`: this payload type carries retransmissions."""


class PeerParams(msgspec.Struct, frozen=True):
    """A connected peer. `codecs` pairs payload types with `mediaserver.codecs.payload.Codec`, or RTX; `extensions`
    pairs negotiated ids with `mediaserver.sfu.wire.packet.ExtKind`. Of received packets that need not be opened
    (authenticated and decrypted), one in `open_every` is."""

    keys: Keys
    ice: IceParams
    codecs: tuple[tuple[int, int], ...] = ()
    extensions: tuple[tuple[int, int], ...] = ()
    senders: tuple[SenderParams, ...] = ()
    receivers: tuple[ReceiverParams, ...] = ()
    cname: str = "swarm"
    open_every: int = 1


class PeerEnd(IntEnum):
    """Why a peer is gone."""

    HERE = 0
    SILENT = 1
    ALERT = 2
    REFUSED = 3


class SenderStats(NamedTuple):
    """`request_times`: when the last keyframe requests came, in ns on the monotonic clock."""

    source: int
    frames: int
    packets: int
    octets: int
    retransmitted: int
    forgotten: int
    keyframe_requests: int
    request_times: tuple[int, ...]
    keyframes: int
    keyframe_octets: int
    fraction_lost: int
    reported_lost: int
    last_stamp: int


class ReceiverStats(NamedTuple):
    """Times in ns, moments on the monotonic clock, 0 for what has not happened. `missing` packets are still waited for,
    `missed` ones did not come in their turn, whether repaired later or not; `overtaken` ones came behind later ones, by
    so much in all. `frozen` is the time without a new frame for longer than `stale_ns`; of `watched` time,
    `under_frames` and `under_bits` were below the floors. `recovered` is from the mark of an outage's end to the next
    whole frame."""

    source: int
    received: int
    octets: int
    lost: int
    missing: int
    repaired: int
    duplicates: int
    refused: int
    stamped: int
    frames: int
    keyframe_requests: int
    first_packet: int
    first_frame: int
    longest_gap: int
    mean_latency: int
    worst_latency: int
    last_stamp: int
    missed: int
    freezes: int
    frozen: int
    watched: int
    under_frames: int
    under_bits: int
    recovered: int
    overtaken: int
    overtaken_by: int
    latency: HistogramView


class PeerStats(NamedTuple):
    end: PeerEnd
    senders: tuple[SenderStats, ...]
    receivers: tuple[ReceiverStats, ...]


class Totals(NamedTuple):
    """`send_failures` and `dropped` are the generator's own losses, `feedbacks` transport-wide ones. `busy` in ns.
    `untimed` packets left too late for their stamp to say how late, so that nothing can be said of the server. Of the
    `received` packets, `opened` ones were authenticated and decrypted."""

    sent: int
    sent_octets: int
    received: int
    received_octets: int
    opened: int
    datagrams: int
    send_failures: int
    dropped: int
    unknown: int
    feedbacks: int
    feedback_octets: int
    busy: int
    untimed: int
    untaped: int
    sender_lateness: HistogramView
    receiver_lateness: HistogramView


class SourceTimes(NamedTuple):
    """Up to the arrival: `latency` from a packet's leaving and `intended` from when it was due, where no line of ours
    is in the way; `lined` from when it was due, through a line."""

    latency: HistogramView
    jitter: HistogramView
    intended: HistogramView
    lined: HistogramView


class TapedPacket(NamedTuple):
    """A packet of a taped stream: its extended sequence number and the kernel's receive stamp, real time in ns."""

    peer: int
    stream: int
    sequence: int
    timestamp: int
    marker: bool
    arrived: int
    payload: bytes
