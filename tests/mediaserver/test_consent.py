"""Whose tracks are recorded: the rule, what participants say, and that both hold at each moment."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiortc.mediastreams import VideoStreamTrack
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mediaserver import live_room
from mediaserver.active import RecordingRefused
from mediaserver.auth import AuthError, ConsentClaim, Verifier, mint
from mediaserver.config import ConfigError, load
from mediaserver.consent import CHANGES_AT_MOST, SOURCES, STRICTNESS, Consents, Said, TooManyChanges, Whose
from mediaserver.live_room import LiveRoom, Member
from mediaserver.recordings import Recordings
from mediaserver.settings import RecordingSettings
from mediaserver.sfu.session.model import Publication, Role, Source
from tests.mediaserver.conftest import Client, Open, Site, run
from tests.mediaserver.test_end_to_end import SDP, publish
from tests.mediaserver.test_recordings import ended, listed, recording
from tests.mediaserver.test_server import audit
from tests.mediaserver.test_whip import offer as whip_offer
from tests.sfu.session.offers import VP8, make_offer, video

BY_CONSENT = RecordingSettings(whose="consent")


# The state machine


SOME = st.frozensets(st.sampled_from([Source.CAMERA, Source.ULTRASOUND, Source.MICROPHONE]), min_size=1)
WORDS = st.one_of(st.just(SOURCES), SOME)


def said(participant: str, state: Any = "given", sources: frozenset[Source] = SOURCES) -> Said:
    return Said(participant, state, "participant", "1", 1, "", sources)


class Machine(RuleBasedStateMachine):
    """Against a plain model: the last word of each on each source, and the strictest of the tokens."""

    @initialize(whose=st.sampled_from(STRICTNESS))
    def begin(self, whose: Whose) -> None:
        self.consents = Consents(whose)
        self.whose: Whose = whose
        self.claims: list[Whose] = []
        self.words: dict[str, dict[Source, str]] = {}
        self.changes: dict[str, int] = {}
        self.promised = whose != "required"
        self.refused: set[tuple[str, Source]] = set()

    def ruled(self) -> None:
        self.promised = self.whose != "required" or (self.promised and bool(self.words))

    @rule(name=st.sampled_from("abc"), publishes=st.booleans())
    def join(self, name: str, publishes: bool) -> None:
        self.consents.join(name, publishes)
        self.words[name], self.changes[name] = {}, 0
        self.forget(name)

    @rule(name=st.sampled_from("abc"))
    def leave(self, name: str) -> None:
        self.consents.leave(name)
        self.words.pop(name, None)
        self.forget(name)

    def forget(self, name: str) -> None:
        self.refused = {(other, source) for other, source in self.refused if other != name}

    @rule(whose=st.sampled_from(STRICTNESS))
    def claim(self, whose: Whose) -> None:
        self.consents.claim(whose)
        self.claims.append(whose)
        self.whose = max(self.claims, key=STRICTNESS.index)
        self.ruled()

    @rule(whose=st.sampled_from(STRICTNESS))
    def decree(self, whose: Whose) -> None:
        self.consents.decree(whose)
        self.claims = [whose]
        self.whose = whose
        self.ruled()

    @rule(name=st.sampled_from("abc"), given_=st.booleans(), sources=WORDS)
    def say(self, name: str, given_: bool, sources: frozenset[Source]) -> None:
        if name not in self.words:
            with pytest.raises(KeyError):
                self.consents.say(said(name))
            return
        before = self.words[name]
        agreed = {source for source, word in before.items() if word == "yes"}
        taken = sources
        try:
            kept = self.consents.say(said(name, "given" if given_ else "refused", sources))
        except TooManyChanges as error:
            assert given_
            assert self.changes[name] >= CHANGES_AT_MOST
            kept = error.kept
            assert not [one for one in kept if one.state == "given"]
            taken = sources & agreed
            if not kept:
                return
        if given_:
            after = {source: "yes" if source in taken else "no" for source in SOURCES}
        else:
            after = before | dict.fromkeys(sources, "no")
        now = {source for source, word in after.items() if word == "yes"}
        for one in kept:
            if one.state == "given":
                assert one.sources == now
                assert not now <= agreed
            else:
                assert not one.sources & now
                assert (one.state == "withdrawn") == bool(one.sources & agreed)
        assert {one.state for one in kept} >= ({"withdrawn"} if agreed - now else set())
        if now != agreed:
            assert kept
        self.changes[name] += bool(kept)
        if kept:
            self.words[name] = after
            self.refused |= {(name, source) for source, word in after.items() if word == "no"}

    @rule(name=st.sampled_from("abc"))
    def ask(self, name: str) -> None:
        if name in self.words:
            self.consents.ask(name)

    @invariant()
    def nothing_without_consent(self) -> None:
        if not hasattr(self, "consents"):
            return
        counted: dict[str, dict[Source, bool]] = {}
        for one in self.consents.said():
            counted.setdefault(one.participant, {}).update(dict.fromkeys(one.sources, one.state == "given"))
        for name in "abcd":
            words = self.words.get(name, {})
            assert self.consents.agreed(name) == {source for source in words if words[source] == "yes"}
            assert (self.consents.state(name) == "given") == ("yes" in words.values())
            for source in SOURCES:
                word = words.get(source)
                wanted = {"forbidden": False, "consent": word == "yes", "required": word != "no"}[self.whose]
                assert self.consents.admits(name, source) == wanted
                # Only what was sent where it has always been recorded may go in however late it comes.
                assert self.consents.reserved(name, source) == (self.promised or (name, source) in self.refused)
                assert self.consents.may_publish(name, source) == (self.whose != "required" or word != "no")
                assert counted.get(name, {}).get(source, False) == (word == "yes"), "the words kept come to the same"


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_nothing_loosens_a_server_that_never_records() -> None:
    never = RecordingSettings(policy="off", whose="required").consents()
    assert not never.claim("required")
    assert not never.decree("consent")
    assert never.whose == "forbidden"
    assert never.may_publish("a", Source.CAMERA)


@given(claims=st.lists(st.sampled_from(STRICTNESS), max_size=5))
def test_later_tokens_only_make_it_stricter(claims: list[Whose]) -> None:
    consents = Consents("consent")
    seen = [consents.whose for whose in claims if consents.claim(whose) or True]
    assert seen == sorted(seen, key=STRICTNESS.index)


# Tokens and settings


def test_what_a_token_says_of_recording() -> None:
    secret = "s" * 32
    consent = ConsentClaim(given=True, at=900.0, version="7", by="Ward app", sources=(Source.ULTRASOUND,))
    token = mint(secret, room="r", role=Role.CART, now=1000, recording="consent", consent=consent)
    grant = Verifier(secret).verify(token, 1000)
    assert (grant.recording, grant.consent) == ("consent", consent)
    for bad in (ConsentClaim(given=True, at=5000.0), None):
        token = mint(
            secret, room="r", role=Role.CART, now=1000, recording="never" if bad is None else None, consent=bad
        )  # type: ignore[arg-type]
        with pytest.raises(AuthError):
            Verifier(secret).verify(token, 1000)
    with pytest.raises(ValueError, match="Unix time"):
        ConsentClaim(given=True, at=-1.0)
    with pytest.raises(ValueError, match="leave it out"):
        ConsentClaim(given=True, at=1.0, sources=())


def test_what_is_locked_cannot_be_erased(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    storage = '[storage]\nkind = "s3"\nbucket = "b"\nretention_days = 3\n'
    file.write_text(f'[recording]\nwithdrawal = "erase"\n{storage}')
    with pytest.raises(ConfigError, match="nobody could erase"):
        load(file)


# Over the real server


async def told(client: Client, participant: str, state: str) -> None:
    await client.until(
        lambda m: m["type"] == "participant-consent" and m["participant"] == participant and m["consent"] == state
    )


async def tracks(client: Client, *wanted: str, state: str | None = None) -> dict[str, Any]:
    """Wait until exactly these tracks go into the recording."""
    return await client.until(
        lambda m: m["type"] == "recording" and m["tracks"] == sorted(wanted) and (state is None or m["state"] == state)
    )


async def detail(s: Site, name: str) -> dict[str, Any]:
    async with s.http.get(f"{s.url}/api/archive/recordings/{name}", headers=s.bearer("archivist", "*")) as response:
        assert response.status == 200, await response.text()
        found: dict[str, Any] = await response.json()
        return found


def test_recorded_by_consent(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(recording=BY_CONSENT) as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Dr. A")
            terms = cart.joined["consent"]
            assert terms["text"]
            assert terms["version"] == "1"
            assert doctor.joined["recording"]["whose"] == "consent"
            me = cart.joined["participant"]
            sender, names = await publish(cart, {"camera": VideoStreamTrack()})
            assert (await doctor.ask("record", on=True))["type"] == "ok"
            asked = await cart.until("consent-asked")
            assert asked == {"type": "consent-asked", "terms": terms, "by": None}
            await told(doctor, me, "asked")
            assert (await doctor.ask("ask-consent", participant="nobody"))["code"] == "not-found"
            assert (await cart.ask("ask-consent", participant=me))["code"] == "forbidden", "it may not record"
            assert s.server.rooms["r"].recording.tracks == []
            assert (await cart.ask("consent", given=True, version="1"))["type"] == "ok"
            await told(doctor, me, "given")
            live = await tracks(doctor, names["camera"], state="on")
            late = await s.doctor("Late", "observer")
            assert late.joined["recording"]["tracks"] == [names["camera"]]
            assert {p["name"]: p["consent"] for p in late.joined["participants"]} == {
                "Cart": "given", "Dr. A": "asked", "Late": "unasked",
            }  # fmt: skip
            assert (await cart.ask("consent", given=False, version="1"))["type"] == "ok"
            await told(doctor, me, "withdrawn")
            await tracks(doctor)
            assert (await doctor.ask("ask-consent", participant=me))["type"] == "ok"
            assert (await cart.until("consent-asked"))["by"] == doctor.joined["participant"]
            assert "a moment ago" in (await doctor.ask("ask-consent", participant=me))["message"]
            assert (await doctor.ask("record", on=False))["type"] == "ok"
            await ended(s)
            await sender.close()
            found = await detail(s, live["recording"])
            assert [(c["name"], c["state"], c["by"], c["version"]) for c in found["consents"]] == [
                ("Cart", "given", "participant", "1"), ("Cart", "withdrawn", "participant", "1"),
            ]  # fmt: skip
            assert [one["whose"] for one in found["consent_rules"]] == ["consent"]
            (track,) = found["tracks"]
            assert [segment["reason"] for segment in track["segments"]] == ["consent"]
            assert [gap["cause"] for gap in track["gaps"]] == ["consent", "consent"]
        events = [line["event"] for line in audit(tmp_path)]
        assert [e for e in events if e.startswith("consent-")] == [
            "consent-asked", "consent-asked", "consent-given", "consent-withdrawn", "consent-asked",
        ]  # fmt: skip

    run(main())


def test_forbidden(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(whose="forbidden")) as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Dr. A")
            sender, _ = await publish(cart, {"camera": VideoStreamTrack()})
            await cart.until(lambda m: m["type"] == "track-changed" and m["track"]["live"])
            refused = await doctor.ask("record", on=True)
            assert refused["code"] == "forbidden"
            assert "must not be recorded" in refused["message"]
            assert doctor.joined["recording"]["whose"] == "forbidden"
            await sender.close()
            assert await listed(s) == []

    run(main())


def test_a_token_makes_the_room_stricter_and_the_recording_follows(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on")) as s:
            cart = await s.doctor("Cart", "cart")
            sender, names = await publish(cart, {"camera": VideoStreamTrack()})
            await tracks(cart, names["camera"], state="on")
            doctor = await s.doctor("Dr. A", recording="consent")
            assert doctor.joined["recording"]["whose"] == "consent"
            await tracks(cart)
            await cart.until("consent-asked")
            await s.doctor("Dr. B", recording="required")
            assert s.server.rooms["r"].consents.whose == "consent", "no later token loosens it"
            await s.doctor("Dr. C", recording="forbidden")
            await recording(doctor, "off")
            await sender.close()

    run(main())


def test_a_token_that_resumes_a_session_is_heard(site: Open) -> None:
    """A dropped socket is no way around what the application's newer token says of recording."""

    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on", whose="consent")) as s:
            yes = ConsentClaim(given=True, at=1.0, by="app")
            cart = await s.doctor("Cart", "cart", consent=yes)
            doctor = await s.doctor("Dr. A")
            sender, names = await publish(cart, {"camera": VideoStreamTrack()})
            await tracks(doctor, names["camera"], state="on")

            async def again(**claims: Any) -> None:
                await cart.socket.close()
                resumed = await s.connect()
                joined = await resumed.join(s.token("cart", **claims), resume=cart.joined["resume"])
                assert joined["resumed"]
                cart.socket = resumed.socket

            await again(consent=yes)
            assert s.server.rooms["r"].recording.tracks == [names["camera"]]
            await again(consent=ConsentClaim(given=False, at=2.0, by="app"))
            await tracks(doctor)
            assert s.server.rooms["r"].consents.state(cart.joined["participant"]) == "withdrawn"
            await again(recording="forbidden")
            await recording(doctor, "off")
            assert s.server.rooms["r"].consents.whose == "forbidden"
            await sender.close()

    run(main())


