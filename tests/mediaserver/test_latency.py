"""What viewers say of the age of what they see, and what a session's report says of latency and of stale spells."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.reports.latency import LatencySection, Spread
from mediaserver.reports.session import SessionReport
from mediaserver.reports.spells import SpellsSection
from mediaserver.sfu.session.model import Freshness
from mediaserver.sfu.stream.params import EventKind, PlaneEvent
from mediaserver.sfu.stream.spread import spread_index, spread_limits
from tests.mediaserver.conftest import Open, run
from tests.mediaserver.test_quality import Consultation
from tests.sfu.session.offers import audio, make_offer

MS = 1000
SECOND = 1_000_000


class Flowing:
    """A data plane of which every track has just got a packet."""

    def __init__(self, now: int) -> None:
        self._now = now

    def track_stats(self, track: int) -> dict[str, int]:
        return {"last_arrival": self._now}


def report_of(folder: Path) -> SessionReport:
    [path] = (folder / "data" / "reports").iterdir()
    return msgspec.json.decode(path.read_bytes(), type=SessionReport)


@given(st.integers(-100, 2**40))
def test_a_bucket_holds_what_is_under_its_limit(us: int) -> None:
    limits = spread_limits()
    assert spread_index(us) == min(bisect_right(limits, us), len(limits) - 1)


@given(st.lists(st.integers(0, 60 * SECOND), min_size=1, max_size=300))
def test_percentiles_are_within_a_fifth(times: list[int]) -> None:
    spread = Spread()
    for us in times:
        spread.add(us)
    told = spread.percentiles()
    assert told is not None
    assert told.count == len(times)
    assert abs(told.max_ms - max(times) / MS) <= 0.1
    for share, figure in ((0.5, told.p50_ms), (0.95, told.p95_ms), (0.99, told.p99_ms)):
        exact = sorted(times)[max(0, -int(-share * len(times) // 1) - 1)] / MS
        assert exact - 0.1 <= figure <= max(exact * 1.25, 0.064) + 0.1


def test_ages_are_taken_of_what_is_received_and_not_too_often(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site() as s:
            at = await Consultation.begin(s)
            ultrasound, gone = at.tracks["ultrasound"], "t-gone"
            said = [{"track": ultrasound, "ages": [100, 110, 120, 700]}, {"track": gone, "ages": [1]}]
            await at.doctor.send("ages", tracks=said)
            await at.doctor.send("ages", tracks=said)  # within the same half second
            await at.cart.send("ages", tracks=said)  # it does not receive it
            for wrong in (
                [{"track": ultrasound, "ages": [-1]}],
                [{"track": ultrasound, "ages": [60_001]}],
                [said[0]] * 65,
            ):
                await at.doctor.send("ages", tracks=wrong)
                assert (await at.doctor.until("error"))["code"] == "bad-message"
            await at.doctor.ask("ping")
            await at.cart.ask("ping")
            assert (await at.metric("shown_age_seconds_count")) == {'{source="ultrasound"}': 4}
            await at.doctor.ask("leave")
            await at.cart.ask("leave")

    run(main())
    section = msgspec.convert(report_of(tmp_path).sections["latency"], LatencySection)
    assert {track.source for track in section.tracks} == {"camera", "ultrasound", "microphone"}
    [view] = section.views
    assert (view.source, view.budget_ms, view.paced) == ("ultrasound", 300, None)
    assert view.shown is not None
    assert (view.shown.count, view.shown.max_ms, view.shown.mean_ms) == (4, 700, 257.5)
    assert 110 <= view.shown.p50_ms <= 132


def test_an_altered_sound_is_told_counted_and_kept(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site() as s:
            cart = await s.doctor(role="cart")
            publish = [{"mid": "0", "source": "stethoscope"}]
            assert (await cart.ask("offer", sdp=make_offer(audio(ssrc=10)), publish=publish))["type"] == "answer"
            doctor = await s.doctor()
            live = s.server.rooms["r"]
            [track] = live.room.tracks.values()
            assert track.params.untouched_bps == 64_000
            now = s.server.clock.monotonic_us()
            for second, bits in enumerate((1, 5, 4, 0)):
                live.plane_events([PlaneEvent(EventKind.SOUND, track.plane_id, bits, b"", now + second * SECOND)])
                told = (await doctor.until("track-changed"))["track"]["faults"]
                assert told == [name for bit, name in ((1, "dtx"), (4, "bandwidth")) if bits & bit]
            async with s.http.get(f"{s.url}/metrics") as response:
                text = await response.text()
            assert 'sound_faults_total{fault="dtx"} 1.0' in text
            assert 'sound_faults_total{fault="bandwidth"} 1.0' in text
            assert 'sound_faults_total{fault="speech"} 0.0' in text
            await doctor.ask("leave")
            await cart.ask("leave")

    run(main())
    section = msgspec.convert(report_of(tmp_path).sections["sound"], SpellsSection)
    assert [(one.source, one.state, one.seconds, one.cause) for one in section.spells] == [
        ("stethoscope", "dtx", 2, ""),
        ("stethoscope", "bandwidth", 2, ""),
    ]


def test_the_clock_of_the_server_is_told(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            doctor = await s.doctor()
            before = s.server.clock.monotonic_us()
            time = (await doctor.ask("ping"))["time"] - 0xE0000000 * 1e3
            assert before / 1e3 - 1 <= time <= s.server.clock.monotonic_us() / 1e3 + 1

    run(main())


def test_spells_have_a_begin_an_end_and_a_cause(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site() as s:
            at = await Consultation.begin(s)
            live = s.server.rooms["r"]
            now = s.server.clock.monotonic_us()

            def tell(source: str, state: int, time: int) -> None:
                plane_id = live.room.tracks[at.tracks[source]].plane_id
                live.plane_events([PlaneEvent(EventKind.TRACK_FRESHNESS, plane_id, state, b"", time)])

            for source in at.tracks:  # else there is nothing to compare with
                live.room.tracks[at.tracks[source]].live = source != "camera"
            tell("ultrasound", 2, now)
            tell("ultrasound", 1, now + 3 * SECOND)
            tell("ultrasound", 0, now + 5 * SECOND)
            tell("microphone", 1, now - SECOND)
            live.room.tracks[at.tracks["ultrasound"]].live = False
            tell("camera", 1, now)
            tell("microphone", 0, now + SECOND)
            for name in at.tracks.values():
                live.room.tracks[name].live = True
            planes, live.room.planes = live.room.planes, Flowing(now + 9 * SECOND)  # type: ignore[assignment]
            tell("ultrasound", 1, now + 9 * SECOND)
            live.room.planes = planes
            await at.cart.ask("leave")
            await at.doctor.ask("leave")

    run(main())
    section = msgspec.convert(report_of(tmp_path).sections["freshness"], SpellsSection)
    spells = [(one.source, one.state, one.cause, one.seconds, one.removed) for one in section.spells]
    assert spells[:3] == [
        ("ultrasound", Freshness.UNCHANGING, "picture", 3, False),
        ("ultrasound", Freshness.STALE, "publisher", 2, False),
        ("microphone", Freshness.STALE, "publisher", 2, False),
    ]
    assert spells[3][:3] == ("camera", Freshness.STALE, "publisher")
    assert spells[3][4]
    assert spells[4][:3] == ("ultrasound", Freshness.STALE, "source")
    assert all(one.ended is not None for one in section.spells)
    assert section.omitted == 0
