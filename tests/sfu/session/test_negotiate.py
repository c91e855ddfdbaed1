"""Which codecs, feedback and extensions are agreed on, on real offers and on small ones."""

from __future__ import annotations

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.session import negotiate
from mediaserver.sfu.session.model import Source
from mediaserver.sfu.session.negotiate import (
    Agreed,
    agree_extensions,
    agree_formats,
    answer_fmtp,
    choose_published,
    match_payloads,
    payload_params,
    source_fits,
)
from mediaserver.sfu.session.settings import DEFAULT_SOURCES, SourcePolicy
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.sdp import Media, parse
from tests.sfu.session.offers import H264, OPUS, TWCC, VP8, Line, audio, make_offer, video
from tests.sfu.wire.offers import real_offer


def media(line: Line) -> Media:
    return parse(make_offer(line)).media[0]


def agreed(*codecs: str) -> list[Agreed]:
    offered = media(video("sendrecv", *codecs))
    return agree_formats(offered, agree_extensions(offered))


def names(formats: list[Agreed]) -> list[str]:
    return [one.format.name for one in formats]


def real(name: str, at: int = 0) -> list[Agreed]:
    offered = parse(real_offer(name)).media[at]
    return agree_formats(offered, agree_extensions(offered))


def test_what_chromium_sends() -> None:
    assert dict.fromkeys(names(real("chromium-sendonly"))) == dict.fromkeys(["VP8", "H264", "AV1", "VP9"])
    assert names(real("chromium-sendonly", 1)) == ["opus", "red"]


def test_what_firefox_sends() -> None:
    assert names(real("firefox-sendonly")) == ["VP8", "VP9", "AV1"]
    assert names(real("firefox-sendonly", 1)) == ["opus"]


def test_red_of_video_and_ulpfec_and_telephone_events_are_not_taken() -> None:
    taken = {one.payload_type for at in (0, 1) for one in real("firefox-sendonly", at)}
    offered = {name for m in parse(real_offer("firefox-sendonly")).media for name in m.formats}
    assert taken == {120, 121, 99, 109}
    assert offered > taken


def test_the_publisher_s_order_rules_unless_the_source_s_does() -> None:
    offered = real("chromium-sendonly")
    assert set(names(choose_published(offered, SourcePolicy()))) == {"VP8"}
    chosen = choose_published(offered, DEFAULT_SOURCES[Source.ULTRASOUND])
    assert set(names(chosen)) == {"H264"}
    assert all(one.format.parameters["packetization-mode"] == "1" for one in chosen)
    assert names(choose_published(real("firefox-sendonly"), DEFAULT_SOURCES[Source.ULTRASOUND])) == ["VP8"]
    assert choose_published([], SourcePolicy()) == []


def test_h264_without_packetization_mode_1_is_taken_where_there_is_nothing_better() -> None:
    assert len(choose_published(agreed("H264/90000 profile-level-id=42e01f"), SourcePolicy())) == 1


def test_h264_interleaved_and_vp9_4_4_4_are_not_carried() -> None:
    assert agreed("H264/90000 packetization-mode=2", "VP9/90000 profile-id=1", "VP8/1000") == ()


def test_a_clock_rate_or_kind_that_is_not_the_codec_s_own_is_another_codec() -> None:
    assert agree_formats(media(audio("sendonly", "VP8/90000", "opus/16000/2")), []) == ()


def test_retransmission_and_feedback_of_a_payload_type() -> None:
    vp8 = real("chromium-sendonly")[0]
    assert vp8.feedback == ("nack", "nack pli", "ccm fir", "transport-cc")  # REMB gives way
    params = payload_params(vp8)
    assert (params.payload_type, params.codec, params.clock_rate, params.rtx_type) == (96, Codec.CODEC_VP8, 90000, 97)
    assert (params.nack, params.pli, params.fir, params.transport_cc, params.remb) == (True, True, True, True, False)
    opus = payload_params(real("chromium-sendonly", 1)[0])
    assert (opus.rtx_type, opus.nack, opus.transport_cc) == (0, False, True)


def test_remb_where_there_is_no_transport_wide_feedback() -> None:
    text = make_offer(video(extra="a=rtcp-fb:96 goog-remb"))
    text = "\r\n".join(line for line in text.split("\r\n") if "transport-wide" not in line)
    offered = parse(text).media[0]
    assert agree_formats(offered, agree_extensions(offered))[0].feedback == ("nack", "nack pli", "goog-remb")


