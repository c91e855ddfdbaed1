class AccessUnit:
    """One picture, or one packet of sound, as a decoder or a muxer takes it.

    `data` is Annex B for H.264 and H.265, low-overhead OBUs without temporal delimiter for AV1, the frame for VP8
    and VP9, the packet for Opus. `complete` False: something of it was lost or broken. `width` and `height` are of
    the picture as shown, 0 while unknown and for sound. `config`, at keyframes: the parameter sets in Annex B, the
    sequence header OBU, else None.
    """

    def __init__(
        self,
        data: bytes,
        timestamp: int,
        keyframe: bool = False,
        width: int = 0,
        height: int = 0,
        complete: bool = True,
        config: bytes | None = None,
    ) -> None: ...
    @property
    def data(self) -> bytes: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def keyframe(self) -> bool: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def complete(self) -> bool: ...
    @property
    def config(self) -> bytes | None: ...

class Assembler:
    """Payloads of one RTP stream in, in sequence order; access units out. Holds at most 16 MiB.

    It never raises for what the network sent: what is lost or broken shows in `complete`, or is left out.
    """

    def push(self, payload: bytes, timestamp: int, marker: bool, lost_before: bool = False) -> list[AccessUnit]:
        """The units that end with this payload: none, one, or two when the end of the one before got lost.

        `lost_before`: packets are missing right before this one.
        """

    def flush(self) -> list[AccessUnit]:
        """The unit under way, at the end of the stream; it is incomplete, as nothing said that it had ended."""
