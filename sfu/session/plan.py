"""What an offer asks for, checked and decided before anything is changed.

`make_plan` reads the room and raises `OfferError`; a plan that came out can be carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.session.answer import Section
from mediaserver.sfu.session.dtls import DIGESTS
from mediaserver.sfu.session.ice import Credentials
from mediaserver.sfu.session.model import (
    CLINICAL_ORDER,
    Kind,
    Publication,
    PublishAll,
    PublishMap,
    Right,
    Source,
    SubscribeAll,
    SubscribeMap,
)
from mediaserver.sfu.session.negotiate import (
    CCFB,
    Agreed,
    agree_extensions,
    agree_formats,
    by_own_numbers,
    choose_published,
    match_payloads,
    source_fits,
)
from mediaserver.sfu.session.peer import Line, Participant, Remote
from mediaserver.sfu.session.settings import RoomPolicy
from mediaserver.sfu.session.simulcast import Encoding, agree_encodings
from mediaserver.sfu.session.track import Track
from mediaserver.sfu.stream.params import LegPayload
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.sdp import Description, Media, OfferError


@dataclass(slots=True)
class LinePlan:
    """One m-section: the state of the m-line to come, and what is published and received on it."""

    media: Media
    section: Section
    line: Line
    publication: Publication | None = None
    published: Sequence[Agreed] = ()
    encodings: Sequence[Encoding] = ()
    keeps: Track | None = None
    wants: Track | None = None
    payloads: tuple[LegPayload, ...] = ()


@dataclass(slots=True)
class Plan:
    """`remote` is None when every m-line is rejected. `fresh`: another peer connection than before, or the first.
    `gone`: own tracks that the offer ends."""

    offer: Description
    remote: Remote | None
    fresh: bool
    lines: list[LinePlan] = field(default_factory=list)
    gone: list[Track] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def make_plan(
    offer: Description,
    participant: Participant,
    tracks: Mapping[str, Track],
    policy: RoomPolicy,
    publish: PublishMap,
    subscribe: SubscribeMap,
) -> Plan:
    """Decide on every m-section of an offer; `OfferError` when it cannot be served."""
    remote = remote_transport(offer)
    transport = participant.transport
    fresh = transport is None or (remote is not None and not remote.continues(transport.described))
    before = {} if fresh else participant.lines
    plan = Plan(offer, remote, fresh)
    _check_names(offer, publish, subscribe)
    for media in offer.media:
        plan.lines.append(_accept(media, offer, plan))
    for one in plan.lines:
        if not one.section.rejected:
            _plan_publication(one, participant, before.get(one.line.mid), policy, publish, plan)
    _check_ssrcs(plan.lines)
    _continue_tracks(plan, before)
    plan.gone += participant.tracks() if fresh else []
    if sum(one.publication is not None for one in plan.lines) > policy.max_tracks_per_participant:
        raise OfferError("not-allowed", f"more than {policy.max_tracks_per_participant} published tracks")
    _choose_feedback(plan)
    _plan_receiving(plan, participant, before, tracks, subscribe)
    for one in plan.lines:
        _settle_section(one)
    return plan


# The transport


def remote_transport(offer: Description) -> Remote | None:
    """The peer's side of the one bundled transport, from the first m-section that is in use (RFC 8843, section 7)."""
    if not offer.media:
        raise OfferError("unsupported", "the offer has no m-line")
    if offer.ice_lite:
        raise OfferError("unsupported", "both sides would be ICE-lite, and nobody would send checks", "a=ice-lite")
    used = [media for media in offer.media if not media.rejected and media.kind in ("audio", "video")]
    if not used:
        if all(media.rejected for media in offer.media):
            return None
        raise OfferError("unsupported", "no m-line of audio or video", str(offer.media[0].line))
    if len(used) > 1 and not offer.bundle:
        raise OfferError("unsupported", "several m-lines need a BUNDLE group (RFC 8843)", str(used[1].line))
    tagged = next((media for media in used if media.mid in offer.bundle), used[0])
    transport = tagged.transport
    if not tagged.rtcp_mux:
        raise OfferError(
            "unsupported", "RTCP is served on the port of RTP alone: a=rtcp-mux is missing", str(tagged.line)
        )
    if not transport.ufrag or not transport.pwd:
        raise OfferError("bad-sdp", "no a=ice-ufrag or no a=ice-pwd", str(tagged.line))
    if not any(algorithm in DIGESTS for algorithm, _ in transport.fingerprints):
        raise OfferError("unsupported", f"no a=fingerprint by one of {', '.join(DIGESTS)}", str(tagged.line))
    if transport.setup == "holdconn":
        raise OfferError("unsupported", "a=setup:holdconn", str(tagged.line))
    session = " ".join(offer.origin.split()[:2])
    credentials = Credentials(transport.ufrag, transport.pwd)
    return Remote(session, credentials, tuple(transport.fingerprints), transport.setup == "passive")


