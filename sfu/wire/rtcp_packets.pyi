from collections.abc import Sequence
from typing import NamedTuple

class Report(NamedTuple):
    ssrc: int
    fraction_lost: int
    lost: int
    highest: int
    jitter: int
    last_sr: int
    delay: int

class SenderReport(NamedTuple):
    ssrc: int
    ntp: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[Report, ...] = ()

class ReceiverReport(NamedTuple):
    ssrc: int
    reports: tuple[Report, ...] = ()

class SourceDescription(NamedTuple):
    chunks: tuple[tuple[int, bytes | None], ...]

class Bye(NamedTuple):
    ssrcs: tuple[int, ...]

class Nack(NamedTuple):
    ssrc: int
    media_ssrc: int
    sequences: tuple[int, ...]

class PictureLoss(NamedTuple):
    ssrc: int
    media_ssrc: int

class FullIntra(NamedTuple):
    ssrc: int
    requests: tuple[tuple[int, int], ...]

class Remb(NamedTuple):
    ssrc: int
    bitrate: int
    ssrcs: tuple[int, ...]

class TransportFeedback(NamedTuple):
    ssrc: int
    media_ssrc: int
    base: int
    reference: int
    feedback_count: int
    deltas: tuple[int | None, ...]

class CongestionFeedback(NamedTuple):
    ssrc: int
    timestamp: int
    blocks: tuple[tuple[int, int, tuple[tuple[int | None, int] | None, ...]], ...]

class OtherPacket(NamedTuple):
    type: int
    format: int

Packet = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Bye
    | Nack
    | PictureLoss
    | FullIntra
    | Remb
    | TransportFeedback
    | CongestionFeedback
    | OtherPacket
)

def read(data: bytes) -> list[Packet]: ...
def write(*packets: Packet, capacity: int = 65536) -> bytes: ...
def write_transport(
    ssrc: int,
    media_ssrc: int,
    feedback_count: int,
    base: int,
    arrivals: Sequence[int | None],
    capacity: int = 65536,
) -> tuple[bytes, int]: ...
