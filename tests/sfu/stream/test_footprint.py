"""What a participant and a leg take while nothing flows: a room of a thousand viewers is mostly that."""

from __future__ import annotations

from mediaserver.sfu.stream.plane import footprint

LEG = 1280
"""Bytes of the data plane; the control plane has as much again for it, and together they are to be 2 KiB at most."""
PEER = 8192


def test_an_idle_leg_is_small() -> None:
    sizes = footprint()
    assert sizes["leg"] + sizes["gate"] <= LEG


def test_a_peer_is_small() -> None:
    assert footprint()["peer"] <= PEER
