"""The ultrasound consultation of BUDGETS.md in the laboratory: a cart that publishes, doctors that view."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import LegParams, LegPayload, LegPolicy, PayloadParams, TrackParams
from mediaserver.sfu.wire.packet import ExtKind
from tests.sim.congestion import START_BPS
from tests.sim.encoder import Encoding, VideoSpec
from tests.sim.lab_world import Laboratory
from tests.sim.network import SECOND, Link, LinkSpec
from tests.sim.publisher import (
    CODEC_TYPES,
    MID_ID,
    OPUS_TYPE,
    RID_ID,
    RRID_ID,
    TWCC_ID,
    Publisher,
    SentTrack,
    SoundSpec,
)
from tests.sim.viewer import RED_TYPE, Arrivals, ReceiverEstimate, Viewer

WARM_UP = 4 * SECOND
"""The cart publishes so long before the first doctor joins."""
WIDE = LinkSpec()
CART = 1
FIRST_TRACK = 2
FIRST_DOCTOR = 10
"""Ids of the engine: the cart, up to eight tracks, then doctors; their legs have SSRCs, which are larger."""

POLICIES = {"clinical": 0, "flat": 1, "equal": 2}
"""AllocMode of the server, and of the two that it is held against: no priority, and equal shares."""

EXTENSIONS = (
    (MID_ID, ExtKind.EXT_MID),
    (RID_ID, ExtKind.EXT_RID),
    (RRID_ID, ExtKind.EXT_RRID),
    (TWCC_ID, ExtKind.EXT_TWCC),
)


class SourceSpec(msgspec.Struct, frozen=True):
    """One track: its source as in BUDGETS.md, its floor in kbit/s and frames per second, and what it is made with."""

    source: str
    medium: VideoSpec | SoundSpec
    floor_kbps: int
    alarm_kbps: int
    floor_frames: int = 0
    alarm_frames: int = 0
    least_height: int = 0
    rank: int = 0


CAMERA = SourceSpec(
    "camera",
    VideoSpec(
        Codec.CODEC_VP8,
        (
            Encoding(320, 180, 60_000, 200_000, "q"),
            Encoding(640, 360, 250_000, 700_000, "h"),
            Encoding(1280, 720, 800_000, 2_000_000, "f"),
        ),
    ),
    floor_kbps=400,
    alarm_kbps=600,
    floor_frames=15,
    alarm_frames=15,
    least_height=360,
    rank=3,
)
ULTRASOUND = SourceSpec(
    "ultrasound",
    VideoSpec(
        Codec.CODEC_VP8,
        (
            Encoding(1280, 720, 400_000, 1_000_000, "low"),
            Encoding(1280, 720, 1_200_000, 2_200_000, "middle"),
            Encoding(1280, 720, 2_500_000, 5_000_000, "high"),
        ),
    ),
    floor_kbps=1000,
    alarm_kbps=2000,
    floor_frames=15,
    alarm_frames=25,
    least_height=480,
    rank=2,
)
STETHOSCOPE = SourceSpec("stethoscope", SoundSpec(128_000), floor_kbps=64, alarm_kbps=96, rank=1)
VOICE = SourceSpec("voice", SoundSpec(40_000, red=True), floor_kbps=16, alarm_kbps=24)
CONSULTATION = (CAMERA, ULTRASOUND, STETHOSCOPE, VOICE)


def with_codec(spec: SourceSpec, codec: Codec) -> SourceSpec:
    """The same picture by another codec; VP9 and AV1 as one stream of three spatial layers where sizes differ."""
    medium = spec.medium
    assert isinstance(medium, VideoSpec)
    svc = codec in (Codec.CODEC_VP9, Codec.CODEC_AV1) and len({one.height for one in medium.encodings}) > 1
    temporal = 1 if codec == Codec.CODEC_H264 else medium.temporal
    return msgspec.structs.replace(
        spec, medium=msgspec.structs.replace(medium, codec=codec, svc=svc, temporal=temporal)
    )


def single(spec: SourceSpec) -> SourceSpec:
    """Only the highest encoding: a publisher without simulcast."""
    medium = spec.medium
    assert isinstance(medium, VideoSpec)
    top = msgspec.structs.replace(medium.encodings[-1], least=50_000)
    return msgspec.structs.replace(spec, medium=msgspec.structs.replace(medium, encodings=(top,)))


def payload_types(medium: VideoSpec | SoundSpec) -> dict[int, Codec]:
    """What it is sent in, the payload type that is used first."""
    if isinstance(medium, VideoSpec):
        return {CODEC_TYPES[medium.codec]: medium.codec}
    red = {RED_TYPE: Codec.CODEC_RED} if medium.red else {}
    return {**red, OPUS_TYPE: Codec.CODEC_OPUS}


class Consultation:
    """A laboratory with a cart and its doctors. `legs`: (doctor's number, source) -> the receiver of that leg.

    The cart publishes for `warm_up` µs before the first doctor joins; its own estimate begins at `start_bps`."""

    def __init__(
        self,
        *,
        seed: int = 1,
        sources: Sequence[SourceSpec] = CONSULTATION,
        cart: LinkSpec = WIDE,
        policy: str = "clinical",
        warm_up: int = WARM_UP,
        start_bps: int = START_BPS,
    ) -> None:
        self.seed = seed
        self.policy = policy
        self.sources = tuple(sources)
        self.laboratory = Laboratory(Engine(seed=seed.to_bytes(16, "big"), allocation=POLICIES[policy]))
        laboratory = self.laboratory
        self.cart = Publisher(
            laboratory.engine,
            CART,
            ("192.0.2.1", 5000),
            seed,
            Link(cart, seed * 100 + 1, laboratory.now),
            Link(LinkSpec(delay=cart.delay), seed * 100 + 2, laboratory.now),
            start_bps,
        )
        laboratory.add(self.cart)
        self.doctors: list[Viewer] = []
        for index, spec in enumerate(self.sources):
            self._publish(index, spec)
        laboratory.run(warm_up)

    def _publish(self, index: int, spec: SourceSpec) -> None:
        medium = spec.medium
        video = isinstance(medium, VideoSpec)
        types = payload_types(medium)
        track = SentTrack(str(index), medium, 1_000 * (index + 1), next(iter(types)), self.seed * 1000 + index)
        payloads = tuple(
            PayloadParams(
                payload_type,
                codec,
                track.clock,
                rtx_type=payload_type + 1 if video else 0,
                nack=True,
                pli=video,
                fir=video,
                transport_cc=True,
            )
            for payload_type, codec in types.items()
        )
        params = TrackParams(
            mid=track.mid,
            video=video,
            payloads=payloads,
            extensions=EXTENSIONS,
            rids=tuple(one.rid for one in track.sources if one.rid),
        )
        self.laboratory.engine.add_track(FIRST_TRACK + index, CART, params)
        self.cart.add(track)

    def join(
        self,
        down: LinkSpec,
        up: LinkSpec | None = None,
        *,
        named: bool = False,
        remb: bool = False,
        shakes_hands: bool = False,
        repairs_sound: bool = True,
        without: Sequence[str] = (),
    ) -> Viewer:
        """A doctor joins and views everything but the sources `without`. `named`: it tells of packets as RFC 8888 does;
        `remb`: of none, but what it takes its line to carry. `shakes_hands`: see LabPeer. `repairs_sound`: lost sound
        may be asked for again, as our own pages have it and browsers by themselves have not."""
        laboratory, number = self.laboratory, FIRST_DOCTOR + len(self.doctors)
        doctor = Viewer(
            laboratory.engine,
            number,
            ("198.51.100.1", 6000 + number),
            self.seed,
            Link(up or LinkSpec(delay=down.delay), self.seed * 100 + 2 * number, laboratory.now),
            Link(down, self.seed * 100 + 2 * number + 1, laboratory.now),
        )
        if named:
            doctor.arrivals = Arrivals()
        if remb:
            doctor.estimate = ReceiverEstimate()
        doctor.shakes_hands = shakes_hands
        laboratory.add(doctor)
        self.doctors.append(doctor)
        for spec in self.sources:
            if spec.source not in without:
                self.view(doctor, spec.source, repairs_sound=repairs_sound)
        return doctor

    def view(self, doctor: Viewer, source: str, *, repairs_sound: bool = True) -> None:
        """The doctor views that source too."""
        index = next(index for index, spec in enumerate(self.sources) if spec.source == source)
        spec = self.sources[index]
        medium = spec.medium
        ssrc = doctor.number * 1_000 + 10 * index
        video = isinstance(medium, VideoSpec)
        if isinstance(medium, VideoSpec):
            doctor.add_picture(medium.codec, ssrc, ssrc + 1)
        else:
            doctor.add_sound(ssrc)
        payloads = tuple(
            LegPayload(one, one, one + 1 if video else 0, nack=video or repairs_sound) for one in payload_types(medium)
        )
        params = LegParams(
            mid=str(index),
            ssrc=ssrc,
            rtx_ssrc=ssrc + 1 if video else 0,
            cname="cart",
            payloads=payloads,
            extensions=EXTENSIONS if doctor.arrivals is None and doctor.estimate is None else EXTENSIONS[:-1],
            named=doctor.arrivals is not None,
            playout_delay=(0, 0) if video else None,
            policy=LegPolicy(
                rank=spec.rank if self.policy == "clinical" else 0,
                floor_bps=spec.floor_kbps * 1000,
                floor_frames=spec.floor_frames,
                least_height=spec.least_height,
                frames_first=spec.source == "ultrasound",
            ),
        )
        self.laboratory.engine.add_leg(ssrc, FIRST_TRACK + index, doctor.number, params)

    def ssrc(self, doctor: Viewer, source: str) -> int:
        """The SSRC of the leg of this source."""
        index = next(index for index, spec in enumerate(self.sources) if spec.source == source)
        return doctor.number * 1_000 + 10 * index
