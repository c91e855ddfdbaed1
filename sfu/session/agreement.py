"""Carrying out the plan of an offer: tracks, legs and the transport as agreed, and the answer that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from mediaserver.sfu.session.answer import Answer, Sender
from mediaserver.sfu.session.books import Books
from mediaserver.sfu.session.dtls import DtlsSession
from mediaserver.sfu.session.events import Event, PayloadsChanged, TrackAdded, TrackChanged
from mediaserver.sfu.session.ice import Credentials
from mediaserver.sfu.session.model import Kind, SubscribeAll, SubscribeMap
from mediaserver.sfu.session.negotiate import (
    incoming_extensions,
    main_codec,
    match_payloads,
    outgoing_extensions,
    payload_params,
)
from mediaserver.sfu.session.peer import Line, Participant, Transport
from mediaserver.sfu.session.plan import LinePlan, Plan, named_ssrcs
from mediaserver.sfu.session.track import Leg, Track
from mediaserver.sfu.stream.params import TrackParams
from mediaserver.sfu.wire.packet import ExtKind

SLOTS: Final = "room"
"""The stream id (msid) of m-lines that the server fills: one for all, so that sound and picture stay in sync."""


class Negotiated(msgspec.Struct, frozen=True):
    """The answer to an offer. `bound`: mid -> track id, of published and of received tracks alike.
    `refused`: mid -> a sentence, for each m-line that was asked for and is not carried."""

    answer: str
    bound: Mapping[str, str]
    events: list[Event]
    refused: Mapping[str, str] = {}


def carry_out(books: Books, plan: Plan, offering: Participant, subscribe: SubscribeMap, now: int) -> Negotiated:
    events: list[Event] = []
    tracks = set(books.tracks)
    for track in plan.gone:
        events += books.remove_track(track)
    events += _agree_transport(books, plan, offering, now)
    offering.subscribe_all = subscribe if isinstance(subscribe, SubscribeAll) else None
    before, offering.lines = offering.lines, {one.line.mid: one.line for one in plan.lines}
    for one in plan.lines:
        if one.publication is not None:
            events += _publish(books, one, offering, now)
    _agree_legs(books, plan, offering, before)
    bound = {}
    for line in offering.lines.values():
        if line.leg is not None:
            bound[line.mid] = line.leg.track.id
        if line.track is not None:
            bound[line.mid] = line.track.id
    answer = _answer(books, plan, offering)
    # Only what is published or no longer published concerns others.
    books.fill_slots(offering if books.tracks.keys() == tracks else None)
    return Negotiated(answer, bound, events, plan.refused)


def _agree_transport(books: Books, plan: Plan, offering: Participant, now: int) -> list[Event]:
    """The transport of this offer: as it was, restarted, another one, or none when every m-line is rejected."""
    events: list[Event] = []
    transport, remote = offering.transport, plan.remote
    if transport is not None and (plan.fresh or remote is None):
        events = books.end_transport(offering)
    if remote is None:
        return events
    if transport is None or plan.fresh:
        peer = books.claim()
        books.place(offering, peer)
        dtls = DtlsSession(
            books.settings.identity,
            remote.fingerprints,
            client=remote.passive,
            desk=books.settings.desk,
            number=peer,
        )
        offering.transport = Transport(peer, books.plane, Credentials.fresh(books.ids), remote, dtls)
        if offering.offered is not None:
            offering.began = now
        offering.offered = now
        books.by_peer[peer] = offering
    elif transport.remote != remote.credentials:
        transport.restart(Credentials.fresh(books.ids), remote.credentials)
    return events


def _publish(books: Books, one: LinePlan, offering: Participant, now: int) -> list[Event]:
    """Begin, or go on with, the track of an m-line."""
    publication, line = one.publication, one.line
    assert publication is not None
    policy = books.policy.source(publication.source)
    ssrcs = named_ssrcs(one)
    params = TrackParams(
        mid=line.mid,
        video=line.kind is Kind.VIDEO,
        payloads=tuple(payload_params(agreed) for agreed in one.published),
        ssrcs=tuple(ssrcs),
        rtx_ssrcs=tuple(one.media.rtx_ssrc(ssrc) for ssrc in ssrcs),
        extensions=incoming_extensions(line.extensions),
        keyframe_interval_us=policy.keyframe_interval_us,
        freshness=policy.freshness,
        voice=policy.voice,
        untouched_bps=policy.priority.floor_bps if policy.untouched else None,
        rids=tuple(encoding.rid for encoding in one.encodings),
    )
    if one.keeps is not None:
        line.track = one.keeps
        return _update_track(books, one.keeps, one, params)
    assert offering.transport is not None
    track = Track(
        id=books.ids.name("t"),
        plane_id=books.claim(),
        participant=offering.id,
        kind=line.kind,
        publication=publication,
        mid=line.mid,
        published=one.published,
        params=params,
        added=now,
        codec=main_codec(one.published),
    )
    line.track = track
    books.add_track(track, offering.transport.plane_id)
    return [TrackAdded(track.info)]


def _update_track(books: Books, track: Track, one: LinePlan, params: TrackParams) -> list[Event]:
    before = track.info
    assert one.publication is not None
    track.publication, track.mid, track.published = one.publication, one.line.mid, one.published
    track.codec = main_codec(one.published)
    events: list[Event] = []
    if params != track.params:
        if params.payloads != track.params.payloads:
            events.append(PayloadsChanged(track.id))
        track.params = params
        books.plane.update_track(track.plane_id, params)
        for leg in list(track.legs.values()):
            _rematch(books, leg)
    if track.info != before:
        events.append(TrackChanged(track.info))
    return events


def _rematch(books: Books, leg: Leg) -> None:
    """The publisher's payload types have changed: map them anew, or give the leg up where nothing fits."""
    line = books.participants[leg.participant].lines.get(leg.mid)
    if line is None or line.leg is not leg:
        return  # the viewer is the one whose offer is being carried out
    payloads = match_payloads(leg.track.published, line.agreed)
    if not payloads:
        books.remove_leg(leg)
        line.leg = None
    elif payloads != leg.params.payloads:
        books.update_leg(leg, msgspec.structs.replace(leg.params, payloads=payloads))


