"""Valid inputs to start from. Each function gives those of one target of `targets`."""

from __future__ import annotations

import base64
import itertools
import json
import struct
from pathlib import Path

from .steps import step

FIXTURES = Path(__file__).resolve().parent.parent / "sfu" / "wire" / "fixtures"
CODECS = range(1, 7)

SDP_WORDS = (
    *("v=0", "m=video 9 UDP/TLS/RTP/SAVPF", "m=audio 9 UDP/TLS/RTP/SAVPF", "m=application 9 UDP/DTLS/SCTP"),
    *("a=group:BUNDLE", "a=mid:", "a=extmap:", "a=rtpmap:", "a=fmtp:", "a=rtcp-fb:", "a=ssrc:", "a=ssrc-group:FID"),
    *("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:sha-256", "a=setup:actpass", "a=rtcp-mux", "a=candidate:"),
    *("a=rid:", "a=simulcast:", "a=msid:", "a=sendonly", "a=recvonly", "a=inactive", "a=end-of-candidates"),
)
CANDIDATE_WORDS = ("candidate:", " typ host", " typ srflx raddr ", " UDP ", " tcptype active", ".local")
MESSAGE_WORDS = (
    *('"type":"join"', '"type":"offer"', '"type":"candidate"', '"type":"mute"', '"type":"record"', '"id":', '"sdp":'),
    *('"publish":[', '"subscribe":[', '"track":', '"mid":', '"source":"ultrasound"', '"version":1', "\\u0000"),
)


