"""Nobody who has something due is forgotten."""

from __future__ import annotations

import msgspec

from mediaserver.sfu.stream.params import LegPolicy
from mediaserver.sfu.wire.packet import ExtKind
from tests.sfu.stream.test_catchup import Ward
from tests.sfu.stream.test_engine import MS, leg
from tests.sim.peer import ScriptedPeer

ULTRASOUND = LegPolicy(rank=2, floor_bps=1_000_000, floor_frames=15)


def test_a_viewer_whose_handshake_took_long_has_its_line_probed() -> None:
    """By then the engine had found that what it knows of the line, which is nothing, does not carry the floor."""
    ward = Ward(viewers=0)
    ward.picture(key=True, packets=10)
    ward.wait(33 * MS)
    doctor = ScriptedPeer(ward.engine, 1000, ("192.0.2.2", 6000))
    ward.doctors.append(doctor)
    ward.engine.add_peer(1000, doctor.ufrag, doctor.pwd)
    doctor.check(ward.now, nominate=True)
    wanted = leg(7000, 8000, policy=ULTRASOUND)
    wanted = msgspec.structs.replace(wanted, extensions=(*wanted.extensions, (21, ExtKind.EXT_TWCC)))
    ward.engine.add_leg(200, 100, 1000, wanted)
    ward.play(60, packets=10)
    assert doctor.received == []
    doctor.agree()
    ward.play(10, packets=10)
    assert ward.engine.peer_stats(1000)["padding_bytes"] > 0
    assert doctor.received