def h264(profile: str, mode: int = 1) -> str:
    return f"H264/90000 packetization-mode={mode};profile-level-id={profile}"


@pytest.mark.parametrize(
    ("sent", "offered", "taken"),
    [
        (VP8, [H264, VP8], 98),
        (VP8, [H264], None),
        (h264("42e01f"), [h264("640c1f"), h264("42e01f")], 98),  # the same before a higher one
        (h264("42001f"), [h264("42e01f")], 96),  # baseline is constrained baseline in practice
        (h264("42e01f"), [h264("64001f")], 96),
        (h264("42e01f"), [h264("64001f"), h264("4d001f")], 98),  # the nearest
        (h264("4d001f"), [h264("42e01f")], None),
        (h264("640028"), [h264("4d0028")], None),
        (h264("640028"), [h264("64001f")], 96),  # levels do not count
        (h264("f40028"), [h264("640028")], None),
        (h264("f40028"), [h264("f4001f")], 96),
        (h264("zzzzzz"), [h264("42e01f")], None),
        (h264("4d801f"), [h264("42e01f")], 96),  # main with constraint_set0 is baseline's too
        (h264("58c01f"), [h264("42e01f")], 96),
        (h264("58001f"), [h264("42e01f")], None),
        (h264("42e01f"), [h264("42e01f", 0)], None),
        (h264("42e01f", 0), [h264("42e01f", 1)], 96),
        ("VP9/90000 profile-id=2", ["VP9/90000 profile-id=0", "VP9/90000 profile-id=2"], 98),
        ("VP9/90000", ["VP9/90000 profile-id=0"], 96),
        ("VP9/90000 profile-id=2", ["VP9/90000"], None),
        ("AV1/90000", ["AV1/90000 level-idx=5;profile=0;tier=0"], 96),
        ("AV1/90000 profile=1", ["AV1/90000 profile=0"], None),
        ("H265/90000 level-id=93", ["H265/90000 profile-id=1;tier-flag=0"], 96),
        ("H265/90000 profile-id=2", ["H265/90000 profile-id=1"], None),
    ],
)
def test_which_payload_type_of_a_viewer_takes_a_publisher_s(sent: str, offered: list[str], taken: int | None) -> None:
    found = match_payloads(agreed(sent), agreed(*offered))
    if taken is None:
        assert found == ()
    else:
        [leg] = found
        assert (leg.incoming, leg.outgoing, leg.rtx_type, leg.nack) == (96, taken, taken + 1, True)


def test_a_viewer_with_other_numbers() -> None:
    """Chromium's publisher to Firefox's viewer: each has payload types of its own."""
    published = choose_published(real("chromium-sendonly"), SourcePolicy())
    [leg] = match_payloads(published, real("firefox-recvonly"))
    assert (leg.incoming, leg.outgoing, leg.rtx_type) == (96, 120, 124)
    sound, red = match_payloads(real("chromium-sendonly", 1), real("firefox-recvonly", 2))
    assert (sound.incoming, sound.outgoing, sound.rtx_type, sound.unwrap) == (111, 109, 0, False)
    assert (red.incoming, red.outgoing, red.unwrap) == (63, 109, True)


RED = "red/48000/2 111/111"


def sound(*codecs: str) -> list[Agreed]:
    offered = media(audio("sendrecv", *codecs))
    return agree_formats(offered, agree_extensions(offered))


def test_red_stands_where_the_publisher_puts_it_and_names_what_is_inside() -> None:
    assert [one.payload_type for one in choose_published(sound(OPUS, RED), SourcePolicy())] == [111, 112]
    first = sound("red/48000/2 112/112", OPUS)
    assert names(choose_published(first, SourcePolicy())) == ["red", "opus"]
    assert negotiate.main_codec(first) == "OPUS"
    assert payload_params(first[0]).codec == Codec.CODEC_RED
    assert answer_fmtp(first[0], DEFAULT_SOURCES[Source.STETHOSCOPE]) == "112/112"


@pytest.mark.parametrize("fmtp", ["", "111/112", "111/", "0/0", "112/112", "x/x", "1111/1111", "²/²"])
def test_red_around_something_else_is_not_taken(fmtp: str) -> None:
    assert names(sound(OPUS, f"red/48000/2 {fmtp}")) == ["opus"]


def test_red_alone_is_nothing() -> None:
    assert sound(RED) == ()


