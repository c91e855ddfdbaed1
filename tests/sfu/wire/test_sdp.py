"""The SDP parser against what browsers really send, and against what nobody should."""

from __future__ import annotations

import pytest

from mediaserver.sfu.wire import sdp
from mediaserver.sfu.wire.sdp import OfferError, parse, parse_candidate
from tests.sfu.wire.offers import NAMES, real_offer

SMALL = """v=0
o=- 1 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
m=video 9 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 0.0.0.0
a=ice-ufrag:abcd
a=ice-pwd:0123456789abcdefghijkl
a=fingerprint:sha-256 AA:BB
a=setup:actpass
a=mid:0
a=sendonly
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
"""


@pytest.mark.parametrize("name", NAMES)
def test_every_real_offer_is_read_to_the_end(name: str) -> None:
    text = real_offer(name)
    offer = parse(text)
    assert len(offer.media) == text.count("\r\nm=")
    for media in offer.media:
        assert media.mid
        if media.kind != "application":
            assert media.formats
            assert set(media.formats) <= {int(one) for one in media.fmt}
        if not media.rejected:
            assert media.transport.ufrag
            assert media.transport.fingerprints[0][0] == "sha-256"
            assert media.transport.setup in ("actpass", "passive")


def test_facts_of_a_chromium_offer() -> None:
    offer = parse(real_offer("chromium-sendonly"))
    assert offer.bundle == ("0", "1")
    assert offer.allow_mixed
    video, audio = offer.media
    assert (video.kind, video.direction, video.rtcp_mux, video.rtcp_rsize) == ("video", "sendonly", True, True)
    assert next(iter(video.formats)) == 96
    vp8 = video.formats[96]
    assert (vp8.name, vp8.clock_rate, vp8.channels) == ("VP8", 90000, 1)
    assert vp8.feedback == ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"]
    h264 = next(one for one in video.formats.values() if one.name == "H264")
    assert h264.parameters == {
        "level-asymmetry-allowed": "1",
        "packetization-mode": "1",
        "profile-level-id": "42001f",
    }
    [ssrc] = video.primary_ssrcs()
    assert video.rtx_ssrc(ssrc) in video.ssrcs
    assert video.ssrcs[ssrc]["cname"]
    assert len(video.msids) == 1
    assert audio.formats[111].channels == 2
    assert audio.primary_ssrcs() == list(audio.ssrcs)
    assert any(candidate.transport == "udp" for candidate in video.candidates)


def test_facts_of_a_firefox_offer() -> None:
    offer = parse(real_offer("firefox-sendonly"))
    video = offer.media[0]
    assert video.transport.fingerprints[0][1] == offer.transport.fingerprints[0][1]  # from the session's level
    assert video.transport.ice_options == ("trickle",)
    assert video.allow_mixed
    assert not offer.allow_mixed
    delay = next(one for one in video.extensions if one.uri.endswith("playout-delay"))
    assert delay.direction == "recvonly"
    assert video.formats[120].parameters == {"max-fs": "12288", "max-fr": "60"}  # its fmtp stands before its rtpmap
    assert video.end_of_candidates


def test_simulcast_is_kept_as_it_stands() -> None:
    media = parse(real_offer("chromium-simulcast")).media[0]
    assert media.rids == {"q": "send", "h": "send", "f": "send"}
    assert media.simulcast == "send q;h;f"
    assert media.ssrcs == {}


def test_a_stopped_line_is_rejected_and_its_place_used_again() -> None:
    stopped = parse(real_offer("chromium-reoffer-3-stopped"))
    assert [media.rejected for media in stopped.media] == [True, False, False]
    recycled = parse(real_offer("chromium-reoffer-4-recycled"))
    assert not recycled.media[0].rejected
    assert recycled.media[0].mid not in {media.mid for media in stopped.media}


def test_an_ice_restart_changes_the_credentials_alone() -> None:
    before, after = (
        parse(real_offer("chromium-reoffer-4-recycled")),
        parse(real_offer("chromium-reoffer-5-ice-restart")),
    )
    assert before.media[0].transport.ufrag != after.media[0].transport.ufrag
    assert before.media[0].transport.fingerprints == after.media[0].transport.fingerprints
    assert [media.mid for media in before.media] == [media.mid for media in after.media]


