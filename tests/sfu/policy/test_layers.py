"""The layer gate on made streams: for any wishes, losses and detours, what comes out can be decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.codecs.dependency import Dependency
from mediaserver.codecs.payload import Codec, facts
from mediaserver.sfu.policy.gate import Gate, Passed
from tests.sfu.policy.streams import Frame, Made, Stream

CODECS = {"vp8": Codec.CODEC_VP8, "vp9": Codec.CODEC_VP9, "dd": Codec.CODEC_AV1}
DROPPED, OTHER = 1, 2


@dataclass
class Run:
    """Offers packets to a gate and keeps what leaves, by encoding and frame."""

    form: str
    streams: list[Stream]
    gate: Gate = field(init=False)
    passed: list[tuple[Made, Passed]] = field(default_factory=list)
    offered: dict[tuple[int, int], int] = field(default_factory=dict)
    opened_at: dict[int, int] = field(default_factory=dict)  # stretch: sequence
    stretch_of: dict[int, int] = field(default_factory=dict)  # index in `passed`: stretch

    def __post_init__(self) -> None:
        self.gate = Gate(CODECS[self.form], len(self.streams))

    def offer(self, packet: Made) -> Passed | int:
        found = self.gate.offer(*packet.offered)
        self.offered.setdefault((packet.encoding, packet.frame), len(self.passed))
        if isinstance(found, Passed):
            if found.opened:
                self.opened_at[len(self.opened_at)] = packet.sequence
            self.stretch_of[len(self.passed)] = len(self.opened_at) - 1
            self.passed.append((packet, found))
            again = self.gate.again(*packet.offered)
            assert again is not None
            assert again[:3] == found[:3]
        return found

    def frame(self, packet: Made) -> Frame:
        return self.streams[packet.encoding].frames[packet.frame]

    def frames(self) -> list[Frame]:
        """Each once, in the order in which they first left."""
        return [self.frame(packet) for packet in {(p.encoding, p.frame): p for p, _ in self.passed}.values()]

    def check_needs(self, but: frozenset[tuple[int, int]] = frozenset()) -> None:
        """What a frame refers to has left too, unless it never came."""
        out = {(packet.encoding, packet.frame) for packet, _ in self.passed}
        for encoding, number in out:
            for need in self.streams[encoding].frames[number].needs:
                assert (encoding, need) in out or (encoding, need) in but, (encoding, number, need)

    def check_descriptors(self) -> None:
        state = Dependency()
        got: set[int] = set()
        for _, found in self.passed:
            told = state.read(found.descriptor)
            assert told.described & 3 == 3
            if told.start:
                assert told.frame_number not in got
                assert all((told.frame_number - d) & 0xFFFF in got for d in range(1, 33) if told.depends >> (d - 1) & 1)
                got.add(told.frame_number)
                assert told.targets & state.active, "it belongs to a target that is told of"

    def check_numbers(self) -> None:
        """Of a stream in order: picture ids, tl0picidx and keyidx go on by one."""
        seen: list[tuple[int, int, int, Frame]] = []
        for packet, found in self.passed:
            told = facts(CODECS[self.form], found.payload)
            assert told.valid
            frame = self.frame(packet)
            if not seen or (seen[-1][3].encoding, seen[-1][3].picture) != (frame.encoding, frame.picture):
                seen.append((told.picture_id, told.tl0_pic_idx, told.key_idx, frame))
            else:
                assert seen[-1][:3] == (told.picture_id, told.tl0_pic_idx, told.key_idx)
        for (number, tl0, key, frame), (next_number, next_tl0, next_key, following) in pairwise(seen):
            step = 1
            if self.form == "vp9" and frame.encoding == following.encoding and following.picture > frame.picture:
                step = following.picture - frame.picture
                if following.key and following.picture - frame.picture > 1:
                    step = (next_number - number) % 0x8000  # after a cut it goes on by one
                    assert step in (1, following.picture - frame.picture)
            assert next_number == (number + step) % 0x8000
            assert next_tl0 == (tl0 + (following.temporal == 0)) % 256
            if key >= 0:
                assert next_key == (key + following.key) % 32


def interleaved(streams: list[Stream]) -> list[Made]:
    """In order of pictures, one encoding after the other."""
    packets = [packet for stream in streams for packet in stream.packets]
    return sorted(packets, key=lambda p: (streams[p.encoding].frames[p.frame].picture, p.encoding, p.sequence))


forms = st.sampled_from(["vp8", "vp9", "dd"])
wishes = st.lists(st.tuples(st.integers(0, 60), st.integers(-1, 2), st.integers(-1, 2)), max_size=5)


@st.composite
def stream_lists(draw: st.DrawFn, most: int = 3) -> tuple[str, list[Stream]]:
    form = draw(forms)
    count = draw(st.integers(1, most))
    spatial = 1 if form == "vp8" or count > 1 else draw(st.integers(1, 3))
    temporal = draw(st.integers(1, 3))
    between = draw(st.booleans())
    first = draw(st.sampled_from([0, 1, 60, 200, 0x7FF0, 0xFFF8]))
    streams = [
        Stream(
            form,
            spatial,
            temporal,
            40,
            draw(st.frozensets(st.integers(1, 39), max_size=4)),
            between,
            encoding,
            first + encoding * 1234,
        )
        for encoding in range(count)
    ]
    return form, streams


@settings(max_examples=150)
@given(stream_lists(), wishes)
def test_any_wishes_in_order(made: tuple[str, list[Stream]], wanted: list[tuple[int, int, int]]) -> None:
    form, streams = made
    run = Run(form, streams)
    packets = interleaved(streams)
    for at, packet in enumerate(packets):
        for when, spatial, temporal in wanted:
            if when * len(packets) // 60 == at:
                run.gate.target(spatial, temporal)
        run.offer(packet)
    run.check_needs()
    counts = {(packet.encoding, packet.frame): 0 for packet, _ in run.passed}
    for packet, found in run.passed:
        counts[packet.encoding, packet.frame] += 1
        # Every picture ends with a marker, whatever was left out of it.
        frame = run.frame(packet)
        is_last = not any(
            run.frame(p).picture == frame.picture and p.encoding == frame.encoding and p.sequence > packet.sequence
            for p, _ in run.passed
        )
        assert found.marker or not is_last
    if form == "dd":
        run.check_descriptors()
    else:
        run.check_numbers()
    whole = {(p.encoding, p.frame): p.parts for p in packets}
    partial = [key for key, count in counts.items() if count != whole[key]]
    switches = sum(found.switched for _, found in run.passed)
    assert len(partial) <= switches


@settings(max_examples=50)
@given(stream_lists(1))
def test_nothing_limited_is_nothing_changed(made: tuple[str, list[Stream]]) -> None:
    form, streams = made
    run = Run(form, streams)
    for packet in streams[0].packets:
        found = run.offer(packet)
        assert isinstance(found, Passed)
        assert found[:3] == (packet.payload, packet.descriptor, packet.marker)
    assert run.gate.want_key_of == -1


@settings(max_examples=50)
@given(stream_lists(1), st.integers(0, 2), st.integers(0, 2), st.integers(0, 20))
def test_all_comes_back_with_a_keyframe(
    made: tuple[str, list[Stream]], spatial: int, temporal: int, until: int
) -> None:
    form, [stream] = made
    run = Run(form, [stream])
    run.gate.target(spatial, temporal)
    key = min((k for k in stream.keys if k > until), default=None)
    for packet in stream.packets:
        picture = stream.frames[packet.frame].picture
        if picture == until:
            run.gate.target(-1, -1)
        found = run.offer(packet)
        frame = stream.frames[packet.frame]
        if picture < until and (frame.spatial > spatial or frame.temporal > temporal):
            assert found == DROPPED
        # With a descriptor it is known that the upper layer does not need the lower one.
        is_needed = form != "dd" or stream.between or frame.key or frame.is_top
        if key is not None and picture >= key and is_needed:
            assert isinstance(found, Passed)
    assert {frame.spatial for frame in run.frames()} >= {0}


def shuffled(packets: list[Made], moves: list[tuple[int, int]]) -> list[Made]:
    """Some packets come later, as after a retransmission."""
    delay = dict(moves)
    order = sorted(range(len(packets)), key=lambda i: (i + delay.get(i, 0), i))
    return [packets[i] for i in order]


@settings(max_examples=200)
@given(
    stream_lists(1),
    wishes,
    st.lists(st.tuples(st.integers(1, 120), st.integers(1, 25)), max_size=15),
    st.frozensets(st.integers(1, 120), max_size=6),
)
def test_loss_and_detours(
    made: tuple[str, list[Stream]],
    wanted: list[tuple[int, int, int]],
    moves: list[tuple[int, int]],
    lost: frozenset[int],
) -> None:
    form, [stream] = made
    run = Run(form, [stream])
    packets = shuffled([p for i, p in enumerate(stream.packets) if i not in lost], moves)
    arrived: set[int] = set()
    for at, packet in enumerate(packets):
        for when, spatial, temporal in wanted:
            if when * len(packets) // 60 == at:
                run.gate.target(spatial, temporal)
        run.offer(packet)
        arrived.add(packet.frame)
    # What never came can be missing; so can what came after something that had gone ahead of it.
    late = {p.frame for p in packets if any(q.sequence > p.sequence for q in packets[: packets.index(p)])}
    gone = {frame.number for frame in stream.frames} - arrived
    run.check_needs(frozenset((0, number) for number in late | gone))
    ids: dict[int, int] = {}
    for packet, found in run.passed:
        if form == "dd":
            continue
        picture_id = facts(CODECS[form], found.payload).picture_id
        picture = stream.frames[packet.frame].picture
        assert ids.setdefault(picture, picture_id) == picture_id
    assert len(set(ids.values())) == len(ids)
    order = [ids[picture] for picture in sorted(ids)]
    assert all(0 < (b - a) % 0x8000 < 0x4000 for a, b in pairwise(order))


@pytest.mark.parametrize("temporal", [2, 3])
def test_a_picture_that_comes_late_has_its_number_kept(temporal: int) -> None:
    """By the pattern of the layers it is known which of the missing ones will leave."""
    stream = Stream("vp8", 1, temporal, 40)
    run = Run("vp8", [stream])
    run.gate.target(-1, 0)
    late = [p for p in stream.packets if 16 <= stream.frames[p.frame].picture < 21]
    for packet in stream.packets:
        if packet not in late:
            run.offer(packet)
        if stream.frames[packet.frame].picture == 24:
            for one in late:
                run.offer(one)
            late = []
    assert {frame.temporal for frame in run.frames()} == {0}
    assert len(run.frames()) == sum(frame.temporal == 0 for frame in stream.frames)
    run.passed.sort(key=lambda pair: pair[0].sequence)
    run.check_numbers()


@pytest.mark.parametrize("form", ["vp8", "vp9", "dd"])
def test_a_publisher_begins_anew(form: str) -> None:
    before = Stream(form, 1, 2, 10, first=100)
    after = Stream(form, 1, 2, 10, first=30000)
    run = Run(form, [before])
    for packet in before.packets:
        run.offer(packet)
    run.gate.restart(0, True)
    assert run.gate.want_key_of == 0
    numbers = [found for _, found in run.passed]
    state = Dependency()
    for packet in after.packets:
        found = run.gate.offer(*packet.offered)
        assert isinstance(found, Passed)
        numbers.append(found)
    if form == "dd":
        told = [state.read(found.descriptor) for found in numbers]
        ids = [one.frame_number for one in told if one.start]
        assert all(one.described & 3 == 3 for one in told)
    else:
        ids = list(dict.fromkeys(facts(CODECS[form], found.payload).picture_id for found in numbers))
    assert ids == list(range(ids[0], ids[0] + 20))


def test_an_encoding_that_ends_gives_way_to_the_next_lower() -> None:
    streams = [Stream("vp8", 1, 1, 30, frozenset({20}), encoding=e, first=e * 50) for e in range(3)]
    run = Run("vp8", streams)
    for packet in interleaved(streams):
        if streams[packet.encoding].frames[packet.frame].picture >= 10 and packet.encoding == 2:
            if run.gate.encoding == 2:
                run.gate.gone(2)
            continue
        run.offer(packet)
    assert [frame.encoding for frame in run.frames()] == [0, *[2] * 9, *[1] * 10] or run.gate.encoding == 1
    assert run.gate.want_key_of == -1
    run.check_numbers()


def test_what_waits_for_a_keyframe_goes_on_meanwhile() -> None:
    streams = [Stream("vp8", 1, 1, 30, frozenset({15}), encoding=e, first=e * 50) for e in range(2)]
    run = Run("vp8", streams)
    run.gate.target(0, -1)
    for packet in interleaved(streams):
        if streams[packet.encoding].frames[packet.frame].picture == 5:
            run.gate.target(1, -1)
            assert run.gate.want_key_of == 1
        run.offer(packet)
    frames = run.frames()
    assert [frame.picture for frame in frames if frame.encoding == 0] == list(range(16))
    assert [frame.picture for frame in frames if frame.encoding == 1] == list(range(15, 30))
    assert sum(found.switched for _, found in run.passed) == 1
    run.check_numbers()
