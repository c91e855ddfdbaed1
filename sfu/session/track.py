"""A published track and its legs to the viewers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mediaserver.sfu.session.model import Freshness, Kind, Publication, Quality, SoundFault, Source, TrackInfo
from mediaserver.sfu.session.negotiate import Agreed
from mediaserver.sfu.stream.params import LegParams, TrackParams


@dataclass(slots=True)
class Track:
    """One published medium. `plane_id` is its id in the data plane: a recorder taps it by that."""

    id: str
    plane_id: int
    participant: str
    kind: Kind
    publication: Publication
    mid: str
    published: Sequence[Agreed]
    params: TrackParams
    added: int = 0
    """when it was published, µs"""
    muted: bool = False
    live: bool = False
    codec: str = ""
    width: int = 0
    height: int = 0
    freshness: Freshness = Freshness.LIVE
    faults: tuple[SoundFault, ...] = ()
    legs: dict[int, Leg] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        return self.publication.source

    @property
    def info(self) -> TrackInfo:
        return TrackInfo(
            id=self.id,
            participant=self.participant,
            source=self.source,
            kind=self.kind,
            label=self.publication.label,
            codec=self.codec,
            muted=self.muted,
            width=self.width,
            height=self.height,
            live=self.live,
            freshness=self.freshness,
            faults=self.faults,
        )


AS_ASKED = Quality()


@dataclass(slots=True)
class Leg:
    """A track on its way to one viewer, on one of the viewer's m-lines."""

    plane_id: int
    track: Track
    participant: str
    mid: str
    params: LegParams
    paused: bool = False
    quality: Quality = AS_ASKED
    """as the data plane last told, but for the viewer's own pause"""