# The m-sections


def _key(media: Media) -> str:
    """By what the m-line is known: its mid, or its place where the offer gives none."""
    return media.mid or f"#{media.index}"


def _check_names(offer: Description, publish: PublishMap, subscribe: SubscribeMap) -> None:
    known = {_key(media) for media in offer.media}
    named: list[str] = []
    if not isinstance(publish, PublishAll):
        named += publish
    if not isinstance(subscribe, SubscribeAll):
        named += subscribe
    for mid in named:
        if mid not in known:
            raise OfferError("unknown-mid", f"the offer has no m-line with the mid {mid!r}")


def _accept(media: Media, offer: Description, plan: Plan) -> LinePlan:
    """Take an m-section as far as its form goes, or reject it with port 0."""
    key = _key(media)
    reason = _refusal(media, offer)
    if reason:
        if not media.rejected and media.kind in ("audio", "video"):
            plan.refused[key] = reason
        kind = Kind.AUDIO if media.kind == "audio" else Kind.VIDEO
        return LinePlan(media, Section(media, rejected=True), Line(key, kind))
    extensions = agree_extensions(media)
    line = Line(key, Kind(media.kind), agree_formats(media, extensions), extensions)
    if not line.agreed:
        plan.refused[key] = "none of the offered codecs is carried"
    section = Section(media, rejected=not line.agreed, formats=line.agreed, extensions=extensions)
    return LinePlan(media, section, line)


def _refusal(media: Media, offer: Description) -> str:
    if media.rejected:
        return "not in use"
    if media.kind not in ("audio", "video"):
        return f"{media.kind} is not carried"
    if "SAVP" not in media.protocol:
        return f"{media.protocol} is not carried"
    if offer.bundle and media.mid not in offer.bundle:
        return "not in the BUNDLE group"
    return ""


def _plan_publication(
    one: LinePlan,
    participant: Participant,
    before: Line | None,
    policy: RoomPolicy,
    publish: PublishMap,
    plan: Plan,
) -> None:
    media, line = one.media, one.line
    if isinstance(publish, PublishAll):
        source = publish.audio if line.kind is Kind.AUDIO else publish.video
        publication = Publication(source, publish.label) if source is not None and media.sends else None
    else:
        publication = publish.get(line.mid)
    if publication is None and before is not None and before.track is not None and media.sends:
        publication = before.track.publication
    if publication is None:
        if media.direction == "sendonly":
            plan.refused[line.mid] = "no source was named for what is sent here"
        return
    if Right.PUBLISH not in participant.rights:
        raise OfferError("not-allowed", "no right to publish", str(media.line))
    if not media.sends:
        raise OfferError("bad-sdp", f"published, but the m-line says {media.direction}", str(media.line))
    if not source_fits(publication.source, line.kind):
        raise OfferError("unsupported", f"{publication.source} cannot be {line.kind}", str(media.line))
    one.publication = publication
    one.section.policy = policy.source(publication.source)
    one.published = choose_published(line.agreed, one.section.policy)
    if line.kind is Kind.VIDEO:
        types = {agreed.payload_type for agreed in one.published}
        one.encodings = one.section.encodings = agree_encodings(media, line.extensions, types)


def _check_ssrcs(lines: Iterable[LinePlan]) -> None:
    seen: set[int] = set()
    for one in lines:
        if one.publication is None:
            continue
        named = named_ssrcs(one)
        if seen.intersection(named):
            raise OfferError("bad-sdp", "an SSRC of this m-line stands at another too", str(one.media.line))
        seen.update(named)


def named_ssrcs(one: LinePlan) -> list[int]:
    """The source of media that the offer names. Those of several encodings are told apart by their rids alone."""
    return [] if one.encodings else [ssrc for ssrc in one.media.primary_ssrcs()[:1] if ssrc]


def _continue_tracks(plan: Plan, lines: Mapping[str, Line]) -> None:
    """Which of the participant's tracks go on: on the same m-line, or, where a source has moved to another m-line,
    there; the rest is gone."""
    ended = {line.track.id: line.track for line in lines.values() if line.track is not None}
    publishing = [one for one in plan.lines if one.publication is not None]
    for one in publishing:
        before = lines.get(one.line.mid)
        if before is not None and before.track is not None and _same(before.track, one):
            one.keeps = ended.pop(before.track.id, None)
    for one in publishing:
        if one.keeps is None:
            moved = next((track for track in ended.values() if _same(track, one)), None)
            one.keeps = ended.pop(moved.id) if moved is not None else None
    plan.gone = list(ended.values())


