"""Simulcast (RFC 8853): which of the offered encodings of a track are taken, and how the answer says so.

Pure functions from the facts of an offer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from mediaserver.sfu.session.negotiate import AgreedExtension
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.sdp import Media

MAX_ENCODINGS: Final = 3
MAX_RID: Final = 16  # characters; browsers' have one to three


class Encoding(NamedTuple):
    """A rid (RFC 8851) as it was offered, with its restrictions as they stand."""

    rid: str
    restrictions: str

    @property
    def limits(self) -> dict[str, str]:
        found = {}
        for part in self.restrictions.split(";"):
            name, _, value = part.strip().partition("=")
            if name:
                found[name] = value
        return found

    def allows(self, payload_types: Collection[int]) -> bool:
        """Whether it can carry one of these; without "pt" it can carry any."""
        listed = self.limits.get("pt")
        return listed is None or not {str(number) for number in payload_types}.isdisjoint(listed.split(","))


def agree_encodings(
    media: Media, extensions: Iterable[AgreedExtension], payload_types: Collection[int]
) -> tuple[Encoding, ...]:
    """The encodings that a publisher may send on an m-section, the lowest first; empty where it is to send one.

    Browsers list them from the lowest on (WebRTC, section 5.2.1, scales the first one down the most); where sizes or
    bitrates are given as restrictions, these decide. Of alternatives the first is taken.
    """
    sent = {one.kind for one in extensions if one.direction != "recvonly"}
    if not {ExtKind.EXT_MID, ExtKind.EXT_RID} <= sent:
        return ()
    taken: list[Encoding] = []
    for rid in _offered(media.simulcast):
        direction, _, restrictions = media.rids.get(rid, "").partition(" ")
        encoding = Encoding(rid, restrictions.strip())
        unfit = len(rid) > MAX_RID or rid in (one.rid for one in taken)
        if direction == "send" and not unfit and encoding.allows(payload_types):
            taken.append(encoding)
    taken = sorted(taken[:MAX_ENCODINGS], key=_cost) if all(map(_cost, taken)) else taken[:MAX_ENCODINGS]
    return tuple(taken) if len(taken) > 1 else ()


def _offered(simulcast: str) -> list[str]:
    """The first alternative of each stream that the offerer would send; "~" marks one that begins paused."""
    words = simulcast.split()
    if "send" not in words[:-1]:
        return []
    streams = words[words.index("send") + 1].split(";")
    return [stream.split(",")[0].removeprefix("~") for stream in streams]


def _cost(encoding: Encoding) -> tuple[int, ...]:
    """Pixels, then bitrate, then frames, as far as it is limited in them; empty without a limit."""
    limits = encoding.limits
    try:
        pixels = int(limits.get("max-width", 0)) * int(limits.get("max-height", 0))
        cost = (pixels, int(limits.get("max-br", 0)), int(float(limits.get("max-fps", 0))))
    except (ValueError, OverflowError):
        return ()
    return cost if any(cost) else ()


def answer_lines(encodings: Iterable[Encoding]) -> list[str]:
    """What an answer says of the encodings that are taken, the lowest first."""
    taken = list(encodings)
    if not taken:
        return []
    lines = [f"a=rid:{one.rid} recv {one.restrictions}".rstrip() for one in taken]
    return [*lines, f"a=simulcast:recv {';'.join(one.rid for one in taken)}"]
