"""The fuzz targets: those in C by name, those in Python as functions, and what to start each of them from.

A Python target takes one input and lets nothing out but what the interface it calls promises.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from mediaserver import auth, protocol
from mediaserver.codecs import payload as codecs
from mediaserver.sfu.session import dtls
from mediaserver.sfu.stream.backlog import FrameBacklog
from mediaserver.sfu.wire import framing, sdp

from . import layers, seeds
from .bandwidth import bandwidth
from .engine import engine
from .sessions import dtls_session, fragment, offers
from .steps import steps

NOW = 1_800_000_000.0
SECRET = "a secret of at least thirty-two bytes"


def assemble(codec: int) -> Callable[[bytes], None]:
    """A target that feeds an assembler: each step is a payload; 1 is the marker, 2 a loss before, above that time."""

    def target(data: bytes) -> None:
        assembler = codecs.assembler(codec)
        room = 64 * len(data) + 4096
        for flags, part in steps(data):
            units = assembler.push(part, flags >> 2, bool(flags & 1), bool(flags & 2))
            units += assembler.flush() if flags == 0xFF else []
            for unit in units:
                assert isinstance(unit.data, bytes)
                room -= len(unit.data)
            facts = codecs.facts(codec, part)
            assert facts.descriptor_size <= len(part)
        room -= sum(len(unit.data) for unit in assembler.flush())
        assert room >= 0, "far more comes out than goes in"

    return target


def session_description(data: bytes) -> None:
    with suppress(sdp.OfferError):
        sdp.parse(data.decode("utf-8", "replace"))


def candidate(data: bytes) -> None:
    with suppress(sdp.OfferError):
        sdp.parse_candidate(data.decode("utf-8", "replace"))


def message(data: bytes) -> None:
    with suppress(msgspec.DecodeError):
        protocol.decode(data)
    with suppress(msgspec.DecodeError, UnicodeDecodeError):  # the latter is of str alone
        protocol.decode(data.decode())


def dtls_records(data: bytes) -> None:
    found = dtls.records(data)
    if found is not None:
        assert b"".join(dtls.datagrams(data)) == data
    dtls.is_client_hello(data)


def tcp_stream(data: bytes) -> None:
    """What a peer sends on a connection, in pieces; it waits for another that takes it in pieces too."""
    reader, backlog, mirror = framing.FrameReader(), FrameBacklog(), framing.FrameReader()
    now = waiting = 0
    for flags, part in steps(data):
        now += flags << 12
        with suppress(ValueError):
            for frame in reader.push(part):
                assert len(frame) <= 2048
                waiting += backlog.add(frame, bool(flags & 1), now)
        waiting -= len(mirror.push(backlog.take(flags * 16, now)))
        assert reader.kept < 2050
        assert backlog.memory < 300_000
    while not backlog.empty:
        waiting -= len(mirror.push(backlog.take(700, now)))
    assert waiting == backlog.dropped
    assert mirror.kept == 0


_verifier = auth.Verifier(SECRET)


def token(data: bytes) -> None:
    with suppress(auth.AuthError):
        _verifier.verify(data.decode("utf-8", "replace"), NOW)


@dataclass(frozen=True)
class Target:
    """`function` is None for a kernel in C. `max_size` bounds an input, `words` are put into it as a whole.

    `in_python`: what is tested is Python code, whose lines lead the fuzzer.
    """

    seeds: Callable[[], list[bytes]]
    function: Callable[[bytes], None] | None = None
    max_size: int = 1600
    words: tuple[str, ...] = ()
    in_python: bool = False


TARGETS = {
    "srtp_open": Target(seeds.srtp_packets),
    "srtp_seal": Target(seeds.srtp_plain),
    "srtcp_seal": Target(seeds.srtcp_plain),
    "rtp": Target(seeds.rtp_packets),
    "stun": Target(seeds.stun_messages),
    "rtcp": Target(seeds.rtcp_packets),
    "rtcp_feedback": Target(seeds.arrivals),
    "facts": Target(seeds.payloads_with_codec),
    "assemble_opus": Target(seeds.assemblies, assemble(codecs.Codec.CODEC_OPUS), 4096),
    "assemble_red": Target(seeds.assemblies, assemble(codecs.Codec.CODEC_RED), 4096),
    "assemble_vp8": Target(seeds.assemblies, assemble(codecs.Codec.CODEC_VP8), 4096),
    "assemble_vp9": Target(seeds.assemblies, assemble(codecs.Codec.CODEC_VP9), 4096),
    "assemble_h264": Target(seeds.assemblies, assemble(codecs.Codec.CODEC_H264), 4096),
    "assemble_h265": Target(seeds.assemblies, assemble(codecs.Codec.CODEC_H265), 4096),
    "assemble_av1": Target(seeds.assemblies, assemble(codecs.Codec.CODEC_AV1), 4096),
    "dependency": Target(layers.descriptor_seeds, layers.dependency),
    "gate": Target(layers.gate_seeds, layers.gate, 4096),
    "sdp": Target(seeds.descriptions, session_description, 16384, seeds.SDP_WORDS, True),
    "candidate": Target(seeds.candidates, candidate, 400, seeds.CANDIDATE_WORDS, True),
    "message": Target(seeds.messages, message, 4096, seeds.MESSAGE_WORDS),
    "dtls": Target(seeds.dtls_datagrams, dtls_records, in_python=True),
    "token": Target(seeds.tokens, token, 1024, in_python=True),
    "offers": Target(seeds.offers, offers, 16384, seeds.SDP_WORDS, True),
    "fragment": Target(seeds.fragments, fragment, 2048, seeds.SDP_WORDS, True),
    "dtls_session": Target(seeds.handshakes, dtls_session, 4096, in_python=True),
    "tcp": Target(seeds.streams, tcp_stream, 8192),
    "engine": Target(seeds.scenes, engine, 8192),
    "bandwidth": Target(seeds.lines, bandwidth, 4096),
}
