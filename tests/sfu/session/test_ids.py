"""Identifiers and credentials, and the candidate lines that go with them."""

from __future__ import annotations

import random
import re

from mediaserver.sfu.session.ice import Credentials, candidate_lines, connection_line
from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.wire.sdp import parse_candidate


def make(seed: int = 1) -> Ids[str]:
    return Ids(random.Random(seed).randbytes)


def test_plane_ids_are_never_handed_out_twice() -> None:
    ids = make()
    one = ids.claim("room")
    assert ids.owner(one) == "room"
    ids.release(one)
    ids.release(one)
    assert ids.owner(one) is None
    assert ids.claim("room") != one
    assert len(ids) == 1


def test_credentials_are_ice_chars_of_the_right_length() -> None:
    ids = make()
    for _ in range(200):
        ufrag, pwd = Credentials.fresh(ids)
        assert re.fullmatch(r"[A-Za-z0-9+/]{12}", ufrag)
        assert re.fullmatch(r"[A-Za-z0-9+/]{32}", pwd)
        assert re.fullmatch(r"t-[A-Za-z0-9_-]{16}", ids.name("t"))
        assert 0 < ids.ssrc() < 2**32
        assert 0 <= ids.session_id() < 2**63


def test_the_source_of_randomness_decides_all() -> None:
    assert [make(1).ufrag(), make(1).pwd()] != [make(2).ufrag(), make(2).pwd()]
    assert make(1).name("t") == make(1).name("t")
    assert Ids[str](bytes).ssrc() == 1  # 0 means "none" elsewhere


def test_candidate_lines_are_candidates() -> None:
    addresses = [("2001:db8::1", 5000), ("192.0.2.1", 5000)]
    first, second = (parse_candidate(line) for line in candidate_lines(addresses))
    assert (first.address, first.port, first.transport, first.type) == ("2001:db8::1", 5000, "udp", "host")
    assert first.priority > second.priority
    assert first.foundation != second.foundation
    assert connection_line(addresses) == "IN IP6 2001:db8::1"
    assert connection_line([]) == "IN IP4 0.0.0.0"
