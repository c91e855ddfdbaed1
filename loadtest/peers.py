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


RTX = 255
"""In `PeerParams.codecs`: this payload type carries retransmissions."""


class PeerParams(msgspec.Struct, frozen=True):
    """A connected peer. `codecs` pairs payload types with `mediaserver.codecs.payload.Codec`, or RTX; `extensions`
    pairs negotiated ids with `mediaserver.sfu.wire.packet.ExtKind`."""

    keys: Keys
    ice: IceParams
    codecs: tuple[tuple[int, int], ...] = ()
    extensions: tuple[tuple[int, int], ...] = ()
    senders: tuple[SenderParams, ...] = ()
    receivers: tuple[ReceiverParams, ...] = ()
    cname: str = "swarm"


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
    last_stamp: int


class ReceiverStats(NamedTuple):
    """Times in ns on the monotonic clock, 0 for what has not happened. `missing` packets are still waited for."""

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


class PeerStats(NamedTuple):
    end: PeerEnd
    senders: tuple[SenderStats, ...]
    receivers: tuple[ReceiverStats, ...]


class Totals(NamedTuple):
    """`send_failures` and `dropped` are the generator's own losses, `feedbacks` transport-wide ones. `busy` in ns."""

    sent: int
    sent_octets: int
    received: int
    received_octets: int
    datagrams: int
    send_failures: int
    dropped: int
    unknown: int
    feedbacks: int
    feedback_octets: int
    busy: int
    sender_lateness: HistogramView
    receiver_lateness: HistogramView


class SourceTimes(NamedTuple):
    latency: HistogramView
    jitter: HistogramView
