"""What a viewer wishes and what it is told it gets, over a real WebSocket; and what metrics and reports keep of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediaserver.reports.session import SessionReport
from mediaserver.settings import DataSettings, MediaSettings, RecordingSettings
from mediaserver.sfu.session.model import Source
from mediaserver.sfu.stream.params import EventKind, PlaneEvent, QualityReason
from tests.mediaserver.conftest import Client, Open, Site, run
from tests.sfu.session.offers import audio, make_offer, video


@pytest.fixture
def site(site: Open) -> Open:
    """Lines are not adapted to: the data plane tells nothing of them, however long a test takes."""
    media = MediaSettings(udp=":0", workers=1, adapt=False)
    return lambda **sections: site(**{"media": media} | sections)


class Consultation:
    """A cart that publishes, and a doctor who gets its tracks, on a real server. Nobody's media connection is up: what
    the data plane would tell about the doctor's line is told here."""

    def __init__(self, site: Site, cart: Client, doctor: Client, tracks: dict[str, str]) -> None:
        self.site = site
        self.cart = cart
        self.doctor = doctor
        self.tracks = tracks

    @classmethod
    async def begin(cls, site: Site) -> Consultation:
        cart = await site.doctor(role="cart")
        publish = [
            {"mid": str(mid), "source": source} for mid, source in enumerate(("camera", "ultrasound", "microphone"))
        ]
        sdp = make_offer(video(ssrc=10), video(ssrc=20), audio(ssrc=30))
        assert (await cart.ask("offer", sdp=sdp, publish=publish))["type"] == "answer"
        doctor = await site.doctor("Dr. A")
        tracks = {track["source"]: track["id"] for track in doctor.joined["tracks"]}
        subscribe = [{"mid": str(mid), "track": track} for mid, track in enumerate(tracks.values())]
        sdp = make_offer(video("recvonly"), video("recvonly"), audio("recvonly"), client=2)
        answer = await doctor.ask("offer", sdp=sdp, subscribe=subscribe)
        assert len(answer["bound"]) == 3
        for _ in answer["bound"]:
            # The data plane tells once of each that nothing comes; then it is quiet.
            assert (await doctor.until("quality"))["quality"]["state"] == "waiting"
        return cls(site, cart, doctor, tracks)

    def line(self, source: str, reason: QualityReason, spatial: int = -1, temporal: int = -1) -> None:
        """The data plane tells what the doctor's line lets through."""
        live = self.site.server.rooms["r"]
        [leg] = live.room.tracks[self.tracks[source]].legs
        value = reason << 16 | (spatial + 1) << 8 | (temporal + 1)
        live.plane_events([PlaneEvent(EventKind.LEG_QUALITY, leg, value, b"", 0)])

    async def metric(self, name: str) -> dict[str, float]:
        async with self.site.http.get(f"{self.site.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        found = [
            line.removeprefix(f"mediaserver_{name}").rsplit(" ", 1)
            for line in lines
            if line.startswith(f"mediaserver_{name}{{")
        ]
        return {labels: float(value) for labels, value in found}


