"""What the composition root tells the session layer, and the policy of a room."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mediaserver.sfu.session.dtls import Desk, Identity
from mediaserver.sfu.session.model import Source
from mediaserver.sfu.stream.params import Address, FreshnessParams

SECOND = 1_000_000


class SessionSettings(msgspec.Struct, frozen=True):
    """One worker's: the certificate of all its peers and the addresses at which it is reached.

    `candidates` go into every answer, the preferred one first (IPv4 or IPv6 text and the worker's UDP port), and
    `tcp_candidates` after them (with its TCP port).
    Times are microseconds.
    """

    identity: Identity
    candidates: tuple[Address, ...]
    tcp_candidates: tuple[Address, ...] = ()
    desk: Desk | None = None
    """carries out the steps of handshakes; None: they are carried out at once"""
    connect_timeout_us: int = 30 * SECOND
    """a participant that has joined but is not connected by then is removed"""
    dtls_timeout_us: int = 20 * SECOND
    """a handshake that is not done by then is given up"""
    max_sdp_bytes: int = 256 * 1024
    max_media_lines: int = 64


class Priority(msgspec.Struct, frozen=True):
    """What a source is worth where a viewer's line does not carry everything, and what its app may change of that.

    Smaller ranks are served first; an app may choose from `best_rank` to `worst_rank`. Sound comes before any
    picture. With `frames_first` frames are given up before pixels; without `sized` the whole picture is sent however
    small it is shown. 0 stands for no demand.
    """

    rank: int = 4
    best_rank: int = 4
    worst_rank: int = 9
    floor_bps: int = 0
    floor_frames: int = 0
    least_height: int = 0
    frames_first: bool = False
    sized: bool = True

    def bounded(self, rank: int | None) -> int:
        """The rank that a wish comes to."""
        return self.rank if rank is None else max(self.best_rank, min(self.worst_rank, rank))


class SourcePolicy(msgspec.Struct, frozen=True):
    """What is asked of the publisher of one source, and of those who watch it."""

    video_codecs: tuple[str, ...] = ()
    """rtpmap names in upper case, the preferred first; what is not named follows in the offer's order"""
    keyframe_interval_us: int = 500_000
    opus_bitrate: int = 0
    """bit/s asked of an Opus encoder, 0: its own choice"""
    opus_dtx: bool = True
    opus_stereo: bool = True
    opus_fec: bool = True
    opus_cbr: bool = False
    opus_red: bool = False
    """a copy of each packet in the next (RFC 2198), where the publisher offers that: twice the bitrate"""
    voice: bool = False
    """its levels tell who speaks"""
    untouched: bool = False
    """it is watched whether its sound comes so, in the full band, and with the bitrate of its floor"""
    freshness: FreshnessParams | None = None
    """when it is to be told that nothing new comes; None: never"""
    playout_delay: tuple[int, int] | None = None
    """least and greatest, in units of 10 ms, asked of viewers; (0, 0) is "show at once" """
    priority: Priority = Priority()


DEFAULT_SOURCES: Mapping[Source, SourcePolicy] = {
    # H.264 is what DICOM can hold; the probe's hand follows the picture, so it is not to wait for anything.
    Source.ULTRASOUND: SourcePolicy(video_codecs=("H264",), playout_delay=(0, 0)),
    # Speech cannot wait for a retransmission on a long line, and is thin enough to be sent twice.
    Source.MICROPHONE: SourcePolicy(opus_red=True, voice=True),
    # No FEC: under loss it makes the encoder leave the full band for a speech mode. Losses are retransmitted instead.
    # At a constant bitrate nothing is taken for silence, and a bitrate under the floor is a fault, not a quiet heart.
    Source.STETHOSCOPE: SourcePolicy(
        opus_bitrate=128_000, opus_dtx=False, opus_stereo=False, opus_fec=False, opus_cbr=True, untouched=True
    ),
}


class RoomPolicy(msgspec.Struct, frozen=True):
    """Limits and preferences of one room."""

    sources: Mapping[Source, SourcePolicy] = msgspec.field(default_factory=lambda: dict(DEFAULT_SOURCES))
    max_participants: int = 200
    max_tracks: int = 200
    max_tracks_per_participant: int = 32

    def source(self, source: Source) -> SourcePolicy:
        """The policy of one source."""
        return self.sources.get(source, SourcePolicy())
