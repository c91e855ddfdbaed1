"""What is read of processes and of metrics."""

from __future__ import annotations

import os
import time

import pytest

from mediaserver.loadtest.measure import Process, read_metrics
from mediaserver.loadtest.target import Signer

METRICS = """\
# HELP mediaserver_plane_rtp_in_total RTP packets received.
# TYPE mediaserver_plane_rtp_in_total counter
mediaserver_plane_rtp_in_total{worker="0"} 10.0
mediaserver_plane_rtp_in_total{worker="1"} 5.0
mediaserver_plane_drops_total{cause="stun",worker="0"} 1.0
mediaserver_plane_drops_total{cause="stun",worker="1"} 2.0
mediaserver_forward_latency_seconds_bucket{le="0.1",worker="0"} 4.0
mediaserver_forward_latency_seconds_sum{worker="0"} 0.5
mediaserver_rooms 3.0
strange line
mediaserver_odd nonsense
"""


def test_metrics_are_summed_over_workers() -> None:
    assert read_metrics(METRICS) == {
        "mediaserver_plane_rtp_in_total": 15.0,
        "mediaserver_plane_drops_total.stun": 3.0,
        "mediaserver_forward_latency_seconds_sum": 0.5,
        "mediaserver_rooms": 3.0,
    }


def test_a_process_is_charged_for_its_work() -> None:
    process = Process(os.getpid())
    before = process.sample()
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    after = process.sample()
    assert 0.04 < after.cpu_seconds - before.cpu_seconds < 5
    assert after.resident_bytes > 1 << 20
    assert after.descriptors > 2
    assert after.threads >= 1


def test_a_process_that_is_gone_is_an_error() -> None:
    with pytest.raises(OSError, match="stat"):
        Process(2**22 + 1).sample()


def test_tokens_name_room_and_role() -> None:
    import jwt

    token = Signer("a-secret-of-thirty-two-characters")("load-3", "doctor")
    claims = jwt.decode(token, "a-secret-of-thirty-two-characters", algorithms=["HS256"])
    assert (claims["room"], claims["role"]) == ("load-3", "doctor")