def test_who_refuses_where_everybody_is_recorded_may_not_publish(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on", whose="required")) as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Dr. A")
            assert cart.joined["consent"]["notice"]
            assert (await doctor.ask("consent", given=False))["type"] == "ok"
            offer = make_offer(video("sendonly", VP8, ssrc=5))
            refused = await doctor.ask("offer", sdp=offer, publish=[{"mid": "0", "source": "camera"}])
            assert refused["code"] == "forbidden"
            assert "you have refused" in refused["message"]
            sender, names = await publish(cart, {"camera": VideoStreamTrack()})
            await tracks(doctor, names["camera"], state="on")
            await cart.send("consent", id=99, given=False)
            assert await cart.closed() == 4403
            assert cart.news[-1]["fatal"]
            left = await doctor.until("participant-left")
            assert left["reason"] == "refused-recording"
            await sender.close()
            answer = await s.http.post(
                f"{s.url}/whip/r",
                data=await whip_offer(),
                headers=s.bearer("cart") | SDP | {"Recording-Consent": "refused"},
            )
            assert answer.status == 403
            assert (await answer.json())["code"] == "recording-refused"
            answer = await s.http.post(
                f"{s.url}/whip/r",
                data=await whip_offer(),
                headers=s.bearer("cart") | SDP | {"Recording-Consent": "perhaps"},
            )
            assert answer.status == 400

    run(main())