def test_lines_may_end_in_lf_alone_and_empty_ones_do_not_matter() -> None:
    assert parse(SMALL) == parse(SMALL.replace("\n", "\r\n"))
    assert len(parse(SMALL + "\n\n").media) == 1


def test_a_media_level_fingerprint_replaces_the_session_s() -> None:
    text = SMALL.replace("t=0 0\n", "t=0 0\na=fingerprint:sha-1 CC:DD\na=setup:active\n")
    transport = parse(text).media[0].transport
    assert transport.fingerprints == [("sha-256", "AA:BB")]
    assert transport.setup == "actpass"


def test_wildcard_feedback_counts_for_every_format() -> None:
    formats = parse(SMALL + "a=rtcp-fb:* nack  pli\n").media[0].formats
    assert [one.feedback for one in formats.values()] == [["nack pli"], ["nack pli"]]


def test_unknown_attributes_are_kept_by_name() -> None:
    media = parse(SMALL + "a=framerate:30\na=x-something\n").media[0]
    assert media.others == {"framerate": "30", "x-something": ""}


def test_bundle_only_lines_are_not_rejected() -> None:
    media = parse(SMALL.replace("m=video 9", "m=video 0") + "a=bundle-only\n").media[0]
    assert not media.rejected


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("v=0", "v=1", "line 1: v=1"),
        ("m=video 9 UDP/TLS/RTP/SAVPF 96 97", "m=video", "line 6: m=video"),
        ("m=video 9", "m=video ninety", "line 6: m=video ninety UDP/TLS/RTP/SAVPF 96 97"),
        ("m=video 9", "m=video 70000", "line 6: m=video 70000 UDP/TLS/RTP/SAVPF 96 97"),
        ("SAVPF 96 97", "SAVPF 96 200", "line 6: m=video 9 UDP/TLS/RTP/SAVPF 96 200"),
        ("a=ice-ufrag:abcd", "a=ice-ufrag:abc", "line 8: a=ice-ufrag:abc"),
        ("a=ice-pwd:0123456789abcdefghijkl", "a=ice-pwd:short", "line 9: a=ice-pwd:short"),
        ("sha-256 AA:BB", "sha-256 AABB", "line 10: a=fingerprint:sha-256 AABB"),
        ("a=setup:actpass", "a=setup:maybe", "line 11: a=setup:maybe"),
        ("a=mid:0", "a=mid:a b", "line 12: a=mid:a b"),
        ("a=mid:0", f"a=mid:{'x' * 33}", f"line 12: a=mid:{'x' * 33}"),
        ("VP8/90000", "VP8", "line 15: a=rtpmap:96 VP8"),
        ("VP8/90000", "VP8/0", "line 15: a=rtpmap:96 VP8/0"),
        ("a=rtpmap:97 rtx", "a=rtpmap:96 rtx", "line 16: a=rtpmap:96 rtx/90000"),
        ("a=fmtp:97", "a=fmtp:banana", "line 17: a=fmtp:banana apt=96"),
        ("a=rtcp-mux", "a=extmap:0 urn:x", "line 14: a=extmap:0 urn:x"),
        ("a=rtcp-mux", "a=extmap:1/up urn:x", "line 14: a=extmap:1/up urn:x"),
        ("a=rtcp-mux", "a=extmap:1", "line 14: a=extmap:1"),
        ("a=rtcp-mux", "a=ssrc:99999999999 cname:x", "line 14: a=ssrc:99999999999 cname:x"),
        ("a=rtcp-mux", "a=ssrc:١ cname:x", "line 14: a=ssrc:١ cname:x"),
        ("a=rtcp-mux", "a=ssrc-group:", "line 14: a=ssrc-group:"),
        ("a=rtcp-mux", "a=candidate:1 1 udp", "line 14: a=candidate:1 1 udp"),
        ("a=group:BUNDLE 0", "a=group:BUNDLE 0 0", "line 5: a=group:BUNDLE 0 0"),
        ("s=-", "session", "line 3: 'session'"),
        ("s=-", "s=\0", "line 3: 's=\\x00'"),
    ],
)
def test_an_error_names_the_line(old: str, new: str, line: str) -> None:
    assert old in SMALL
    with pytest.raises(OfferError) as caught:
        parse(SMALL.replace(old, new, 1))
    assert caught.value.code == "bad-sdp"
    assert caught.value.line == line


