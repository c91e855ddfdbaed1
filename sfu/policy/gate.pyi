from typing import NamedTuple

class Passed(NamedTuple):
    """A packet that leaves: its payload and dependency descriptor (empty when it has none) as they are then.

    `switched`: the first packet of another encoding. `opened`: the first after a wait for a keyframe.
    """

    payload: bytes
    descriptor: bytes
    marker: bool
    switched: bool
    opened: bool

class Gate:
    """The layer gate of one viewer (layers.pxd), with what the packet's way keeps for each encoding."""

    def __init__(self, codec: int, encodings: int = 1) -> None: ...
    def target(self, spatial: int, temporal: int) -> None:
        """`spatial` is an encoding where there are several, else an SVC layer; -1: all there is."""

    def gone(self, encoding: int) -> None:
        """That encoding no longer comes."""

    def restart(self, encoding: int, new_source: bool = False) -> None:
        """Up to a keyframe nothing passes; `new_source`: the numbers begin anew."""

    def offer(
        self, encoding: int, sequence: int, timestamp: int, marker: bool, payload: bytes, descriptor: bytes = b""
    ) -> Passed | int:
        """What leaves, or the verdict: 1 dropped, 2 waiting for a keyframe or of another encoding.

        ValueError for an encoding that there can't be.
        """

    def again(
        self, encoding: int, sequence: int, timestamp: int, marker: bool, payload: bytes, descriptor: bytes = b""
    ) -> Passed | None:
        """The same packet as a retransmission; None when it must not leave. Its flags are not told."""

    @property
    def want_key_of(self) -> int:
        """The encoding of which a keyframe is needed, -1 none."""

    @property
    def encoding(self) -> int: ...
    @property
    def spatial(self) -> int: ...
    @property
    def temporal(self) -> int: ...
    @property
    def open(self) -> bool: ...