def rtp(payload: bytes, sequence: int = 65535, csrcs: int = 0, block: bytes = b"", profile: int = 0xBEDE) -> bytes:
    first = 0x80 | csrcs | (0x10 if block else 0)
    head = struct.pack("!BBHII", first, 96, sequence, 90000, 0x11223344) + b"csrc" * csrcs
    return head + (struct.pack("!HH", profile, len(block) // 4) + block if block else b"") + payload


def rtp_packets() -> list[bytes]:
    padded = bytearray(rtp(b"media" + bytes(3) + b"\x04"))
    padded[0] |= 0x20
    return [
        rtp(b"media", csrcs=2),
        rtp(b"media", block=bytes.fromhex("10305140011022aabbcc0000")),
        rtp(b"media", block=bytes.fromhex("0101aa0400170311223300ff"), profile=0x1000),
        rtp(b"media", block=bytes.fromhex("ff00000010aa0000")),
        bytes(padded),
    ]


def srtp_packets() -> list[bytes]:
    plain = [*rtp_packets(), *rtcp_packets()]
    return [bytes([choice]) + packet + bytes(range(20)) for choice in range(6) for packet in plain]


def srtp_plain() -> list[bytes]:
    head = struct.pack("!IH", 0, 12 * 8)
    return [bytes([choice]) + head + packet for choice in range(6) for packet in rtp_packets()]


def srtcp_plain() -> list[bytes]:
    head = struct.pack("!IH", 0x7FFFFFFF, 8 * 8)
    return [bytes([choice]) + head + packet for choice in range(6) for packet in rtcp_packets()]


def stun_messages() -> list[bytes]:
    """The sample request and answers of RFC 5769, sections 2.1 to 2.3."""
    return [
        bytes.fromhex(
            "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008"
            "932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004"
            "e57a3bcf"
        ),
        bytes.fromhex(
            "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a64300080014"
            "2b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
        ),
        bytes.fromhex(
            "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179"
            "bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
        ),
        bytes.fromhex("000100082112a442b7e7a701bc34d686fa87dfae0025000000260000"),
    ]


def rtcp(count: int, kind: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def rtcp_packets() -> list[bytes]:
    block = struct.pack("!IIIIII", 7, 0x05000003, 70000, 12, 0x12345678, 900)
    report = rtcp(1, 200, struct.pack("!IQIII", 1, 0xE1B2C3D400000000, 90000, 10, 1000) + block)
    sdes = rtcp(1, 202, struct.pack("!IBB", 1, 1, 6) + b"cname!" + bytes(4))
    feedback = struct.pack("!II", 1, 2)
    return [
        report + sdes,
        rtcp(1, 201, struct.pack("!I", 1) + block) + rtcp(1, 203, struct.pack("!I", 1)),
        rtcp(1, 205, feedback + struct.pack("!HHHH", 100, 0x8001, 300, 0)),
        rtcp(1, 206, feedback) + rtcp(4, 206, feedback + struct.pack("!IB3x", 9, 3)),
        rtcp(15, 206, feedback + b"REMB" + struct.pack("!BBHI", 1, 0x4B, 0xFFFF, 5)),
        rtcp(15, 205, feedback + bytes.fromhex("ffff000400000a012004c40004 0800 40".replace(" ", "") + "000000")),
        rtcp(15, 205, feedback + bytes.fromhex("0001000700000a02b554d1000403020100ff")[:16]),
        rtcp(11, 205, struct.pack("!IIHHHHHxx", 1, 9, 65535, 3, 0x8010, 0x0000, 0x9FFF) + struct.pack("!I", 77)),
        rtcp(0, 207, struct.pack("!I", 1) + struct.pack("!BBHQ", 4, 0, 2, 5)),
        rtcp(0, 207, struct.pack("!IBBHIII", 1, 5, 0, 3, 5, 0x12345678, 900)),
    ]


def lines() -> list[bytes]:
    """Packets and what is reported of them: by transport-wide numbers, by SSRC, not at all, and in other ways."""
    packets = step(0 | 8 << 3, bytes.fromhex("0a 00 40 00"))
    later = step(0 | 8 << 3, bytes.fromhex("0a 00 40 01"))
    arrived = step(2 | 31 << 3, bytes.fromhex("0a 0b 000100 00 200b") + b"\x20" * 11)
    lost = step(2 | 31 << 3, bytes.fromhex("14 14 000101 01 0014"))
    named = step(3 | 31 << 3, bytes.fromhex("05 80 8010 0000 8020 9fff"))
    wanted = step(6, bytes.fromhex("00 10 00 00 00 7f ff 00"))
    return [
        wanted + (packets + arrived) * 12,
        (packets + arrived) * 3 + (packets + lost) * 4 + step(7, bytes.fromhex("00008000")) + packets + arrived,
        wanted + (packets + later + named) * 8,
        packets + step(4, (2_000_000).to_bytes(8)) + step(5, bytes.fromhex("40 0000a000")) * 3,
        packets * 9 + step(7, bytes.fromhex("00010000")) * 3 + arrived + step(1, rtcp_packets()[5]),
    ]


def arrivals() -> list[bytes]:
    steady = b"".join(struct.pack("!I", 0x200000 + step)[1:] for step in (250, 1000, 20000, 0, 64000))
    return [b"\xff\xff\xfe" + steady * 10, b"\x02\x00\x00" + (b"\x80\0\0" * 20 + steady) * 3]


def payload_samples() -> dict[int, list[bytes]]:
    """Payloads per codec number: a few bytes each that get past the first checks."""
    return {
        1: [b"\xfc\xff\xfe", b"\x7f\x83\x02\x01ab", b"\x03\x41\x05hello12345"],
        2: [
            bytes.fromhex("90e08123c5a0") + bytes.fromhex("10020 09d012a8002e001".replace(" ", "")) + b"data",
            bytes.fromhex("1011000000"),
        ],
        3: [
            bytes.fromhex("8a81238018") + bytes.fromhex("0500028001e0") + bytes.fromhex("82498342"),
            bytes.fromhex("ad8101000182498342001000f8"),
        ],
        4: [
            bytes.fromhex("6742c01fda014016ec0440000003004000000f03c60ca8"),
            bytes.fromhex("78000f6742c01fda014016ec044000000300000468ce3c80"),
            bytes.fromhex("7c85b84000") + b"slice",
            bytes.fromhex("7c45") + b"end",
            bytes.fromhex("419a0102"),
        ],
        5: [
            bytes.fromhex("40010c01ffff01600000030090000003000003005dac09"),
            bytes.fromhex("420101016000000300900000030000030 05da00280802d165 9".replace(" ", "")),
            bytes.fromhex("6201930a0b0c"),
            bytes.fromhex("60010004400101020006420101010203"),
        ],
        6: [
            bytes.fromhex("180a0b000000043cffbdffe4 9801".replace(" ", "")),
            bytes.fromhex("2c020a010a0b00000004"),
            bytes.fromhex("900102030405"),
        ],
        7: [b"\x6f\xfc\x01", b"\xef\x0f\x00\x02\x6f\xfc\x01\xfc\x02"],
    }


def payloads_with_codec() -> list[bytes]:
    return [bytes([codec]) + payload for codec, samples in payload_samples().items() for payload in samples]


def assemblies() -> list[bytes]:
    """For every codec its samples in a row."""
    rows = [samples * 2 for samples in payload_samples().values()]
    return [b"".join(step(4 | (i & 1), payload) for i, payload in enumerate(row)) for row in rows]


def descriptions() -> list[bytes]:
    return [path.read_bytes() for path in sorted(FIXTURES.glob("*.sdp"))] or [b"v=0\r\n"]


def offers() -> list[bytes]:
    """Each description, and one after another as offers of the same participant."""
    found = descriptions()
    return [*found, *(first + b"\0" + second for first, second in itertools.pairwise(found))]


def fragments() -> list[bytes]:
    lines = [b"a=ice-ufrag:abcd", b"a=ice-pwd:" + b"p" * 22, b"m=audio 9 RTP/AVP 0", b"a=mid:0"]
    return [b"\r\n".join([*lines, *(b"a=" + candidate for candidate in candidates()), b"a=end-of-candidates"])]


def candidates() -> list[bytes]:
    return [
        b"candidate:1 1 udp 2113937151 192.0.2.1 54400 typ host generation 0 ufrag abcd network-cost 999",
        b"candidate:2 1 UDP 1677721855 2001:db8::1 9 typ srflx raddr 0.0.0.0 rport 0",
        b"candidate:0 1 TCP 2105524479 4b6d1c2e-8a1b-4d6d-9d6f-b2b8e6d3c0aa.local 9 typ host tcptype active",
    ]


def messages() -> list[bytes]:
    return [
        json.dumps(message).encode()
        for message in (
            {"type": "join", "id": 1, "version": 1, "room": "r-1", "token": "t", "name": "Dr. Ä", "resume": None},
            {
                "type": "offer",
                "id": 2,
                "sdp": "v=0",
                "publish": [{"mid": "0", "source": "ultrasound", "label": "probe"}],
                "subscribe": [{"mid": "1", "track": "t1"}],
            },
            {"type": "candidate", "candidate": "candidate:1", "mid": "0"},
            {"type": "mute", "id": 3, "track": "t", "muted": True},
            {"type": "subscribe", "id": 4, "track": "t"},
            {"type": "record", "id": 2**53 - 1, "on": True},
            {"type": "ping", "id": 0},
        )
    ]


def dtls_datagrams() -> list[bytes]:
    hello = bytes.fromhex("010000200000000000000020fefd") + bytes(32)
    record = b"\x16\xfe\xfd" + bytes(8) + struct.pack("!H", len(hello)) + hello
    return [record, record + b"\x14\xfe\xfd" + bytes(8) + b"\x00\x01\x01"]


def handshakes() -> list[bytes]:
    """The client's datagrams pass, the third one is changed, noise in between; time goes on."""
    onward = step(1)
    return [onward * 8, onward * 2 + step(2 | 20 << 2, b"\1\2") + onward * 4, onward + dtls_noise() + onward * 8]


def dtls_noise() -> bytes:
    return b"".join(step(0, data) for data in dtls_datagrams()) + step(3, b"\x0f\xff\xff") * 3


def tokens() -> list[bytes]:
    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    claims = {"room": "r", "role": "doctor", "exp": 1_900_000_000, "rights": ["publish"]}
    heads = ({"alg": "HS256", "typ": "JWT"}, {"alg": "none"}, {"alg": "RS256", "kid": "x"})
    return [part(head) + b"." + part(claims) + b"." + b"c2lnbmF0dXJl" for head in heads]


def streams() -> list[bytes]:
    """Steps for `tcp`: frames whole, torn and run together, and one that is too long."""
    frames = [
        struct.pack("!H", len(data)) + data for data in (*stun_messages(), *dtls_datagrams(), *srtp_packets(), b"")
    ]
    joined = b"".join(frames)
    torn = b"".join(step(n, joined[at : at + 7]) for n, at in enumerate(range(0, min(len(joined), 1400), 7), 1))
    return [
        b"".join(step(1, frame) for frame in frames),
        step(64, joined[:2000]),
        torn,
        step(3, struct.pack("!H", 2049)),
    ]


def scenes() -> list[bytes]:
    """Steps for `engine`: a stream with a gap per codec and its feedback, checks and noise, commands."""

    def media(payload_type: int, sequence: int, payload: bytes, ssrc: int = 1) -> bytes:
        head = struct.pack("!BBHII", 0x90, 0x80 | payload_type, sequence & 0xFFFF, 3000, ssrc)
        return step(1, head + bytes.fromhex("bede0001") + b"\x10" + b"1\0\0" + payload)

    wait = step(6, (40_000).to_bytes(3))
    nack = rtcp(1, 205, struct.pack("!IIHH", 5, 7020, 1, 0xFFFF))
    report = rtcp(1, 201, struct.pack("!IIIIIII", 5, 7020, 1 << 24, 5, 0, 0, 0))
    found = []
    for i, codec in enumerate((2, 3, 4, 5, 6)):
        payloads = payload_samples()[codec] * 2
        stream = [media(96 + 2 * i, 65533 + n + (n > 2), part) for n, part in enumerate(payloads)]
        repair = media(97 + 2 * i, 1, struct.pack("!H", 0) + payloads[0], ssrc=2)
        found.append(b"".join([*stream, wait, repair, step(4, nack), step(12, report + nack), wait]))
    opus = b"".join(step(1, struct.pack("!BBHII", 0x80, 111, n, 960 * n, 9) + b"\xfc\xff\xfe") for n in range(5))
    for n, copies in ((5, 0), (7, 1), (10, 2), (9, 3)):
        head = struct.pack("!BBHII", 0x80, 63, n, 960 * n, 9)
        blocks = b"".join(struct.pack("!I", 0xEF << 24 | 960 * i << 10 | 3) for i in range(copies, 0, -1))
        opus += step(1, head + blocks + b"\x6f" + b"\xfc\xff\xfe" * (copies + 1))
    commands = b"".join(step(7, bytes((what, what))) + wait for what in range(9))
    noise = b"".join(step(0, data) + step(5, data) for data in [*stun_messages(), *dtls_datagrams(), *srtp_packets()])
    reports = b"".join(step(what, data) for what in (2, 4, 12) for data in rtcp_packets())
    # Pictures of 2 Mbit/s on lines that carry 100, 1, 0.5 and again 100 Mbit/s: parked, taken up, left out.
    held = [step(7, bytes((0xF1, 16, 8, line))) for line in (199, 199, 1, 0, 199, 199)]
    return [*found, opus + found[0] + commands + found[0], noise, opus + reports + wait, opus + b"".join(held)]