def test_by_token_and_by_whip(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on", whose="consent", withdrawal="erase")) as s:
            at = s.server.clock.wall() - 60
            claim = ConsentClaim(given=True, at=at, version="ward 7", by="Ward app")
            cart = await s.doctor("Cart", "cart", consent=claim)
            (seen,) = (p for p in cart.joined["participants"] if p["name"] == "Cart")
            assert seen["consent"] == "given"
            sender, names = await publish(cart, {"camera": VideoStreamTrack()})
            first = await tracks(cart, names["camera"], state="on")
            answer = await s.http.post(
                f"{s.url}/whip/r",
                data=await whip_offer("sendonly", "video"),
                headers=s.bearer("cart") | SDP | {"Recording-Consent": 'given; version="3"'},
            )
            assert answer.status == 201, await answer.text()
            assert answer.headers["Recording-Rule"] == "consent"
            live: LiveRoom = s.server.rooms["r"]
            (probe,) = (m for m in live.members.values() if m.via == "whip")
            assert live.consents.admits(probe.id, Source.CAMERA)
            await s.http.post(
                f"{s.url}/whip/r", data=await whip_offer("sendonly", "video"), headers=s.bearer("cart") | SDP
            )
            assert len(live.recording.tracks) == 2, "who says nothing is not recorded"
            # The application withdraws it for them; the token's word counts no longer.
            s.server.recordings.consent.say(live, cart.joined["participant"], False, witness="Nurse O.")
            await tracks(cart, *[t.id for t in live.tracks if t.participant == probe.id])
            assert (await cart.ask("leave"))["type"] == "ok"
            await sender.close()
            again = await s.doctor("Cart", "cart", consent=claim)
            (seen,) = (p for p in again.joined["participants"] if p["id"] == again.joined["participant"])
            assert seen["consent"] == "asked"
            live.close()
            await ended(s)
            found = await detail(s, first["recording"])
            facts = {(c["state"], c["by"], c["witness"], c["version"]) for c in found["consents"]}
            assert facts == {
                ("given", "application", "Ward app", "ward 7"), ("given", "participant", "", "3"),
                ("withdrawn", "application", "Nurse O.", ""),
            }  # fmt: skip
            assert found["consents"][0]["offset_ms"] < -50_000, "it was given before the recording began"
            gone = next(track for track in found["tracks"] if track["id"] == names["camera"])
            assert gone["segments"] == []
            assert "withdrawn" in [gap["cause"] for gap in gone["gaps"]]
            async with s.http.post(
                f"{s.url}/api/archive/recordings/{found['id']}/verify", headers=s.bearer("archivist", "*")
            ) as response:
                report = await response.json()
            assert report["ok"], report
            assert any("was erased" in note for note in report["notes"])

    run(main())


def test_withdrawn_after_the_recording_has_ended(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(whose="consent", withdrawal="erase")) as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Dr. A")
            assert (await cart.ask("consent", given=True, version="1"))["type"] == "ok"
            sender, names = await publish(cart, {"camera": VideoStreamTrack()})
            assert (await doctor.ask("record", on=True))["type"] == "ok"
            live = await tracks(doctor, names["camera"], state="on")
            assert (await doctor.ask("record", on=False))["type"] == "ok"
            await recording(doctor, "off")
            assert (await cart.ask("consent", given=False))["type"] == "ok"
            await ended(s)
            await sender.close()
            found = await detail(s, live["recording"])
            assert [(c["state"], c["by"]) for c in found["consents"]] == [
                ("given", "participant"), ("withdrawn", "archive"),
            ]  # fmt: skip
            (track,) = found["tracks"]
            assert track["segments"] == []

    run(main())


def test_consent_for_some_sources(site: Open, tmp_path: Path) -> None:
    """The ultrasound yes, the room no; then one source is withdrawn, and what was recorded of it alone is erased."""

    async def main() -> None:
        async with site(recording=RecordingSettings(whose="consent", withdrawal="erase")) as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Dr. A")
            me = cart.joined["participant"]
            media = {"camera": VideoStreamTrack(), "ultrasound": VideoStreamTrack(), "dermatoscope": VideoStreamTrack()}
            sender, names = await publish(cart, media)
            assert (await doctor.ask("record", on=True))["type"] == "ok"
            await cart.until("consent-asked")
            sources = ["ultrasound", "dermatoscope"]
            assert (await cart.ask("consent", given=True, version="1", sources=["nose"]))["code"] == "bad-message"
            assert (await cart.ask("consent", given=True, version="1", sources=sources))["type"] == "ok"
            seen = await doctor.until(lambda m: m["type"] == "participant-consent" and m["consent"] == "given")
            assert (seen["participant"], seen["sources"]) == (me, sources)
            live = await tracks(doctor, names["ultrasound"], names["dermatoscope"], state="on")
            late = await s.doctor("Late", "observer")
            (view,) = (p for p in late.joined["participants"] if p["id"] == me)
            assert (view["consent"], view["consent_sources"]) == ("given", sources)
            assert (await doctor.ask("ask-consent", participant=me))["type"] == "ok", "it may agree to more"
            kept = s.server.recordings._active["r"].recording
            while sum(bool(track.segments) for track in kept.snapshot().tracks) < 2:  # noqa: ASYNC110 - the writer
                await asyncio.sleep(0.05)
            assert (await cart.ask("consent", given=False, version="1", sources=["dermatoscope"]))["type"] == "ok"
            await doctor.until(lambda m: m["type"] == "participant-consent" and m["sources"] == ["ultrasound"])
            await tracks(doctor, names["ultrasound"])
            assert (await doctor.ask("record", on=False))["type"] == "ok"
            await ended(s)
            await sender.close()
            found = await detail(s, live["recording"])
            assert [(c["state"], c["sources"]) for c in found["consents"]] == [
                ("given", sources), ("withdrawn", ["dermatoscope"]),
            ]  # fmt: skip
            by_source = {track["source"]: track for track in found["tracks"]}
            assert len(by_source["ultrasound"]["segments"]) == 1
            assert by_source["camera"]["segments"] == by_source["dermatoscope"]["segments"] == []
            assert {gap["cause"] for gap in by_source["camera"]["gaps"]} == {"consent"}
            assert "withdrawn" in {gap["cause"] for gap in by_source["dermatoscope"]["gaps"]}
        said = [(line["event"], line.get("sources")) for line in audit(tmp_path) if line["event"] in SPOKEN]
        assert said == [("consent-given", sources), ("consent-withdrawn", ["dermatoscope"])]

    run(main())


SPOKEN = ("consent-given", "consent-refused", "consent-withdrawn")


def test_a_claim_and_a_header_name_sources(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on", whose="consent")) as s:
            at = s.server.clock.wall() - 60
            claim = ConsentClaim(given=True, at=at, sources=(Source.ULTRASOUND, Source.CAMERA))
            cart = await s.doctor("Cart", "cart", consent=claim)
            me = cart.joined["participant"]
            live = s.server.rooms["r"]
            assert live.consents.agreed(me) == {Source.ULTRASOUND, Source.CAMERA}
            assert (await cart.ask("consent", given=False, sources=["camera"]))["type"] == "ok"
            keeper = await s.doctor("Dr. A")
            assert (await cart.ask("leave"))["type"] == "ok"
            again = await s.doctor("Cart", "cart", consent=claim)
            assert live.consents.agreed(again.joined["participant"]) == {Source.ULTRASOUND}, (
                "what was withdrawn stays so"
            )
            for value, wanted in (
                ('given; version="3"; sources="camera stethoscope"', {Source.CAMERA, Source.STETHOSCOPE}),
                ("given; sources=ultrasound", {Source.ULTRASOUND}),
            ):
                answer = await s.http.post(
                    f"{s.url}/whip/r",
                    data=await whip_offer("sendonly", "video"),
                    headers=s.bearer("cart") | SDP | {"Recording-Consent": value},
                )
                assert answer.status == 201, await answer.text()
                member = [m for m in live.members.values() if m.via == "whip"][-1]
                assert live.consents.agreed(member.id) == wanted
                assert bool(live.recording.tracks) == (Source.CAMERA in wanted)
                live.leave(member.id, "left")
            for value in ('given; sources=""', "given; sources=nose", "given; colour=red"):
                answer = await s.http.post(
                    f"{s.url}/whip/r",
                    data=await whip_offer("sendonly", "video"),
                    headers=s.bearer("cart") | SDP | {"Recording-Consent": value},
                )
                assert answer.status == 400
            assert keeper.joined

    run(main())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 2), st.booleans(), WORDS),
        st.tuples(st.just("decree"), st.sampled_from(STRICTNESS)),
        st.tuples(st.just("record"), st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 2)),
        st.tuples(st.just("join"), st.integers(0, 2), st.sampled_from([None, True, False]), WORDS),
    ),
    max_size=12,
)


