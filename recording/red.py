"""Redundant audio (RED, RFC 2198): the primary block, which is the packet as it would be without."""

from __future__ import annotations


def primary(payload: bytes) -> tuple[int, bytes] | None:
    """Payload type and data of the primary block, the last one; None when malformed."""
    offset = 0
    redundant = 0
    while offset < len(payload) and payload[offset] & 0x80:
        if offset + 4 > len(payload):
            return None
        redundant += (payload[offset + 2] & 3) << 8 | payload[offset + 3]
        offset += 4
    start = offset + 1 + redundant
    if start > len(payload):
        return None
    return payload[offset] & 0x7F, payload[start:]
