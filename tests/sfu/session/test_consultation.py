"""Whole consultations in virtual time: a room on the real engine, and clients who know what the answer says alone."""

from __future__ import annotations

import gc
import itertools
import resource
from pathlib import Path

import pytest

from mediaserver.sfu.session.events import LegLive, ParticipantLeft, TrackLive
from mediaserver.sfu.session.model import Publication, Source, SubscribeAll, TransportState
from mediaserver.sfu.wire import packet
from tests.sfu.session.harness import SECOND
from tests.sfu.session.offers import VP8, audio, video
from tests.sim.world import MS, Client, World

CART = {"0": Publication(Source.CAMERA), "1": Publication(Source.MICROPHONE)}


def cart(world: World, name: str = "cart") -> Client:
    client = world.client(name)
    first = world.rng.getrandbits(31)
    client.offer(video("sendonly", VP8, ssrc=first), audio(ssrc=first + 1), publish=CART)
    return client


def doctor(world: World, name: str = "doctor") -> Client:
    client = world.client(name, certificate=2)
    client.offer(video("recvonly", VP8), audio("recvonly"), subscribe=SubscribeAll())
    return client


def settled(world: World) -> bool:
    return all(participant.state is TransportState.CONNECTED for participant in world.room.participants.values())


def test_pictures_and_sound_cross_from_the_answer_s_words_alone() -> None:
    world = World()
    one, two = cart(world), doctor(world)
    began = world.now
    assert world.run(5 * SECOND, lambda: len(two.received) == 2)
    assert world.now - began < 400 * MS  # ICE, two round trips of DTLS, a keyframe
    world.run(2 * SECOND)
    leg = world.room.participants["doctor"].lines["0"].leg
    assert leg is not None
    pictures = two.received[leg.params.ssrc]
    assert packet.payload_of(pictures[0])[3] == 0  # a keyframe comes first
    numbers = [packet.parse_rtp(one).sequence for one in pictures]
    assert [(b - a) & 0xFFFF for a, b in itertools.pairwise(numbers)] == [1] * (len(numbers) - 1)
    assert len(pictures) == pytest.approx(25 * 2, abs=15)
    live = {event.track for event in world.events if isinstance(event, TrackLive)}
    assert live == set(world.room.tracks)
    joins = [event.since_join_us for event in world.events if isinstance(event, LegLive)]
    assert len(joins) == 2
    assert max(joins) < SECOND
    assert one.received == {}


@pytest.mark.parametrize("seed", range(6))
def test_a_tenth_of_the_datagrams_lost(seed: int) -> None:
    world = World(seed=seed, delay=50 * MS)
    world.loss(0.1)
    cart(world)
    viewer = doctor(world)
    assert world.run(10 * SECOND, lambda: len(viewer.received) == 2)
    world.run(2 * SECOND)
    assert settled(world)


def test_an_ice_restart_to_another_address_loses_no_one() -> None:
    """A cart that goes from one network to another."""
    world = World()
    sender, viewer = cart(world), doctor(world)
    world.run(SECOND)
    sender.address = ("203.0.113.77", 7777)
    sender.restart_ice()
    before = viewer.counts.total()
    world.run(SECOND)
    assert viewer.counts.total() - before > 60
    assert settled(world)
    assert len(viewer.received) == 2  # the same sources throughout


def test_who_falls_silent_is_removed_and_what_it_sent_too() -> None:
    world = World()
    cart(world)
    doctor(world)
    world.run(SECOND)
    del world.clients["cart"]
    world.run(28 * SECOND)
    assert "cart" in world.room.participants
    world.run(5 * SECOND)
    assert [event for event in world.events if isinstance(event, ParticipantLeft)] == [
        ParticipantLeft("cart", "silent")
    ]
    assert world.room.tracks == {}


def test_who_never_connects_is_removed() -> None:
    world = World()
    cart(world)
    world.lost = lambda datagram: True
    world.run(29 * SECOND)
    assert "cart" in world.room.participants
    world.run(2 * SECOND)
    assert world.room.participants == {}


