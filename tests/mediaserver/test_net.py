"""Which of a machine's addresses are told to clients."""

from __future__ import annotations

import ipaddress

from mediaserver.net import candidate_addresses, machine_addresses, passing_addresses

TABLE = """\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000001 04 40 00 80     eth0
20010db8000000000000000000000002 04 40 00 20     eth0
20010db8000000000000000000000003 04 40 00 c0     eth0
20010db8000000000000000000000004 04 40 00 c8     eth0
20010db8000000000000000000000005 04 40 00 01     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
"""


def test_addresses_on_their_way_in_or_out() -> None:
    assert passing_addresses(TABLE) == {"2001:db8::2", "2001:db8::3", "2001:db8::4"}
    assert passing_addresses("") == set()


def test_the_addresses_of_this_machine() -> None:
    found = [ipaddress.ip_address(text) for text in machine_addresses()]
    assert found
    assert not [address for address in found if address.version == 6 and address.is_link_local]
    assert [address.is_loopback for address in found] == sorted(address.is_loopback for address in found)


def test_what_goes_into_the_answers() -> None:
    assert candidate_addresses("", ["203.0.113.1"]) == ("203.0.113.1",)
    assert candidate_addresses("192.0.2.1", []) == ("192.0.2.1",)
    assert candidate_addresses("", []) == tuple(machine_addresses())
