"""Verdicts: a run within budget passes, and each way to be worse is found and named."""

from __future__ import annotations

import msgspec
import pytest
from rich.console import Console

from mediaserver.loadtest.clip import Clip
from mediaserver.loadtest.display import Progress, print_report
from mediaserver.loadtest.histogram import HistogramView, histogram_of
from mediaserver.loadtest.join import Joined
from mediaserver.loadtest.measure import ProcessSample
from mediaserver.loadtest.peers import SourceTimes, Totals
from mediaserver.loadtest.report import judge, spread
from mediaserver.loadtest.run import Leg, Outcome, Second
from mediaserver.loadtest.scenario import LoadSettings, StreamMedia

MS = 1_000_000


async def stay() -> None:
    return


LEG = Leg(
    room="load-0",
    viewer=2,
    source="ultrasound",
    received=1000,
    lost=0,
    unseen=0,
    repaired=3,
    duplicates=0,
    refused=0,
    frames=150,
    frames_per_second=30.0,
    first_frame_ms=80.0,
    longest_gap_ms=40.0,
    mean_latency_ms=0.3,
    worst_latency_ms=2.0,
)
TOTALS = Totals(
    sent=1000,
    sent_octets=1_200_000,
    received=3000,
    received_octets=3_600_000,
    datagrams=3100,
    send_failures=0,
    dropped=0,
    unknown=0,
    feedbacks=40,
    feedback_octets=3600,
    busy=500 * MS,
    sender_lateness=histogram_of([50_000] * 100),
    receiver_lateness=histogram_of([50_000] * 100),
)
SECOND = Second(1.0, 200, 600, 720_000, 0, 300_000, 900_000, 50_000, 0.1)


def outcome(**changes: object) -> Outcome:
    clip = Clip([[b"x"]], [True], 3000, 90_000, True)
    good = Outcome(
        settings=LoadSettings(carts=1, viewers=3, seconds=5.0),
        streams=[StreamMedia("ultrasound", "H264", True, 90_000, 30.0, 2.5e6, clip)],
        seconds=5.0,
        joined=[
            Joined(1, "cart", "load-0", 0, 0, 0.02, ("ultrasound",), stay),
            *(Joined(number, "viewer", "load-0", 0, 0, 0.03, ("ultrasound",), stay) for number in (2, 3, 4)),
        ],
        refused=[],
        gone=[],
        legs=[LEG, msgspec.structs.replace(LEG, viewer=3), msgspec.structs.replace(LEG, viewer=4)],
        totals=TOTALS,
        times={"ultrasound": SourceTimes(histogram_of([300_000] * 1000), histogram_of([100_000] * 1000))},
        before=ProcessSample(1.0, 0.6, 0.4, 100 << 20, 40, 6),
        after=ProcessSample(1.006, 0.603, 0.403, 101 << 20, 40, 6),
        counters={"mediaserver_plane_drops_total.srtp_auth": 2.0, "mediaserver_joins_total": 4.0},
        timeline=[SECOND],
        retransmitted=3,
        keyframe_requests=1,
    )
    return msgspec.structs.replace(good, **changes)


def broken(judged: Outcome) -> list[str]:
    return [check.name for check in judge(judged).checks if not check.holds]


def test_a_good_run_is_within_budget() -> None:
    report = judge(outcome())
    assert report.passed
    assert broken(outcome()) == []
    assert report.server["cpu_us_per_forwarded_packet"] == pytest.approx(2.0)
    assert report.server["dropped_srtp_auth"] == 2.0
    assert report.packets_per_second == {"in": 200.0, "out": 600.0}
    assert report.notes == []
    assert report.join_ms["viewer"]["p95"] == pytest.approx(30.0)