def test_tracks_come_and_go_in_a_standing_consultation() -> None:
    world = World()
    sender = cart(world)
    viewer = world.client("doctor", certificate=2)
    viewer.offer(*[video("recvonly", VP8)] * 2, audio("recvonly"), subscribe=SubscribeAll())
    world.run(SECOND)
    assert len(viewer.received) == 2
    sender.offer(*sender.lines, video("sendonly", VP8, ssrc=5), publish={"2": Publication(Source.SCREEN)})
    world.run(SECOND)
    assert len(viewer.received) == 3
    sender.offer(video("inactive", VP8), *sender.lines[1:])
    world.run(100 * MS)
    counts = viewer.counts.copy()
    world.run(SECOND)
    grown = [ssrc for ssrc, count in viewer.counts.items() if count > counts[ssrc]]
    assert len(grown) == 2


def test_a_cart_that_comes_back_is_seen_again_without_an_offer_of_the_viewers() -> None:
    world = World()
    cart(world)
    viewer = doctor(world)
    world.run(SECOND)
    world.leave("cart")
    world.run(SECOND)
    cart(world)
    world.run(SECOND)
    assert len(viewer.received) == 4
    assert all(world.room.participants["doctor"].lines[mid].leg is not None for mid in "01")


def test_mute_and_pause_stop_the_bytes_and_nothing_else() -> None:
    world = World()
    cart(world)
    viewer = doctor(world)
    world.run(SECOND)
    tracks = {track.source: track.id for track in world.room.tracks.values()}
    legs = {leg.track.source: leg.params.ssrc for leg in world.room.participants["doctor"].legs()}
    world.room.mute("cart", tracks[Source.MICROPHONE], True, world.now)
    world.room.unsubscribe("doctor", tracks[Source.CAMERA], world.now)
    world.run(100 * MS)
    before = viewer.counts.copy()
    world.run(SECOND)
    assert viewer.counts == before
    world.room.mute("cart", tracks[Source.MICROPHONE], False, world.now)
    world.room.subscribe("doctor", tracks[Source.CAMERA], world.now)
    world.run(SECOND)
    for ssrc in legs.values():
        assert viewer.counts[ssrc] > before[ssrc] + 15
        numbers = [packet.parse_rtp(one).sequence for one in viewer.received[ssrc]]
        assert [(b - a) & 0xFFFF for a, b in itertools.pairwise(numbers)] == [1] * (len(numbers) - 1)


def churn(world: World, until: int, number: int = 0) -> int:
    """Carts and doctors come, look, restart, and go, some without a word; `number` counts them."""
    while world.now < until:
        sender, viewer = cart(world, f"cart-{number}"), doctor(world, f"doctor-{number}")
        sender.sending = False
        world.run(SECOND, lambda viewer=viewer: viewer.connected)
        sender.sending = True
        world.run(200 * MS)
        sender.sending = False
        if number % 3 == 0:
            sender.restart_ice()
            world.run(300 * MS)
        if number % 4 == 0:
            del world.clients[sender.name]  # the cable is pulled
        else:
            world.leave(sender.name)
        world.leave(viewer.name)
        world.run(8 * SECOND)
        number += 1
    return number


def weigh(world: World) -> tuple[int, int]:
    """Python objects, and the bytes that the process has resident."""
    world.events.clear()
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(gc.get_objects()), pages * resource.getpagesize()


def test_an_hour_of_coming_and_going_leaves_nothing_behind() -> None:
    world = World()
    world.delay = MS
    start = world.now
    number = churn(world, start + 600 * SECOND)
    world.run(40 * SECOND)

    objects, memory = weigh(world)
    churn(world, start + 3600 * SECOND, number)
    world.run(40 * SECOND)
    objects_after, memory_after = weigh(world)
    assert world.room.participants == {}
    assert world.room.tracks == {}
    assert len(world.ids) == 0
    assert objects_after - objects < 200
    assert memory_after - memory < 4_000_000  # 300 peers and their OpenSSL sessions have come and gone in between
    assert world.engine.counters()["packets_held"] == 0