def test_red_is_forwarded_to_those_who_take_it_and_unwrapped_for_the_others() -> None:
    published = choose_published(sound(OPUS, RED), SourcePolicy())
    assert [(p.incoming, p.outgoing, p.unwrap) for p in match_payloads(published, sound(OPUS, RED))] == [
        (111, 111, False),
        (112, 112, False),
    ]
    assert [(p.incoming, p.outgoing, p.unwrap) for p in match_payloads(published, sound(OPUS))] == [
        (111, 111, False),
        (112, 111, True),
    ]
    # The copies bear the number of what is inside: where that is another, they would be taken for something else.
    other = sound("red/48000/2 112/112", OPUS)
    assert [(p.incoming, p.outgoing, p.unwrap) for p in match_payloads(published, other)] == [
        (111, 112, False),
        (112, 112, True),
    ]


def test_red_is_one_stream_with_the_opus_inside() -> None:
    offered = media(audio("sendrecv", OPUS, RED, extra="a=rtcp-fb:111 nack"))
    opus, red = agree_formats(offered, agree_extensions(offered))
    assert payload_params(red).nack
    assert red.feedback == opus.feedback


def test_extensions_keep_the_ids_of_the_offer() -> None:
    offered = parse(real_offer("chromium-all-extensions")).media[0]
    kinds = {one.kind: one.id for one in agree_extensions(offered)}
    assert kinds[ExtKind.EXT_MID] == 9
    assert kinds[ExtKind.EXT_TWCC] == 4
    assert kinds[ExtKind.EXT_ABS_CAPTURE_TIME] == 13
    assert kinds[ExtKind.EXT_DEPENDENCY_DESCRIPTOR] == 16  # past what one byte can say
    assert ExtKind.EXT_ABS_SEND_TIME not in kinds
    assert ExtKind.EXT_VIDEO_ORIENTATION not in kinds
    assert ExtKind.EXT_RID not in kinds


def test_abs_send_time_where_there_is_no_transport_wide_number() -> None:
    text = make_offer(video()).replace(TWCC, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time")
    assert ExtKind.EXT_ABS_SEND_TIME in {one.kind for one in agree_extensions(parse(text).media[0])}


def test_the_direction_of_an_extension() -> None:
    sending, receiving = (parse(real_offer(name)).media[0] for name in ("firefox-sendonly", "firefox-recvonly"))
    assert ExtKind.EXT_PLAYOUT_DELAY not in {one.kind for one in agree_extensions(sending)}
    agreed_there = agree_extensions(receiving)
    assert ExtKind.EXT_PLAYOUT_DELAY in {kind for _, kind in negotiate.outgoing_extensions(agreed_there)}
    assert ExtKind.EXT_PLAYOUT_DELAY not in {kind for _, kind in negotiate.incoming_extensions(agreed_there)}


def opus(fmtp: str, policy: SourcePolicy | None) -> dict[str, str]:
    offered = media(audio("sendonly", f"opus/48000/2 {fmtp}"))
    text = answer_fmtp(agree_formats(offered, [])[0], policy)
    return dict(part.split("=") for part in text.split(";"))


def test_what_is_asked_of_a_stethoscope() -> None:
    asked = opus("minptime=10;useinbandfec=1;stereo=1", DEFAULT_SOURCES[Source.STETHOSCOPE])
    assert asked["stereo"] == "0"
    assert asked["usedtx"] == "0"
    assert asked["maxaveragebitrate"] == "128000"
    assert asked["useinbandfec"] == "0"
    assert asked["cbr"] == "1"


def test_what_is_asked_of_a_voice() -> None:
    assert opus("minptime=10", SourcePolicy()) == {"minptime": "10", "useinbandfec": "1"}
    assert opus("sprop-stereo=1", SourcePolicy())["stereo"] == "1"
    assert opus("stereo=1", None) == {"minptime": "10", "useinbandfec": "1"}


def test_the_fmtp_of_a_picture_comes_back_as_it_was() -> None:
    [one] = agreed(H264)
    assert answer_fmtp(one, SourcePolicy()) == "packetization-mode=1;profile-level-id=42e01f"


def test_which_sources_are_sound() -> None:
    sounds = {source for source in Source if source_fits(source, "audio")}
    pictures = {source for source in Source if source_fits(source, "video")}
    assert sounds == {Source.MICROPHONE, Source.STETHOSCOPE, Source.SCREEN}
    assert pictures == set(Source) - {Source.MICROPHONE, Source.STETHOSCOPE, Source.VITALS}


def test_opus_is_opus() -> None:
    assert agree_formats(media(audio("sendonly", OPUS)), [])[0].codec == Codec.CODEC_OPUS
