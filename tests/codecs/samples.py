"""Pieces of payloads, the shortest that are still what they stand for."""

from __future__ import annotations

# H.264: baseline level 3.1, 320x240; the PPS of it; two slices of a picture, as x264 writes their first bytes.
SPS = bytes.fromhex("6742c01fd90141fb0110000003001000000303c0f1832e")
PPS = bytes.fromhex("68cb83cb20")
IDR = b"\x65\x88\x84\x05\x10\x11\x12"
IDR_SECOND_SLICE = b"\x65\x02\x62\x21\x10\x11\x12"
SLICE = b"\x41\x9a\x02\x05\x10\x11\x12"
SLICE_UNREFERENCED = b"\x01\x9a\x02\x05\x10\x11\x12"


# H.265: main profile, 320x240.
H265_VPS, H265_SPS, H265_PPS = (
    bytes.fromhex("40010c01ffff01600000030090000003000003001e959809"),
    bytes.fromhex("420101016000000300900000030000030 01ea00a080f165959a4932bc05a70808082".replace(" ", "")),
    bytes.fromhex("4401c172b46240"),
)

# The head of a key frame of 320x240.
VP8_KEY = b"\x10\x00\x00\x9d\x01\x2a\x40\x01\xf0\x00"

# A key frame of profile 0, 320x240, and an inter frame.
VP9_KEY = bytes.fromhex("8249834200" + "13f00ef0" + "00")
VP9_INTER = b"\x86\x00\x40\x92\x88"
VP9_STRUCTURE = b"\x58\x01\x40\x00\xb4\x02\x80\x01\x68\x05\x00\x02\xd0\x02\x04\x01\x38\x02\x01"

# The beginning of a key frame, and of another frame.
AV1_KEY = b"\x30\x10\x00"
AV1_INTER = b"\x30\x30\x00"


def stap(*nals: bytes) -> bytes:
    return b"\x78" + b"".join(len(nal).to_bytes(2) + nal for nal in nals)