def late(share: float, by: int) -> dict[str, SourceTimes]:
    slow = int(1000 * share)
    values = histogram_of([300_000] * (1000 - slow) + [by] * slow)
    return {"ultrasound": SourceTimes(values, histogram_of([100_000]))}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"times": late(0.02, 6 * MS)}, "ultrasound: server p99"),
        (
            {"times": {"ultrasound": SourceTimes(histogram_of([MS]), histogram_of([4 * MS] * 100))}},
            "ultrasound: jitter p99",
        ),
        ({"legs": [LEG, LEG, msgspec.structs.replace(LEG, lost=1)]}, "ultrasound: loss after repair"),
        ({"legs": [LEG, LEG, msgspec.structs.replace(LEG, unseen=5)]}, "ultrasound: loss after repair"),
        (
            {"legs": [LEG, LEG, msgspec.structs.replace(LEG, first_frame_ms=None, received=0)]},
            "ultrasound: all viewers have it",
        ),
        ({"legs": [msgspec.structs.replace(LEG, first_frame_ms=1500.0)]}, "ultrasound: first frame p95"),
        ({"legs": [LEG, msgspec.structs.replace(LEG, frames_per_second=12.0)]}, "ultrasound: least frames/s"),
        ({"refused": ["doctor of load-0: no"]}, "everyone joined"),
        ({"gone": ["viewer 3 of load-0: silent"]}, "everyone stayed"),
    ],
)
def test_what_is_worse_is_named(changes: dict[str, object], name: str) -> None:
    worse = outcome(**changes)
    assert broken(worse) == [name]
    assert not judge(worse).passed


def test_a_share_of_loss_can_be_allowed() -> None:
    lossy = outcome(legs=[msgspec.structs.replace(LEG, lost=1)])
    assert not judge(lossy).passed
    assert judge(msgspec.structs.replace(lossy, settings=LoadSettings(1, 3, 5.0, max_loss=0.01))).passed


def test_the_starved_viewer_stands_first() -> None:
    starved = msgspec.structs.replace(LEG, viewer=3, lost=40)
    assert judge(outcome(legs=[LEG, starved, LEG])).worst_legs[0] == starved


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"totals": TOTALS._replace(dropped=7)}, "7 for want of room"),
        ({"totals": TOTALS._replace(sender_lateness=histogram_of([20 * MS] * 10))}, "was late"),
        ({"times": {"ultrasound": SourceTimes(histogram_of([]), histogram_of([]))}}, "abs-capture-time"),
        ({"times": {"ultrasound": SourceTimes(histogram_of([-1] * 3), histogram_of([]))}}, "clock was set"),
    ],
)
def test_the_generator_tells_of_its_own_faults(changes: dict[str, object], words: str) -> None:
    report = judge(outcome(**changes))
    assert words in " ".join(report.notes)
    assert report.passed  # they are not the server's


def test_a_spread_of_nothing_is_a_count() -> None:
    assert spread([]) == {"count": 0}
    assert spread([3.0, 1.0, 2.0]) == {"count": 3, "p50": 2.0, "p95": 3.0, "p99": 3.0, "max": 3.0}


def test_a_report_is_json_and_text() -> None:
    report = judge(outcome(refused=["doctor of load-0: no"], gone=["viewer 3 of load-0: silent"]))
    decoded = msgspec.json.decode(msgspec.json.encode(report))
    assert decoded["settings"]["carts"] == 1
    assert decoded["timeline"][0]["received"] == 600
    console = Console(record=True, width=132, force_terminal=False)
    with console.capture() as capture:
        print_report(console, report)
    text = capture.get()
    for words in ("600 out", "cpu us per forwarded packet", "BROKEN", "budget broken", "doctor of load-0: no"):
        assert words in text


def test_progress_shows_stages_and_seconds() -> None:
    console = Console(width=132, force_terminal=True, record=True)
    with console.capture() as capture, Progress(console) as progress:
        progress.tell("measuring")
        progress.tell(SECOND)
    assert "600" in capture.get()
    plain = Console(width=132, force_terminal=False)
    with plain.capture() as capture, Progress(plain) as progress:
        progress.tell("measuring")
        progress.tell(SECOND)
    assert capture.get() == "loadtest: measuring\n"


def test_views_are_what_histograms_give() -> None:
    assert isinstance(TOTALS.sender_lateness, HistogramView)
