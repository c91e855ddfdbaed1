"""AES-GCM by either library: which one is taken, and that they make the same bytes and refuse the same ones."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from mediaserver.sfu.wire import gcm, srtp
from mediaserver.sfu.wire.srtp import SrtpError, SrtpSession

KEYS = {srtp.PROFILE_AEAD_AES_128_GCM: 16, srtp.PROFILE_AEAD_AES_256_GCM: 32}
each_profile = pytest.mark.parametrize("profile", KEYS, ids=["gcm128", "gcm256"])
with_ipsec_mb = pytest.mark.skipif(bool(gcm.obstacle()), reason=f"ipsec-mb can't be used here: {gcm.obstacle()}")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    gcm.choose("auto")


def sessions(profile: int) -> tuple[SrtpSession, SrtpSession]:
    """One of OpenSSL's and one of ipsec-mb's, under the same keys."""
    made = []
    for library in ("openssl", "auto"):
        gcm.choose(library)  # type: ignore[arg-type]
        made.append(SrtpSession(profile, bytes(range(KEYS[profile])), bytes(range(12))))
    return made[0], made[1]


def test_a_choice_is_named() -> None:
    gcm.choose("openssl")
    assert gcm.library().startswith("OpenSSL ")
    gcm.choose("auto")
    assert gcm.library().startswith("OpenSSL " if gcm.obstacle() else "ipsec-mb ")
    with pytest.raises(ValueError, match="nss"):
        gcm.choose("nss")  # type: ignore[arg-type]


@with_ipsec_mb
@each_profile
def test_both_libraries_make_the_same_packets_of_every_size(profile: int) -> None:
    ours, theirs = sessions(profile)
    content = bytes(number * 7 & 255 for number in range(1500))
    for size in range(1500):
        csrcs = size % 16
        packet = struct.pack("!BBHII", 0x80 | csrcs, 96, size, 0, 5) + content[: 4 * csrcs] + content[:size]
        sealed = ours.protect(packet)
        assert theirs.protect(packet) == sealed
        assert theirs.unprotect(sealed) == packet
        assert ours.unprotect(sealed) == packet
    for size in range(0, 1200, 4):
        packet = struct.pack("!BBHI", 0x80, 200, 1 + size // 4, 5) + content[:size]
        sealed = ours.protect_rtcp(packet)
        assert theirs.protect_rtcp(packet) == sealed
        assert theirs.unprotect_rtcp(sealed) == packet
        assert ours.unprotect_rtcp(sealed) == packet


@with_ipsec_mb
@each_profile
@pytest.mark.parametrize("size", [0, 5, 300, 1200])
def test_a_tag_counts_to_its_last_bit(profile: int, size: int) -> None:
    _, session = sessions(profile)
    sealed = session.protect(struct.pack("!BBHII", 0x80, 96, 9, 0, 5) + bytes(size))
    for bit in range(128):
        forged = bytearray(sealed)
        forged[-1 - bit // 8] ^= 1 << bit % 8
        with pytest.raises(SrtpError, match="does not verify"):
            session.unprotect(bytes(forged))
    assert session.unprotect(sealed)[12:] == bytes(size)
