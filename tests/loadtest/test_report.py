"""Verdicts: a run within budget passes, and each way to be worse is found and named."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import msgspec
import pytest
from msgspec.structs import replace
from rich.console import Console

from mediaserver.loadtest.display import Progress, print_report
from mediaserver.loadtest.figures import spread
from mediaserver.loadtest.histogram import HistogramView, histogram_of
from mediaserver.loadtest.junit import junit
from mediaserver.loadtest.measure import ProcessSample
from mediaserver.loadtest.outcome import (
    Entry,
    GlassFigures,
    Leg,
    Outcome,
    Part,
    Second,
    ServerSecond,
    SkewFigures,
    Upstream,
    merge_parts,
)
from mediaserver.loadtest.page import load_page
from mediaserver.loadtest.peers import SourceTimes, Totals
from mediaserver.loadtest.report import judge
from mediaserver.loadtest.scenario import Scenario, of_profile, parse

MS = 1_000_000

LEG = Leg(
    room="load-0",
    group="ultrasound",
    viewer=2,
    source="ultrasound",
    line="",
    received=10_000,
    share=1.0,
    missed=3,
    lost=0,
    unseen=0,
    repaired=3,
    duplicates=0,
    refused=0,
    overtaken=0,
    overtaken_ms=0.0,
    frames=150,
    frames_per_second=30.0,
    first_frame_ms=80.0,
    longest_gap_ms=40.0,
    freezes=0,
    frozen_s=0.0,
    watched_s=5.0,
    under_frames_s=0.0,
    under_bits_s=0.0,
    recovered_ms=None,
    latency_ms={"p50": 0.3, "p99": 0.9, "p99.9": 1.2, "max": 2.0},
)
LEGS = [LEG, replace(LEG, viewer=3), replace(LEG, viewer=4)]
STREAM = Upstream("load-0", "ultrasound", "ultrasound", "", 10_000, 0, 0, 5, 1)
TOTALS = Totals(
    sent=1000,
    sent_octets=1_200_000,
    received=3000,
    received_octets=3_600_000,
    opened=300,
    datagrams=3100,
    send_failures=0,
    dropped=0,
    unknown=0,
    feedbacks=40,
    feedback_octets=3600,
    busy=500 * MS,
    untimed=0,
    untaped=0,
    sender_lateness=histogram_of([50_000] * 100),
    receiver_lateness=histogram_of([50_000] * 100),
)
QUICK = histogram_of([300_000] * 1000)
SECOND = Second(1.0, 200, 600, 720_000, 0, 0, 3, QUICK, QUICK, histogram_of([50_000]))
GLASS = GlassFigures("ultrasound", "", histogram_of([9 * MS] * 100), histogram_of([2 * MS] * 100), 0, 0)
PART = Part(
    seconds=5.0,
    entries=[
        Entry("cart", "load-0", "ultrasound", "", 0.02),
        *[Entry("viewer", "load-0", "ultrasound", "", 0.03)] * 3,
    ],
    refused=[],
    gone=[],
    legs=LEGS,
    upstreams=[STREAM],
    totals=TOTALS,
    times={"ultrasound": SourceTimes(QUICK, histogram_of([100_000] * 1000), QUICK, histogram_of([]))},
    skews=[SkewFigures("ultrasound", "camera", histogram_of([]), histogram_of([2 * MS] * 15))],
    glass=[GLASS],
    timeline=[SECOND],
)


def outcome(scenario: Scenario | None = None, **changes: object) -> Outcome:
    return Outcome(
        scenario=scenario or of_profile("video", 3, seconds=5.0),
        part=replace(PART, **changes),
        before=ProcessSample(1.0, 0.6, 0.4, 100 << 20, 40, 6),
        after=ProcessSample(1.006, 0.603, 0.403, 101 << 20, 40, 6),
        counters={"mediaserver_plane_drops_total.srtp_auth": 2.0, "mediaserver_joins_total": 4.0},
        server=[ServerSecond(1.0, 0.2, 101.0, 40, 7.0)],
    )


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


def timed(latency: HistogramView, jitter: int = 100_000) -> dict[str, SourceTimes]:
    return {"ultrasound": SourceTimes(latency, histogram_of([jitter] * 100), latency, histogram_of([]))}


def late(share: float, by: int) -> dict[str, SourceTimes]:
    slow = int(1000 * share)
    return timed(histogram_of([300_000] * (1000 - slow) + [by] * slow))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"times": late(0.02, 6 * MS)}, "ultrasound: server p99"),
        ({"times": timed(QUICK, 4 * MS)}, "ultrasound: jitter p99"),
        ({"legs": [LEG, LEG, replace(LEG, lost=1)]}, "ultrasound: loss after repair"),
        ({"legs": [LEG, LEG, replace(LEG, unseen=5)]}, "ultrasound: loss after repair"),
        ({"legs": [LEG, LEG, replace(LEG, missed=50, repaired=50)]}, "ultrasound: lost before repair"),
        ({"legs": [LEG, LEG, replace(LEG, first_frame_ms=None)]}, "ultrasound: all viewers have it"),
        ({"legs": [replace(LEG, first_frame_ms=1500.0)]}, "ultrasound: first frame p95"),
        ({"legs": [LEG, replace(LEG, frames_per_second=12.0)]}, "ultrasound: least frames/s"),
        ({"legs": [LEG, replace(LEG, under_bits_s=1.0)]}, "ultrasound: time under a floor"),
        ({"legs": [LEG, replace(LEG, freezes=1, frozen_s=0.4)]}, "ultrasound: freezes"),
        ({"glass": [replace(GLASS, ages=histogram_of([400 * MS] * 9))]}, "ultrasound: glass to glass p95"),
        (
            {"skews": [SkewFigures("ultrasound", "camera", histogram_of([90 * MS] * 9), histogram_of([]))]},
            "ultrasound to camera: ahead p95",
        ),
        ({"refused": ["doctor of load-0: no"]}, "everyone joined"),
        ({"gone": ["viewer 3 of load-0: silent"]}, "everyone stayed"),
    ],
)
def test_what_is_worse_is_named(changes: dict[str, object], name: str) -> None:
    worse = outcome(**changes)
    assert broken(worse) == [name]
    assert not judge(worse).passed
    assert not judge(worse).own_limit


def test_a_share_of_loss_can_be_allowed() -> None:
    legs = [replace(LEG, lost=1)]
    assert not judge(outcome(legs=legs)).passed
    assert judge(outcome(of_profile("video", 3, seconds=5.0, max_loss=0.01), legs=legs)).passed


LINED = parse(
    """
    seconds = 20
    [lines.good]
    delay_ms = 15
    loss = 0.01
    [lines.thin]
    kbit_down = 500
    [lines.gone]
    delay_ms = 15
    [outage]
    at_seconds = 5
    seconds = 2
    lines = ["gone"]
    [[groups]]
    name = "home"
    [groups.sources]
    ultrasound = {}
    """
)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("good", ["ultrasound: least frames/s", "ultrasound: freezes"]),
        ("thin", []),
        ("gone", ["ultrasound: recovery p95"]),
    ],
)
def test_each_line_is_judged_by_what_it_can_carry(line: str, names: list[str]) -> None:
    leg = replace(LEG, line=line, missed=900, repaired=900, freezes=2, frames_per_second=9.0, recovered_ms=1500.0)
    lined = outcome(LINED, legs=[leg])
    assert broken(lined) == names
    assert not [finding for finding in judge(lined).findings if finding.segment != "generator"]


def test_what_does_not_come_back_after_an_outage_is_told() -> None:
    assert broken(outcome(LINED, legs=[replace(LEG, line="gone")])) == ["ultrasound: back after the outage"]


def test_the_worst_viewer_stands_first() -> None:
    lossy = replace(LEG, viewer=3, lost=40)
    assert judge(outcome(legs=[LEG, lossy, LEG])).worst_legs[0] == lossy


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"totals": TOTALS._replace(dropped=7)}, "7 for want of room"),
        ({"totals": TOTALS._replace(sender_lateness=histogram_of([20 * MS] * 10))}, "was late"),
        ({"totals": TOTALS._replace(untimed=3)}, "3 packets left over"),
        ({"times": timed(histogram_of([]))}, "abs-capture-time"),
        ({"times": timed(histogram_of([-1] * 3))}, "clock was set"),
        ({"lines": {"dropped": 4.0}}, "lost 4 packets itself"),
    ],
)
def test_the_generator_tells_of_its_own_faults(changes: dict[str, object], words: str) -> None:
    report = judge(outcome(**changes))
    assert words in " ".join(report.notes)
    assert report.passed  # they are not the server's


def test_a_generator_in_trouble_takes_the_blame() -> None:
    slow = {"times": late(0.02, 6 * MS), "totals": TOTALS._replace(sender_lateness=histogram_of([20 * MS] * 10))}
    report = judge(outcome(**slow))
    assert [check.segment for check in report.checks if not check.holds] == ["generator"]
    assert report.own_limit


def test_a_spread_of_nothing_is_a_count() -> None:
    assert spread([]) == {"count": 0}
    assert spread([3.0, 1.0, 2.0]) == {"count": 3, "p50": 2.0, "p95": 3.0, "p99": 3.0, "max": 3.0}


def test_a_report_is_json_and_text() -> None:
    report = judge(outcome(refused=["doctor of load-0: no"], gone=["viewer 3 of load-0: silent"]))
    decoded = msgspec.json.decode(msgspec.json.encode(report))
    assert decoded["scenario"]["consultations"] == 1
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


def test_junit_has_a_case_for_each_budget() -> None:
    report = judge(outcome(legs=[LEG, LEG, replace(LEG, lost=1)]))
    suite = ET.fromstring(junit(report))[0]
    cases = {case.get("name"): case.find("failure") for case in suite.findall("testcase")}
    assert len(cases) == len(report.checks) == int(suite.get("tests"))
    failure = cases["ultrasound: loss after repair"]
    assert failure is not None
    assert failure.get("type") == "server egress"
    assert cases["everyone joined"] is None


class Links(HTMLParser):
    """What a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_holds_everything_and_loads_nothing() -> None:
    hostile = "<script>alert(1)</script> of load-0"
    report = judge(outcome(legs=[LEG, LEG, replace(LEG, lost=1)], refused=[hostile]))
    page = load_page(report)
    links = Links()
    links.feed(page)
    assert links.loads == []
    assert "<script" not in page
    assert hostile in links.text
    for words in ("Budget broken", "guilty segment", "server egress", "From glass to glass", "Nobody was starved"):
        assert words in links.text
    assert page.count("<svg") >= 4


def test_parts_of_several_processes_add_up() -> None:
    other = replace(PART, legs=[replace(LEG, room="load-1")], totals=TOTALS._replace(sent=5), lines={"carried": 2.0})
    merged = merge_parts([PART, other])
    assert len(merged.legs) == 4
    assert merged.totals.sent == 1005
    assert merged.totals.sender_lateness.total == 200
    assert merged.times["ultrasound"].latency.total == 2000
    assert merged.timeline[0].latency.total == 2000
    assert merged.timeline[0].viewers == 6
    assert merged.glass[0].ages.total == 200
    assert merged.skews[0].behind.total == 30
    assert merged.lines == {"carried": 2.0}