def test_a_mid_stands_once() -> None:
    second = SMALL[SMALL.index("m=video") :]
    with pytest.raises(OfferError, match="stands twice") as caught:
        parse(SMALL + second)
    assert caught.value.line.startswith("line 18: m=video")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad-sdp"),
        ("\r\n" * 5, "bad-sdp"),
        ("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", "bad-sdp"),
        ("v=0\r\n" + "a=x\r\n" * 10_000, "too-large"),
        ("v=0\r\na=" + "x" * 10_000, "too-large"),
        ("v=0\r\n" + "a" * 300_000, "too-large"),
        ("v=0\r\n" + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 65, "too-large"),
        ("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF" + " 96" * 300, "bad-sdp"),
        (SMALL + "".join(f"a=ssrc:{n} cname:x\n" for n in range(300)), "bad-sdp"),
        (SMALL + "".join(f"a=candidate:1 1 udp 1 10.0.0.1 {n} typ host\n" for n in range(300)), "bad-sdp"),
        (SMALL + "a=rtcp-fb:96 nack\n" * 300, "bad-sdp"),
        (SMALL + "a=msid:x y\n" * 300, "bad-sdp"),
    ],
)
def test_sizes_are_bounded(text: str, code: str) -> None:
    with pytest.raises(OfferError) as caught:
        parse(text)
    assert caught.value.code == code
    assert len(str(caught.value)) < 1000


def test_the_limits_of_size_are_the_caller_s() -> None:
    with pytest.raises(OfferError, match="more than 100 bytes"):
        parse(SMALL, max_bytes=100)
    with pytest.raises(OfferError, match="more than 0 m-lines"):
        parse(SMALL, max_media=0)


@pytest.mark.parametrize("prefix", ["", "candidate:", "a=candidate:"])
def test_a_trickled_candidate(prefix: str) -> None:
    candidate = parse_candidate(prefix + "842163049 1 udp 1677729535 203.0.113.9 46154 typ srflx raddr 0.0.0.0 rport 0")
    assert (candidate.address, candidate.port, candidate.type) == ("203.0.113.9", 46154, "srflx")


@pytest.mark.parametrize(
    "text", ["x", "1 1 udp 1 10.0.0.1 99999 typ host", "1 1 udp x 10.0.0.1 9 typ host", "a" * 10**6]
)
def test_a_bad_candidate(text: str) -> None:
    with pytest.raises(OfferError):
        parse_candidate(text)


# What is read once for all offers of a browser


def test_offers_that_say_the_same_of_codecs_share_it() -> None:
    text = real_offer("chromium-recvonly")
    first, second = parse(text), parse(text.replace("SkkA", "other"))
    assert second.media[0].transport.ufrag == "other"
    for one, other in zip(first.media, second.media, strict=True):
        assert one.codecs is other.codecs
    changed = parse(text.replace("a=rtcp-fb:96 nack pli", "a=rtcp-fb:96 nack rpsi", 1))
    assert changed.media[0].codecs is not first.media[0].codecs
    assert "nack rpsi" in changed.media[0].formats[96].feedback
    assert "nack rpsi" not in first.media[0].formats[96].feedback


def test_the_order_of_the_m_line_is_its_own() -> None:
    body = "a=rtpmap:96 VP8/90000\r\na=rtpmap:97 VP9/90000\r\n"
    orders = [
        list(parse(f"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF {types}\r\n{body}").media[0].formats)
        for types in ("96 97", "97 96", "97")
    ]
    assert orders == [[96, 97], [97, 96], [97]]


def test_what_is_wrong_is_told_each_time_with_its_line() -> None:
    for number in range(2):
        text = "v=0\r\n" + "s=-\r\n" * number + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8\r\n"
        with pytest.raises(OfferError) as caught:
            parse(text)
        assert caught.value.line == f"line {3 + number}: a=rtpmap:96 VP8"


def test_what_is_kept_is_bounded() -> None:
    for number in range(2 * sdp.KEPT):
        parse(f"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 X{number}/90000\r\n")
    long = "".join(f"a=rtcp-fb:96 {'x' * 1000}{number}\r\n" for number in range(20))
    parse(f"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n{long}")
    assert len(sdp._kept) == sdp.KEPT
    assert max(len(text) for _, text in sdp._kept) <= sdp.KEPT_BYTES