def _same(track: Track, one: LinePlan) -> bool:
    return one.publication is not None and track.source is one.publication.source and track.kind is one.line.kind


def _choose_feedback(plan: Plan) -> None:
    """Who only watches, and offers it, tells of packets by their own numbers (RFC 8888), on all m-lines of the one
    transport. Publishers are told by transport-wide numbers, and a browser does either the one or the other."""
    lines = [one for one in plan.lines if not one.section.rejected]
    if any(one.publication is not None for one in lines):
        return
    if not all(any(CCFB in agreed.format.feedback for agreed in one.line.agreed) for one in lines):
        return
    for one in lines:
        one.line.named = one.section.named = True
        one.line.agreed = one.section.formats = by_own_numbers(one.line.agreed)
        kept = [extension for extension in one.line.extensions if extension.kind != ExtKind.EXT_TWCC]
        one.line.extensions = one.section.extensions = kept


# What the participant receives


def _plan_receiving(
    plan: Plan,
    participant: Participant,
    before: Mapping[str, Line],
    tracks: Mapping[str, Track],
    subscribe: SubscribeMap,
) -> None:
    gone = {track.id for track in plan.gone}
    lines = [one for one in plan.lines if not one.section.rejected and one.media.receives]
    if isinstance(subscribe, SubscribeAll):
        if Right.SUBSCRIBE not in participant.rights:
            raise OfferError("not-allowed", "no right to subscribe")
        left = [track for track in in_order(tracks.values(), participant, subscribe) if track.id not in gone]
        sources = subscribe.sources if subscribe.sources is not None else frozenset(Source)
        for one in lines:
            one.line.slot = any(source_fits(source, one.line.kind) for source in sources)
        _fill([one for one in lines if one.line.slot], before, left)
        return
    for one in lines:
        track_id = subscribe.get(one.line.mid)
        was = before.get(one.line.mid)
        if track_id is None and was is not None and was.leg is not None:
            track_id = was.leg.track.id
        if track_id is None:
            continue
        if Right.SUBSCRIBE not in participant.rights:
            raise OfferError("not-allowed", "no right to subscribe", str(one.media.line))
        _want(one, tracks.get(track_id) if track_id not in gone else None, plan)


def _want(one: LinePlan, track: Track | None, plan: Plan) -> None:
    if track is None:
        plan.refused[one.line.mid] = "there is no such track"
    elif track.kind is not one.line.kind:
        plan.refused[one.line.mid] = f"the track is {track.kind}"
    else:
        payloads = match_payloads(track.published, one.line.agreed)
        if payloads:
            one.wants, one.payloads = track, payloads
        else:
            plan.refused[one.line.mid] = f"the track is {track.codec}, which is not offered here"


def _fill(lines: Sequence[LinePlan], before: Mapping[str, Line], left: list[Track]) -> None:
    """Each m-line keeps its track; free ones get what is left, in its order, or wait for a track to come."""
    for one in lines:
        was = before.get(one.line.mid)
        if was is not None and was.leg is not None and was.leg.track in left:
            _take(one, was.leg.track, left)
    for one in lines:
        for track in list(left):
            if one.wants is None:
                _take(one, track, left)


def _take(one: LinePlan, track: Track, left: list[Track]) -> None:
    payloads = match_payloads(track.published, one.line.agreed) if track.kind is one.line.kind else ()
    if payloads:
        one.wants, one.payloads = track, payloads
        left.remove(track)


def in_order(tracks: Iterable[Track], participant: Participant, subscribe: SubscribeAll) -> list[Track]:
    """The tracks of others that this subscription takes, in clinical order."""
    wanted = [
        track
        for track in tracks
        if track.participant != participant.id and (subscribe.sources is None or track.source in subscribe.sources)
    ]
    return sorted(wanted, key=lambda track: CLINICAL_ORDER.index(track.source))


# The answer's sections


def _settle_section(one: LinePlan) -> None:
    section, line = one.section, one.line
    if section.rejected:
        return
    section.receives = one.publication is not None
    section.sends = one.wants is not None or line.slot
    outgoing = {payload.outgoing for payload in one.payloads}
    matched = [agreed for agreed in line.agreed if agreed.payload_type in outgoing]
    if section.receives:
        # The first codec is what the browser sends; the others are there for what it gets on the same m-line.
        section.formats = [*one.published, *(agreed for agreed in matched if agreed not in one.published)]
    elif matched and not line.slot:
        codecs = {agreed.codec for agreed in matched}
        if Codec.CODEC_OPUS in codecs:
            codecs.add(Codec.CODEC_RED)  # a publisher may turn to it at any time
        section.formats = [*matched, *(a for a in line.agreed if a.codec in codecs and a not in matched)]
    else:
        section.formats = [*matched, *(agreed for agreed in line.agreed if agreed not in matched)]