def test_a_crowd_is_told_of_a_consent_after_who_has_come(site: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes is told of together, a consent at once: nobody hears of one whom he does not know, or of his coming."""
    monkeypatch.setattr(live_room, "CROWD", 2)

    async def main() -> None:
        async with site(recording=BY_CONSENT) as s:
            claim = ConsentClaim(given=True, at=s.server.clock.wall() - 1)
            clients = [await s.connect() for _ in range(8)]
            await asyncio.gather(*(client.join(s.token("cart", consent=claim)) for client in clients))
            everybody = {client.joined["participant"] for client in clients}
            for client in clients:
                await client.ask("participants")  # the answer comes after what has happened before
                known = {one["id"]: one["consent"] for one in client.joined["participants"]}
                for news in client.news:
                    if news["type"] == "participant-joined":
                        assert news["participant"]["id"] not in known
                        known[news["participant"]["id"]] = news["participant"]["consent"]
                    elif news["type"] == "participant-consent":
                        assert news["participant"] in known
                        known[news["participant"]] = news["consent"]
                assert known == dict.fromkeys(everybody, "given")

    run(main())


class Drawn:
    """A room of a real server in which things happen in any order; its members send nothing."""

    def __init__(self, s: Site, name: str) -> None:
        self.s = s
        self.recordings: Recordings = s.server.recordings
        self.live = s.server.rooms.enter(name)
        self.members: dict[int, Member] = {}
        self._join("observer", None)

    def _join(self, role: str, claim: ConsentClaim | None, name: str = "") -> Member:
        now = self.s.server.clock.wall()
        grant = self.s.server.verifier.verify(self.s.token(role, self.live.name, name=name, consent=claim), now)
        return self.live.join(grant, name="", via="websocket", send=lambda text: None, gone=lambda reason: None)

    def step(self, step: tuple[Any, ...]) -> None:
        live, recordings = self.live, self.recordings
        self.members = {number: one for number, one in self.members.items() if one.id in live.members}
        match step:
            case "say", number, word, sources if number in self.members:
                with suppress(RecordingRefused):
                    recordings.consent.say(live, self.members[number].id, word, sources=sources)
            case "decree", whose:
                recordings.consent.decree(live, whose)
            case "record", on:
                with suppress(RecordingRefused):
                    recordings.switch(live, on, "test")
            case "leave", number if number in self.members:
                live.leave(self.members[number].id, "left")
            case "join", number, word, sources if number not in self.members:
                at = self.s.server.clock.wall() - 10 - number
                claim = None if word is None else ConsentClaim(given=word, at=at, sources=tuple(sorted(sources)))
                member = self.members[number] = self._join("cart", claim, f"cart {number}")
                with suppress(RecordingRefused):
                    recordings.consent.check_publish(live, member.id, [Source.CAMERA, Source.ULTRASOUND])
                    sdp = make_offer(video("sendonly", VP8, ssrc=5), video("sendonly", VP8, ssrc=6))
                    sent = {"0": Publication(Source.CAMERA, ""), "1": Publication(Source.ULTRASOUND, "")}
                    live.offer(member, sdp, sent, {})

    def check(self) -> None:
        live = self.live
        active = self.recordings._active.get(live.name)
        admits, may_publish = live.consents.admits, live.consents.may_publish
        allowed = {track.id for track in live.tracks if admits(track.participant, track.source)}
        if live.consents.whose == "consent":
            assert allowed == {t.id for t in live.tracks if t.source in live.consents.agreed(t.participant)}
        tapped = set(active.taps) if active is not None else set()
        assert tapped == (allowed if active is not None else set())
        assert set(live.recording.tracks) == tapped, "and everybody is told so"
        if active is not None:
            assert live.consents.whose != "forbidden"
            assert active.withheld == {track.id for track in live.tracks} - allowed
        assert not [track for track in live.tracks if not may_publish(track.participant, track.source)]


def test_the_taps_are_those_of_who_agrees(site: Open) -> None:
    """Whatever happens in whatever order: no tap is open on a track whose participant does not allow it for its
    source."""

    async def main() -> None:
        async with site(recording=RecordingSettings(whose="consent", settle_seconds=0)) as s:
            numbers = itertools.count()

            @settings(max_examples=40, deadline=None)
            @given(STEPS)
            def holds(steps: list[tuple[Any, ...]]) -> None:
                drawn = Drawn(s, f"room-{next(numbers)}")
                for step in steps:
                    drawn.step(step)
                    drawn.check()
                drawn.live.close()

            holds()
            await ended(s)

    run(main())