def _agree_legs(books: Books, plan: Plan, offering: Participant, before: Mapping[str, Line]) -> None:
    """Legs that stay are moved over to the new m-lines, the others end; then those that are new begin."""
    wanted = {one.line.mid: one.wants for one in plan.lines}
    for mid, line in before.items():
        if line.leg is None or line.leg.plane_id not in books.by_leg:
            continue
        if wanted.get(mid) is line.leg.track:
            offering.lines[mid].leg = line.leg
        else:
            books.remove_leg(line.leg)
    for one in plan.lines:
        if one.wants is None or one.wants.id not in books.tracks:
            continue
        line = one.line
        if line.leg is None:
            books.add_leg(line, offering, one.wants, one.payloads)
            continue
        params = msgspec.structs.replace(
            line.leg.params,
            payloads=one.payloads,
            extensions=outgoing_extensions(line.extensions),
            named=line.named,
        )
        if params != line.leg.params:
            books.update_leg(line.leg, params)


def _answer(books: Books, plan: Plan, offering: Participant) -> str:
    transport = offering.transport
    reached = (offering.site or books.home).settings
    answer = Answer(
        offer=plan.offer,
        session_id=offering.session_id,
        version=offering.version,
        credentials=transport.local if transport is not None else Credentials("", ""),
        fingerprint=books.settings.identity.fingerprint,
        setup="active" if transport is not None and transport.dtls.client else "passive",
        candidates=reached.candidates,
        tcp_candidates=reached.tcp_candidates,
        sections=[one.section for one in plan.lines],
    )
    offering.version += 1
    for one in plan.lines:
        leg = one.line.leg
        # What a slot carries changes without an offer: by its mid alone a browser follows to another source.
        by_mid = one.line.slot and any(e.kind == ExtKind.EXT_MID for e in one.line.extensions)
        if leg is not None and not by_mid:
            one.section.sender = Sender(
                leg.track.participant, leg.track.id, leg.params.cname, leg.params.ssrc, leg.params.rtx_ssrc
            )
        elif one.line.slot:
            one.section.sender = Sender(SLOTS, one.line.mid, "", 0, 0)
    return answer.text()
