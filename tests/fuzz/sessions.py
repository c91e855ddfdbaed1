"""Offers to a room and datagrams to a DTLS session, as a hostile participant may send them."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

from mediaserver import whip
from mediaserver.sfu.session.dtls import DtlsSession
from mediaserver.sfu.session.model import Publication, Source, SubscribeAll
from mediaserver.sfu.session.room import RoomError
from mediaserver.sfu.wire import sdp
from tests.sfu.session.harness import identity, join, make_room
from tests.sfu.session.offers import audio, make_offer, video

from .steps import steps

SOURCES = (Source.MICROPHONE, Source.ULTRASOUND)
SECOND = 1_000_000


def offers(data: bytes) -> None:
    """Offers, zero bytes between them, to a room where one track is there to be had. What is answered fits the offer:
    its m-lines in their order, with their mids."""
    room, _ = make_room()
    join(room, "cart", "doctor")
    lines = [video(ssrc=10), audio(ssrc=30)]
    publish = {"0": Publication(Source.ULTRASOUND), "1": Publication(Source.MICROPHONE)}
    room.offer("cart", make_offer(*lines), publish=publish, subscribe={}, now=0)
    for now, text in enumerate(data.decode("utf-8", "replace").split("\0")[:4]):
        before = dict(room.tracks)
        try:
            media = sdp.parse(text).media
            wanted = {one.mid: Publication(SOURCES[one.kind == "video"]) for one in media if "send" in one.direction}
            done = room.offer("doctor", text, publish=wanted, subscribe=SubscribeAll(), now=now)
        except (sdp.OfferError, RoomError):
            assert dict(room.tracks) == before, "an offer that is refused leaves everything as it was"
        else:
            mids = [one.mid for one in media]
            assert [one.mid for one in sdp.parse(done.answer).media] == mids
            assert set(done.bound) <= set(mids)
    room.tick(60 * SECOND)
    room.close(61 * SECOND)


def fragment(data: bytes) -> None:
    """A trickle fragment to WHIP and WHEP."""
    with suppress(ValueError):
        found = whip.Fragment(data.decode("utf-8", "replace"))
        for candidate, _ in found.candidates:
            with suppress(sdp.OfferError):
                sdp.parse_candidate(candidate)


@cache
def fingerprints() -> list[tuple[str, str]]:
    return [("sha-256", identity(1).fingerprint)]


def dtls_session(data: bytes) -> None:
    """A real client shakes hands with the server, over a path that an attacker has in hand."""
    server = DtlsSession(identity(), fingerprints())
    client = DtlsSession(identity(1), [("sha-256", identity().fingerprint)], client=True)
    now = 0
    queue = client.start(now)
    for what, part in steps(data):
        datagram = queue.pop(0) if queue and what % 4 in (1, 2) else part
        if what % 4 == 2:
            at = (what >> 2) * 16 % (len(datagram) + 1)
            datagram = datagram[:at] + bytes(a ^ b for a, b in zip(datagram[at:], part, strict=False))
        elif what % 4 == 3:
            now += int.from_bytes(part[:3])
            for answer in server.tick(now):
                queue += client.receive(answer, now)
            continue
        for answer in server.receive(datagram, now):
            queue += client.receive(answer, now)
    server.close()
