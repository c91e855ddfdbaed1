"""Whatever becomes of an offer on its way, the parser and the answerer say `OfferError` or go on; nothing else."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.sfu.session.model import PublishAll, Source, SubscribeAll
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.wire.sdp import OfferError, parse
from tests.sfu.session.harness import join, make_room
from tests.sfu.wire.offers import NAMES, real_offer

OFFERS = [real_offer(name) for name in NAMES]
WORDS = [
    "a=mid:0",
    "a=group:BUNDLE",
    "m=video 0 UDP/TLS/RTP/SAVPF 96",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    "a=ssrc:1 cname:x",
    "a=ssrc-group:FID 1 2",
    "a=ssrc-group:FID 1 1",
    "a=rtpmap:96 H264/90000",
    "a=fmtp:96 profile-level-id=zzzzzz;packetization-mode=1",
    "a=fmtp:96 apt=96",
    "a=rtpmap:97 rtx/90000",
    "a=fmtp:97 apt=97",
    "a=extmap:255 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=setup:passive",
    "a=inactive",
    "a=sendrecv",
    "a=ice-lite",
    "a=fingerprint:md5 00",
    "a=rtcp-fb:* transport-cc",
    "\x00",
    "🩺",
    "=",
    ":",
    " ",
    "/",
    "99999999999999999999",
    "-1",
]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A real offer with lines taken out, doubled, moved, cut, and with words put in."""
    lines = draw(st.sampled_from(OFFERS)).split("\r\n")
    rng = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(1, 12))):
        at = rng.randrange(len(lines))
        match rng.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(rng.randrange(len(lines)), lines[at])
            case 2:
                lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
            case 3:
                cut = rng.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:cut] + rng.choice(WORDS) + lines[at][cut:]
            case 4:
                lines.insert(at, rng.choice(WORDS))
            case 5:
                other = rng.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
        lines = lines or ["v=0"]
    return rng.choice(["\r\n", "\n"]).join(lines)


def answer(text: str) -> None:
    """Offer it to a room twice, as publisher and viewer of everything; every answer must be a description again."""
    room, _ = make_room(plane=Engine())  # the real one: it checks what it is told
    join(room, "other", "peer")
    room.offer("other", real_offer("chromium-cart"), publish=PublishAll(video=Source.ULTRASOUND), subscribe={}, now=0)
    for _ in range(2):
        try:
            negotiated = room.offer("peer", text, publish=PublishAll(), subscribe=SubscribeAll(), now=0)
        except OfferError:
            continue
        offered, answered = parse(text), parse(negotiated.answer)
        assert [m.kind for m in answered.media] == [m.kind for m in offered.media]
        for ours, theirs in zip(answered.media, offered.media, strict=True):
            assert ours.mid == theirs.mid
            assert ours.rejected or set(ours.formats) <= set(theirs.formats)
            assert ours.rejected or not (ours.sends and not theirs.receives)
            assert ours.rejected or not (ours.receives and not theirs.sends)
    room.leave("peer", "left", 0)
    room.leave("other", "left", 0)
    assert not room.tracks


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_a_mutated_offer(text: str) -> None:
    answer(text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_text_that_is_no_offer(text: str) -> None:
    answer("v=0\r\n" + text)
    answer(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS + [line for offer in OFFERS for line in offer.split("\r\n")]), max_size=60))
def test_lines_of_real_offers_in_any_order(lines: list[str]) -> None:
    answer("v=0\r\n" + "\r\n".join(lines))