def test_the_doctor_says_what_is_looked_at_and_the_room_bounds_it(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            at = await Consultation.begin(s)
            camera, ultrasound = at.tracks["camera"], at.tracks["ultrasound"]
            wishes: list[dict[str, Any]] = [
                {"track": camera, "height": 180, "rank": 0},
                {"track": ultrasound, "height": 100, "rank": 9},
                {"track": "t-gone", "height": 100},
            ]
            assert (await at.doctor.ask("view", tracks=wishes))["tracks"] == [
                {"track": camera, "height": 180, "rank": 3, "paused": False},
                {"track": ultrasound, "height": 0, "rank": 2, "paused": False},
            ]
            # What is left out stays; a pause is told like any other shortfall.
            granted = await at.doctor.ask("view", tracks=[{"track": camera, "paused": True}])
            assert granted["tracks"] == [{"track": camera, "height": 180, "rank": 3, "paused": True}]
            await at.doctor.until(
                lambda said: (
                    said["type"] == "quality"
                    and (said["quality"]["track"], said["quality"]["state"]) == (camera, "paused")
                    and said["quality"]["cause"] == "viewer"
                )
            )
            leg = (
                s.server.rooms["r"]
                .room.participants[at.doctor.joined["participant"]]
                .leg_of(s.server.rooms["r"].room.tracks[camera])
            )
            assert leg is not None
            assert (leg.params.policy.rank, leg.params.policy.desired_height) == (3, 180)
            refused = await at.doctor.ask("view", tracks=[{"track": camera, "height": -1}])
            assert refused["code"] == "bad-message"

    run(main())


def test_a_shortfall_is_told_counted_and_still_known_after_a_resume(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            at = await Consultation.begin(s)
            at.line("camera", QualityReason.PAUSED_BY_LINE)
            at.line("ultrasound", QualityReason.BELOW_FLOOR, 0, 1)
            first, second = [(await at.doctor.until("quality"))["quality"] for _ in range(2)]
            assert (first["track"], first["state"], first["cause"]) == (at.tracks["camera"], "paused", "line")
            assert (second["state"], second["cause"]) == ("below-floor", "line")
            assert (second["spatial"], second["temporal"]) == (0, 1)
            assert not any(news["type"] == "quality" for news in at.cart.news)  # it is nobody else's line
            assert await at.metric("quality_breaches_total") == {
                '{source="camera",state="paused"}': 1,
                '{source="ultrasound",state="below-floor"}': 1,
            }
            await at.doctor.socket.close()
            again = await s.connect()
            joined = await again.join(s.token(), resume=at.doctor.joined["resume"])
            states = {quality["track"]: quality["state"] for quality in joined["qualities"]}
            assert states[at.tracks["camera"]] == "paused"
            assert states[at.tracks["microphone"]] == "waiting"
            at.line("camera", QualityReason.OK)
            assert (await again.until("quality"))["quality"]["state"] == "ok"
            seconds = await at.metric("quality_breach_seconds_total")
            assert set(seconds) == {'{source="camera",state="paused"}', '{source="ultrasound",state="below-floor"}'}
            assert all(value > 0 for value in seconds.values())

    run(main())


def test_the_report_of_a_session(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site() as s:
            at = await Consultation.begin(s)
            s.server.reports.add_section("room", lambda live: {"name": live.name})
            s.server.reports.add_section("nothing", lambda live: None)
            at.line("ultrasound", QualityReason.BELOW_FLOOR)
            at.line("ultrasound", QualityReason.PAUSED_BY_LINE)
            at.line("ultrasound", QualityReason.OK)
            at.line("camera", QualityReason.PAUSED_BY_LINE)
            await at.doctor.ask("view", tracks=[{"track": at.tracks["microphone"], "paused": True}])
            await at.doctor.ask("leave")
            await at.cart.ask("leave")

    run(main())
    [path] = (tmp_path / "data" / "reports").iterdir()
    report = msgspec.json.decode(path.read_bytes(), type=SessionReport)
    assert report.room == "r"
    assert report.closed is not None
    assert {one.role: one.reason for one in report.participants} == {"cart": "left", "doctor": "left"}
    assert all(track.removed for track in report.tracks)
    views = {view.source: view for view in report.views}
    assert views["ultrasound"].times == {"waiting:source": 1, "below-floor:line": 1, "paused:line": 1, "ok": 1}
    assert views["ultrasound"].longest_breach_s > 0
    assert views["camera"].seconds["paused:line"] > 0
    assert "paused:viewer" in views["microphone"].times
    assert views["microphone"].longest_breach_s == 0
    assert report.sections["room"] == {"name": "r"}
    assert "nothing" not in report.sections


def test_who_speaks_is_told_to_everybody_and_to_who_comes_later(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            at = await Consultation.begin(s)
            live, voice = s.server.rooms["r"], at.tracks["microphone"]
            plane_id = live.room.tracks[voice].plane_id
            assert live.room.tracks[voice].params.voice
            assert not live.room.tracks[at.tracks["camera"]].params.voice
            for value in (1 << 8 | 90, 1 << 8 | 92):
                live.plane_events([PlaneEvent(EventKind.VOICE, plane_id, value, b"", 0)])
            cart = at.cart.joined["participant"]
            for client in (at.cart, at.doctor):
                told = await client.until("speaker")
                assert (told["participant"], told["track"]) == (cart, voice)
            late = await s.doctor("Student", role="observer")
            assert late.joined["speaker"] == cart
            live.plane_events([PlaneEvent(EventKind.VOICE, plane_id, 90, b"", 0)])
            assert (await late.until("speaker"))["participant"] is None
            await at.doctor.ask("ping")
            assert sum(news["type"] == "speaker" for news in at.doctor.news) == 1
            live.plane_events([PlaneEvent(EventKind.VOICE, plane_id, 1 << 8 | 90, b"", 0)])
            await at.cart.ask("leave")
            assert live.room.speaker is None

    run(main())


def test_what_is_received_no_more_is_in_breach_no_more(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            at = await Consultation.begin(s)
            at.line("ultrasound", QualityReason.BELOW_FLOOR)
            await at.doctor.until("quality")
            sdp = make_offer(video("inactive"), video("inactive"), audio("recvonly"), client=2)
            assert (await at.doctor.ask("offer", sdp=sdp))["type"] == "answer"
            before = s.server.reports.breach_seconds()
            await at.doctor.ask("ping")
            assert s.server.reports.breach_seconds() == before

    run(main())


def test_a_recording_keeps_the_report_and_stays_genuine(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on")) as s:
            at = await Consultation.begin(s)
            at.line("ultrasound", QualityReason.BELOW_FLOOR)
            recording = s.server.rooms["r"].recording.recording
            await at.doctor.ask("leave")
            await at.cart.ask("leave")
            s.server.rooms["r"].close()
            await s.server.recordings.settled()
            url = f"{s.url}/api/archive/recordings/{recording}"
            headers = s.bearer("archivist")
            async with s.http.get(f"{url}/report", headers=headers) as response:
                report = json.loads(await response.text())
            assert report["recordings"] == [recording]
            assert [view["source"] for view in report["views"] if view["breaches"]] == [str(Source.ULTRASOUND)]
            async with s.http.get(f"{url}/verify", headers=headers) as response:
                assert (await response.json())["ok"]
            async with s.http.get(f"{url}x/report", headers=headers) as response:
                assert response.status == 404

    run(main())


def test_only_the_newest_reports_are_kept(site: Open, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "reports"

    async def main() -> None:
        async with site(data=DataSettings(dir=str(tmp_path / "data"), reports=2)) as s:
            for room in ("a", "b", "c"):
                client = await s.doctor(room=room)
                await client.ask("leave")

    run(main())
    assert [path.stem.rsplit("-", 1)[1] for path in sorted(folder.iterdir())] == ["b", "c"]


def test_no_reports_where_none_are_wanted(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(data=DataSettings(dir=str(tmp_path / "data"), reports=0)) as s:
            await (await s.doctor()).ask("leave")

    run(main())
    assert not (tmp_path / "data" / "reports").exists()
