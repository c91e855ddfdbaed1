from collections.abc import Sequence
from typing import NamedTuple

class Block(NamedTuple):
    payload_type: int
    age: int
    data: bytes

def parse(payload: bytes) -> list[Block]: ...
def build(blocks: Sequence[Block]) -> bytes: ...
