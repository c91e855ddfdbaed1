"""Offers as another implementation reads them, and answers of another implementation as we do."""

from __future__ import annotations

import asyncio

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import SessionDescription

from mediaserver.loadtest.dtls import Identity
from mediaserver.loadtest.offer import (
    H264,
    OPUS,
    VP8,
    AnswerError,
    Credentials,
    Section,
    read_answer,
    write_offer,
)

SECTIONS = [
    Section("0", "video", "sendonly", (H264,), ssrc=1001, rtx_ssrc=1002),
    Section("1", "audio", "sendonly", (OPUS,), ssrc=1003),
    Section("2", "video", "recvonly", (H264, VP8)),
    Section("3", "audio", "recvonly", (OPUS,)),
]
CREDENTIALS = Credentials("abcd", "secret-of-24-characters.")
FINGERPRINT = ":".join(["AB"] * 32)


def test_an_offer_reads_as_it_was_meant() -> None:
    offer = SessionDescription.parse(write_offer(SECTIONS, CREDENTIALS, FINGERPRINT, "me"))
    assert [group.items for group in offer.group if group.semantic == "BUNDLE"] == [["0", "1", "2", "3"]]
    assert [media.kind for media in offer.media] == ["video", "audio", "video", "audio"]
    assert [media.direction for media in offer.media] == ["sendonly", "sendonly", "recvonly", "recvonly"]
    for media in offer.media:
        assert media.ice.usernameFragment == "abcd"
        assert media.ice.password == "secret-of-24-characters."
        assert media.dtls.fingerprints[0].value == FINGERPRINT
        assert media.rtcp_mux
        assert len(media.rtp.headerExtensions) == 3
        assert any(item.type == "transport-cc" for item in media.rtp.codecs[0].rtcpFeedback)
    video = offer.media[0]
    assert [codec.mimeType for codec in video.rtp.codecs] == ["video/H264", "video/rtx"]
    assert video.rtp.codecs[1].parameters == {"apt": 102}
    assert [item.ssrc for item in video.ssrc] == [1001, 1002]
    assert video.ssrc_group[0].semantic == "FID"
    assert not offer.media[2].ssrc


async def answered() -> str:
    peer = RTCPeerConnection()
    try:
        offer = write_offer(SECTIONS, CREDENTIALS, FINGERPRINT)
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        for transceiver, kind in zip(peer.getTransceivers(), ("video", "audio", "video", "audio"), strict=True):
            assert transceiver.kind == kind
        for transceiver in peer.getTransceivers()[2:]:
            transceiver.direction = "sendonly"
        await peer.setLocalDescription(await peer.createAnswer())
        return str(peer.localDescription.sdp)
    finally:
        await peer.close()


@pytest.fixture(scope="module")
def answer_sdp() -> str:
    return asyncio.run(answered())


def test_an_answer_gives_what_a_session_needs(answer_sdp: str) -> None:
    answer = read_answer(answer_sdp)
    assert answer.setup == "active"
    assert len(answer.fingerprint.split(":")) == 32
    assert len(answer.password) >= 22
    assert all(port > 0 for _, port in answer.candidates)
    assert [section.mid for section in answer.sections] == ["0", "1", "2", "3"]
    assert all(section.accepted for section in answer.sections)
    assert answer.sections[0].codecs[102] == "H264"
    assert answer.sections[0].apt == {103: 102}
    assert answer.sections[0].direction == "recvonly"
    assert len(answer.sections[2].ssrcs) == 1
    assert answer.sections[2].repairs.keys() == set(answer.sections[2].ssrcs)
    assert answer.sections[2].extensions[1] == "urn:ietf:params:rtp-hdrext:sdes:mid"


def test_a_declined_line_is_told(answer_sdp: str) -> None:
    lines = answer_sdp.split("\r\n")
    index = next(number for number, line in enumerate(lines) if line.startswith("m=audio"))
    parts = lines[index].split()
    lines[index] = " ".join(["m=audio", "0", *parts[2:]])
    answer = read_answer("\r\n".join(lines))
    assert [section.accepted for section in answer.sections] == [True, False, True, True]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a=ice-ufrag", "ufrag"),
        ("a=ice-pwd", "password"),
        ("a=fingerprint:sha-256", "fingerprint"),
        ("a=candidate", "candidates"),
        ("m=", "no m-line"),
    ],
)
def test_an_answer_that_lacks_something_says_what(answer_sdp: str, line: str, words: str) -> None:
    broken = "\r\n".join(kept for kept in answer_sdp.split("\r\n") if not kept.startswith(line))
    with pytest.raises(AnswerError, match=words):
        read_answer(broken)


def test_an_answer_that_declines_all_is_an_error(answer_sdp: str) -> None:
    lines = [
        " ".join([line.split()[0], "0", *line.split()[2:]]) if line.startswith("m=") else line
        for line in answer_sdp.split("\r\n")
    ]
    with pytest.raises(AnswerError, match="accepts no"):
        read_answer("\r\n".join(lines))


def test_a_fingerprint_is_that_of_its_certificate() -> None:
    one, two = Identity(), Identity()
    assert len(one.fingerprint) == 95
    assert one.fingerprint != two.fingerprint
