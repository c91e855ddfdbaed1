class Bits:
    """Reads the bits of `data` from the first; `escaped`: drop emulation prevention bytes.

    Past the end it gives zeros and sets `error`.
    """

    def __init__(self, data: bytes, escaped: bool = False) -> None: ...
    def read(self, count: int) -> int:
        """The next bits, at most 32, most significant first."""

    def ue(self) -> int: ...
    def se(self) -> int: ...
    @property
    def error(self) -> bool: ...

def leb128_decode(data: bytes) -> tuple[int, int]:
    """The value and the bytes that it takes; ValueError when malformed or over 32 bits."""

def leb128_encode(value: int) -> bytes:
    """The shortest form."""
