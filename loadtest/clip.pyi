from collections.abc import Iterable

class Clip:
    def __init__(
        self,
        frames: Iterable[Iterable[bytes]],
        keyframes: Iterable[bool],
        duration: int,
        clock_rate: int,
        video: bool,
    ) -> None: ...
    @property
    def packets(self) -> int: ...
    @property
    def seconds(self) -> float: ...
