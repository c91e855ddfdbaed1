from typing import NamedTuple

class Described(NamedTuple):
    """What one descriptor tells.

    `frame_number`: each layer of a picture has its own. `described`: 1 the number is set, 2 the layers, targets,
    switches and depends too, 4 it refers further back than 32.
    `targets`, `switches`: a bit for each decode target that the frame belongs to, and that can be entered there.
    `depends`: bit d - 1 for the frame whose number is lower by d.
    """

    start: bool
    end: bool
    frame_number: int
    described: int
    spatial_id: int
    temporal_id: int
    targets: int
    switches: int
    depends: int
    layer_count: int
    width: int
    height: int

class Dependency:
    """The descriptors of one source (AV1 RTP specification, appendix A), in order of arrival."""

    def read(self, ext: bytes) -> Described:
        """ValueError when it is malformed."""

    @property
    def active(self) -> int:
        """A bit for each decode target that the sender says it sends."""

    @property
    def targets(self) -> list[tuple[int, int]]:
        """(spatial, temporal) of each decode target."""

    @property
    def contains(self) -> list[int]:
        """For each decode target the bits of those that lie within it, itself included."""

    @property
    def structure(self) -> bytes:
        """The latest structure as it was sent, from its first bit, padded to a whole byte; empty when none came."""
