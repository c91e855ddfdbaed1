"""The fuzz target of the bandwidth estimation: packets, any feedback, any demand, at any time."""

from __future__ import annotations

import struct

from mediaserver.sfu.policy.bwe.bandwidth import Bandwidth

from .steps import steps

LEAST_BPS, MOST_BPS = 50_000, 200_000_000
SSRC = 7
WORD = 0xFFFFFFFF


def check(bandwidth: Bandwidth) -> None:
    """What holds whatever the far end says."""
    target = bandwidth.target_bps
    assert LEAST_BPS <= target <= MOST_BPS
    assert target <= bandwidth.pacing_bps <= 2 * target
    assert 0 <= bandwidth.probe_bps <= MOST_BPS
    assert bool(bandwidth.probe_bps) == bool(bandwidth.probe_bytes_left)
    assert bandwidth.probe_bytes_left <= 10_000_000
    assert bandwidth.backlog_us >= 0
    assert 0 <= bandwidth.lost_share <= 1
    assert bandwidth.round_trip >= 0
    assert bandwidth.in_flight < 2**31
    assert bandwidth.memory <= 32 * 1024


def framed(form: int, body: bytes) -> bytes:
    """Transport layer feedback of that format around a body of any size."""
    body += bytes(-len(body) % 4)
    return struct.pack("!BBH", 0x80 | form, 205, len(body) // 4) + body


def bandwidth(data: bytes) -> None:
    """Steps: three bits say what, the rest how much later (0 to 31 ms), the data is what was sent or what is said."""
    now = 1_000_000_000
    estimator = Bandwidth(now)
    number = sequence = 0
    for flags, part in steps(data):
        now += (flags >> 3) * 1_000
        values = part + bytes(8)
        word = int.from_bytes(values[:4])
        match flags & 7:
            case 0:
                number = estimator.sent_run(values[0] + 1, word >> 12 & 0x7FF, now, values[1], values[3])
                estimator.name(SSRC + (values[3] & 1), sequence := sequence + 1 & 0xFFFF)
            case 1:
                estimator.feedback(part, now)
            case 2:  # about what was sent lately
                base = number - values[0] & 0xFFFF
                estimator.feedback(framed(15, bytes(8) + base.to_bytes(2) + b"\0" + part[1:]), now)
            case 3:
                first = sequence - values[0] & 0xFFFF
                count = len(part) // 2
                told = struct.pack("!IIHH", 1, SSRC, first, count) + part[: 2 * count] + bytes(2 * (count % 2))
                estimator.feedback(framed(11, told + values[:4]), now)
            case 4:
                estimator.remb(int.from_bytes(values[:8]), now)
            case 5:
                estimator.loss(values[0], int.from_bytes(values[1:5]) - 0x1000, now)
            case 6:
                estimator.demand(word, int.from_bytes(values[:8]) >> values[7] % 64, now)
            case _:
                now += word * 16  # up to 19 hours
                assert estimator.process(now) > now
        check(estimator)
