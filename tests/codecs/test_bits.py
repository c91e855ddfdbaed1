"""The bit reader against what the codes are defined to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.codecs.bits import Bits, leb128_decode, leb128_encode


def pack(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return int(bits or "0", 2).to_bytes(len(bits) // 8)


def code(value: int) -> str:
    """ue(v) as ITU-T H.264 defines it in table 9-1."""
    binary = f"{value + 1:b}"
    return "0" * (len(binary) - 1) + binary


@given(st.lists(st.tuples(st.integers(0, 32), st.integers(0, 2**32 - 1)), max_size=40))
def test_fixed_lengths(fields: list[tuple[int, int]]) -> None:
    text = "".join(f"{value & ((1 << count) - 1):0{count}b}" if count else "" for count, value in fields)
    reader = Bits(pack(text))
    for count, value in fields:
        assert reader.read(count) == value & ((1 << count) - 1)
    assert not reader.error


@given(st.lists(st.integers(0, 2**32 - 2), max_size=20))
def test_exp_golomb(values: list[int]) -> None:
    data = pack("".join(map(code, values)))
    unsigned, signed = Bits(data), Bits(data)
    for value in values:
        assert unsigned.ue() == value
        assert signed.se() == ((value + 1) // 2 if value % 2 else -(value // 2))
    assert not unsigned.error
    assert not signed.error


def test_a_code_of_33_bits_is_an_error() -> None:
    reader = Bits(b"\x00\x00\x00\x00\xff\xff\xff\xff\xff")
    assert reader.ue() == 0
    assert reader.error


@given(st.binary(max_size=64))
def test_emulation_prevention(data: bytes) -> None:
    escaped = bytearray()
    zeros = 0
    for byte in data:
        if zeros == 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = 0 if byte else zeros + 1
    reader = Bits(bytes(escaped), True)
    assert bytes(reader.read(8) for _ in data) == data
    assert not reader.error


@given(st.binary(max_size=16), st.lists(st.integers(0, 40), max_size=40), st.booleans())
def test_the_end_gives_zeros(data: bytes, counts: list[int], escaped: bool) -> None:
    reader = Bits(data, escaped)
    taken = 0
    for count in counts:
        value = reader.read(count)
        taken += count
        assert value < 1 << 32
        if count > 32 or taken > 8 * len(data):
            assert reader.error
    while not reader.error:
        reader.read(32)
    assert reader.read(32) == 0
    assert reader.ue() == 0


@given(st.integers(0, 2**32 - 1), st.binary(max_size=4))
def test_leb128(value: int, rest: bytes) -> None:
    coded = leb128_encode(value)
    assert leb128_decode(coded + rest) == (value, len(coded))
    for cut in range(len(coded)):
        with pytest.raises(ValueError, match="leb128"):
            leb128_decode(coded[:cut])
    # Longer forms, up to eight bytes, are allowed.
    padded = coded[:-1] + bytes([coded[-1] | 0x80]) + b"\x80" * (7 - len(coded)) + b"\x00"
    assert leb128_decode(padded) == (value, 8)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff\x1f", b"\x80\x80\x80\x80\x80\x01", b"\x80" * 8, b"\x80" * 8 + b"\x00"]
)
def test_leb128_of_more_than_32_bits(data: bytes) -> None:
    with pytest.raises(ValueError, match="leb128"):
        leb128_decode(data)
