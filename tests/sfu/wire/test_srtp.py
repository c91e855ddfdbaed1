"""SRTP against the RFCs' vectors, against libsrtp, and against what an attacker may send."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pylibsrtp
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.sfu.wire import gcm, srtp
from mediaserver.sfu.wire.srtp import SrtpError, SrtpSession

CM, GCM128, GCM256 = srtp.PROFILE_AES128_CM_SHA1_80, srtp.PROFILE_AEAD_AES_128_GCM, srtp.PROFILE_AEAD_AES_256_GCM
PROFILES = {CM: (16, 14), GCM128: (16, 12), GCM256: (32, 12)}
ORACLE = {
    CM: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    GCM128: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    GCM256: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
SHORT, AUTH, REPLAY, LIMIT = -1, -2, -3, -4
SSRC = 0x5501A0B2
WINDOW = 4096
"""Packets; see `SRTP_WINDOW_WORDS`."""

each_profile = pytest.mark.parametrize("profile", [CM, GCM128, GCM256], ids=["cm", "gcm128", "gcm256"])


@pytest.fixture(autouse=True, scope="module", params=["openssl", "ipsec-mb"])
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """All of it by each library that AES-GCM can come from."""
    if request.param == "ipsec-mb" and gcm.obstacle():
        pytest.skip(f"ipsec-mb can't be used here: {gcm.obstacle()}")
    gcm.choose("openssl" if request.param == "openssl" else "auto")
    yield request.param
    gcm.choose("auto")


def keying(profile: int) -> tuple[bytes, bytes]:
    key_size, salt_size = PROFILES[profile]
    return bytes(range(1, key_size + 1)), bytes(range(0x80, 0x80 + salt_size))


def session(profile: int) -> SrtpSession:
    return SrtpSession(profile, *keying(profile))


def oracle(profile: int, *, inbound: bool, window: int = WINDOW) -> pylibsrtp.Session:
    ssrc_type = pylibsrtp.Policy.SSRC_ANY_INBOUND if inbound else pylibsrtp.Policy.SSRC_ANY_OUTBOUND
    policy = pylibsrtp.Policy(b"".join(keying(profile)), ssrc_type, 0, ORACLE[profile])
    policy.window_size = window
    return pylibsrtp.Session(policy)


def rtp(
    sequence: int, payload: bytes = b"payload", ssrc: int = SSRC, csrcs: int = 0, ext: bytes | None = None
) -> bytes:
    first = 0x80 | csrcs | (0x10 if ext is not None else 0)
    packet = struct.pack("!BBHII", first, 96, sequence & 0xFFFF, sequence * 90 & 0xFFFFFFFF, ssrc) + b"csrc" * csrcs
    if ext is not None:
        packet += struct.pack("!HH", 0xBEDE, len(ext) // 4) + ext
    return packet + payload


def rtcp(ssrc: int = SSRC, body: bytes = b"\x00" * 20) -> bytes:
    return struct.pack("!BBHI", 0x80, 200, 1 + len(body) // 4, ssrc) + body


def refused(code: int, call: object, packet: bytes) -> None:
    with pytest.raises(SrtpError) as caught:
        call(packet)  # type: ignore[operator]
    assert caught.value.code == code


# ---- the RFCs' vectors


def test_key_derivation_of_rfc_3711_b3() -> None:
    key, salt = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139"), bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6")
    assert srtp.session_keys(CM, key, salt)[0] == (
        bytes.fromhex("C61E7A93744F39EE10734AFE3FF7A087"),
        bytes.fromhex("30CBBC08863D8C85D49DB34A9AE1"),
        bytes.fromhex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"),
    )


def test_keystream_of_rfc_3711_b2() -> None:
    keys = (bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3C"), bytes.fromhex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"), b"a" * 20)
    sealed = SrtpSession(CM, derived=(keys, keys)).protect(rtp(0, bytes(48), ssrc=0))
    assert sealed[12:60].hex().upper() == (
        "E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB41E95B3BB0A2E8DD477901E4FCA894C0"
    )


GCM_RTP = "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573"
GCM_RTCP = "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
GCM_VECTORS = {
    GCM128: (
        "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833"
        "899d7f27beb16a9152cf765ee4390cce",
        "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9275b"
        "c84aa45896cf4d2fc5abf87245d9eade800005d4",
    ),
    GCM256: (
        "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b"
        "7aa3db36dfffd6b0f9bb7878d7a76c13",
        "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658c61de0476f1b6fad"
        "1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
    ),
}


def gcm_vector_session(profile: int) -> SrtpSession:
    keys = (bytes(range(PROFILES[profile][0])), b"Quid pro quo", b"")
    return SrtpSession(profile, derived=(keys, keys))


@pytest.mark.parametrize("profile", [GCM128, GCM256])
def test_packets_of_rfc_7714(profile: int) -> None:
    sealed, sealed_rtcp = (bytes.fromhex(vector) for vector in GCM_VECTORS[profile])
    sender, receiver = gcm_vector_session(profile), gcm_vector_session(profile)
    assert sender.protect(bytes.fromhex(GCM_RTP)) == sealed
    assert receiver.unprotect(sealed).hex() == GCM_RTP
    sender.rtcp_index = 0x5D4
    assert sender.protect_rtcp(bytes.fromhex(GCM_RTCP)) == sealed_rtcp
    assert receiver.unprotect_rtcp(sealed_rtcp).hex() == GCM_RTCP


def test_unencrypted_srtcp_is_refused() -> None:
    """RFC 7714 section 17.3: tagged alone, which DTLS-SRTP could not have agreed on."""
    tagged = GCM_RTCP + "841dd9683dd78ec92ae58790125f62b3000005d4"
    refused(AUTH, gcm_vector_session(GCM128).unprotect_rtcp, bytes.fromhex(tagged))


# ---- libsrtp as the oracle


@each_profile
def test_libsrtp_opens_what_we_seal_and_we_open_what_it_seals(profile: int) -> None:
    ours, theirs = session(profile), oracle(profile, inbound=False)
    our_receiver, their_receiver = session(profile), oracle(profile, inbound=True)
    shapes = [(0, None), (3, None), (0, b""), (15, b"12345678")]
    for ssrc, (csrcs, ext) in enumerate(shapes):
        for sequence, size in enumerate((0, 1, 15, 16, 17, 160, 1187, 1188, 1200)):
            packet = rtp(sequence, bytes(range(240)) * 5, ssrc, csrcs, ext)[: size - 1200 or None]
            sealed = ours.protect(packet)
            assert sealed == theirs.protect(packet)
            assert our_receiver.unprotect(sealed) == packet
            assert their_receiver.unprotect(sealed) == packet


@each_profile
def test_libsrtp_agrees_over_roll_overs(profile: int) -> None:
    ours, theirs = session(profile), oracle(profile, inbound=False)
    our_receiver, their_receiver = session(profile), oracle(profile, inbound=True)
    index = 65000
    while index < 4 * 65536:
        packet = rtp(index)
        sealed = theirs.protect(packet)
        assert ours.protect(packet, roc=index >> 16) == sealed
        assert our_receiver.unprotect(sealed) == packet
        assert our_receiver.highest_index(SSRC) == index
        assert their_receiver.unprotect(sealed) == packet
        # libsrtp follows its own sender over steps of less than half the sequence space.
        index += 1 if index % 65536 > 65530 or index % 65536 < 5 else 997


@each_profile
def test_libsrtp_agrees_on_srtcp(profile: int) -> None:
    ours, theirs = session(profile), oracle(profile, inbound=False)
    our_receiver, their_receiver = session(profile), oracle(profile, inbound=True)
    for count in range(200):
        packet = rtcp(ssrc=SSRC, body=bytes([count]) * (4 * (count % 40)))
        theirs_sealed = theirs.protect_rtcp(packet)
        assert our_receiver.unprotect_rtcp(theirs_sealed) == packet
        refused(REPLAY, our_receiver.unprotect_rtcp, theirs_sealed)
        assert their_receiver.unprotect_rtcp(ours.protect_rtcp(packet)) == packet


@each_profile
def test_srtcp_sources_have_replay_windows_of_their_own(profile: int) -> None:
    """libsrtp counts the SRTCP index per SSRC, so that one index comes from each of them."""
    theirs, receiver = oracle(profile, inbound=False), session(profile)
    sealed = [theirs.protect_rtcp(rtcp(ssrc)) for ssrc in range(1, 101)]
    for ssrc, packet in enumerate(sealed, 1):
        assert receiver.unprotect_rtcp(packet) == rtcp(ssrc)
    for packet in sealed:
        refused(REPLAY, receiver.unprotect_rtcp, packet)


def test_srtcp_sources_are_bounded() -> None:
    sender, receiver = session(GCM128), session(GCM128)
    for ssrc in range(1024):
        receiver.unprotect_rtcp(sender.protect_rtcp(rtcp(ssrc)))
    refused(LIMIT, receiver.unprotect_rtcp, sender.protect_rtcp(rtcp(5000)))
    assert receiver.unprotect_rtcp(sender.protect_rtcp(rtcp(7))) == rtcp(7)


@pytest.mark.parametrize("profile", [GCM128, GCM256])
def test_gcm_against_an_independent_construction(profile: int) -> None:
    """The IV of RFC 7714 section 8.1, built apart from the code under test."""
    (key, salt, _), _ = srtp.session_keys(profile, *keying(profile))
    packet, roc = rtp(0xFEDC, b"x" * 100, csrcs=2), 0xA1B2C3D4
    plain_iv = struct.pack("!HIIH", 0, SSRC, roc, 0xFEDC)
    iv = bytes(a ^ b for a, b in zip(plain_iv, salt[:12], strict=True))
    assert session(profile).protect(packet, roc) == packet[:20] + AESGCM(key).encrypt(iv, packet[20:], packet[:20])


# ---- indices and replays


@each_profile
def test_replays_are_refused_and_reordering_is_not(profile: int) -> None:
    sender, receiver = session(profile), session(profile)
    sealed = [sender.protect(rtp(sequence)) for sequence in range(2 * WINDOW)]
    last = 2 * WINDOW - 1
    order = [last, *range(last - WINDOW + 1, last)][::-1]
    for sequence in order:
        assert receiver.unprotect(sealed[sequence]) == rtp(sequence)
    for sequence in order:
        refused(REPLAY, receiver.unprotect, sealed[sequence])
    refused(REPLAY, receiver.unprotect, sealed[last - WINDOW])
    assert receiver.unprotect(sender.protect(rtp(last + 1))) == rtp(last + 1)


@each_profile
def test_reordering_over_a_roll_over(profile: int) -> None:
    sender, receiver = session(profile), session(profile)
    for index in (65534, 65537, 65535, 65538, 65536, 65533):
        assert receiver.unprotect(sender.protect(rtp(index), roc=index >> 16)) == rtp(index)
        assert receiver.highest_index(SSRC) == max(65534, index, receiver.highest_index(SSRC))
    refused(REPLAY, receiver.unprotect, sender.protect(rtp(65535), roc=0))


@each_profile
def test_a_stream_that_begins_at_a_roll_over(profile: int) -> None:
    """The packet after the wrap comes first: it cannot be placed yet, and does no harm to what follows."""
    sender, receiver = session(profile), session(profile)
    refused(AUTH, receiver.unprotect, sender.protect(rtp(65536), roc=1))
    for index in (65535, 65537, 65536):
        assert receiver.unprotect(sender.protect(rtp(index), roc=index >> 16)) == rtp(index)


def test_no_roll_over_counter_below_zero_is_guessed() -> None:
    """A late first packet with a high sequence number belongs to counter 0, not to counter -1."""
    sender, receiver = session(GCM128), session(GCM128)
    for index in (3, 60000, 65535, 65536, 5):
        if index == 5:
            refused(AUTH, receiver.unprotect, sender.protect(rtp(index)))
        else:
            assert receiver.unprotect(sender.protect(rtp(index), roc=index >> 16)) == rtp(index)


@each_profile
def test_long_jumps_empty_the_window(profile: int) -> None:
    sender, receiver = session(profile), session(profile)
    for index in (10, 10 + WINDOW, 10 + 2 * WINDOW + 5, 40000, 72000):
        assert receiver.unprotect(sender.protect(rtp(index), roc=index >> 16)) == rtp(index)
        for late in (index - 1, index - WINDOW + 1):
            if late >= 0:
                assert receiver.unprotect(sender.protect(rtp(late), roc=late >> 16)) == rtp(late)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3 * 65536), st.lists(st.integers(-6000, 6000), max_size=60))
def test_window_equals_its_model(start: int, steps: list[int]) -> None:
    sender, receiver = session(GCM128), session(GCM128)
    first = start % 65536
    seen, highest = {first}, first
    receiver.unprotect(sender.protect(rtp(first)))
    for step in steps:
        index = max(0, highest + step)
        sealed = sender.protect(rtp(index), roc=index >> 16)
        if index in seen or index <= highest - WINDOW:
            refused(REPLAY, receiver.unprotect, sealed)
        else:
            assert receiver.unprotect(sealed) == rtp(index)
            seen.add(index)
            highest = max(highest, index)
    assert receiver.highest_index(SSRC) == highest


@each_profile
def test_srtcp_window(profile: int) -> None:
    sender, receiver = session(profile), session(profile)
    sealed = [sender.protect_rtcp(rtcp()) for _ in range(400)]
    for index in (300, *range(300 - 127, 300)):
        assert receiver.unprotect_rtcp(sealed[index]) == rtcp()
        refused(REPLAY, receiver.unprotect_rtcp, sealed[index])
    refused(REPLAY, receiver.unprotect_rtcp, sealed[300 - 128])
    assert receiver.unprotect_rtcp(sealed[399]) == rtcp()


def test_index_spaces_end() -> None:
    """RFC 3711 section 3.3.1: an index is never used twice, so the last one is the last packet."""
    sender, receiver = session(GCM128), session(GCM128)
    sender.rtcp_index = 0x7FFFFFFF
    assert receiver.unprotect_rtcp(sender.protect_rtcp(rtcp())) == rtcp()
    refused(LIMIT, sender.protect_rtcp, rtcp())
    refused(LIMIT, sender.protect_rtcp, rtcp())


# ---- forgeries and broken input


@each_profile
def test_every_changed_bit_is_refused_and_leaves_no_trace(profile: int) -> None:
    sender, receiver = session(profile), session(profile)
    receiver.unprotect(sender.protect(rtp(1)))
    sealed = sender.protect(rtp(2, csrcs=1, ext=b"abcd"))
    for bit in range(8 * len(sealed)):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 0x80 >> bit % 8
        with pytest.raises(SrtpError) as caught:
            receiver.unprotect(bytes(forged))
        assert caught.value.code in (SHORT, AUTH, REPLAY)
        assert receiver.highest_index(SSRC) == 1
    assert receiver.unprotect(sealed) == rtp(2, csrcs=1, ext=b"abcd")


@each_profile
def test_every_changed_bit_of_srtcp_is_refused(profile: int) -> None:
    sender, receiver = session(profile), session(profile)
    sealed = sender.protect_rtcp(rtcp())
    for bit in range(8 * len(sealed)):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 0x80 >> bit % 8
        refused(AUTH, receiver.unprotect_rtcp, bytes(forged))
    assert receiver.unprotect_rtcp(sealed) == rtcp()


@each_profile
def test_truncated_packets_are_refused(profile: int) -> None:
    sender, receiver = session(profile), session(profile)
    sealed, sealed_rtcp = sender.protect(rtp(2, csrcs=2, ext=b"abcd")), sender.protect_rtcp(rtcp())
    for size in range(len(sealed)):
        with pytest.raises(SrtpError):
            receiver.unprotect(sealed[:size])
    for size in range(len(sealed_rtcp)):
        with pytest.raises(SrtpError):
            receiver.unprotect_rtcp(sealed_rtcp[:size])
    refused(SHORT, sender.protect, b"")
    refused(SHORT, sender.protect_rtcp, rtcp()[:7])


@each_profile
def test_oversized_packets_are_refused(profile: int) -> None:
    sender = session(profile)
    refused(SHORT, sender.protect, rtp(1, bytes(65535 - 12)))
    refused(SHORT, sender.protect_rtcp, rtcp(body=bytes(65535 - 8)))
    refused(SHORT, sender.unprotect, rtp(1, bytes(65536)))
    refused(SHORT, sender.unprotect_rtcp, rtcp(body=bytes(65536)))


@each_profile
@pytest.mark.parametrize("key_change", [-1, 1])
def test_keys_of_wrong_sizes_are_refused(profile: int, key_change: int) -> None:
    key, salt = keying(profile)
    for wrong in ((bytes(len(key) + key_change), salt), (key, bytes(len(salt) + key_change)), (b"", b"")):
        with pytest.raises(ValueError, match="profile"):
            SrtpSession(profile, *wrong)
    with pytest.raises(ValueError, match="profile"):
        SrtpSession(0x0002, key, salt)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([CM, GCM128, GCM256]),
    st.binary(max_size=1400),
    st.integers(0, 2**32 - 1),
    st.integers(0, 0xFFFF),
    st.integers(0, 15),
    st.none() | st.binary(max_size=40).map(lambda data: data + bytes(-len(data) % 4)),
)
def test_what_is_sealed_opens(
    profile: int, payload: bytes, ssrc: int, sequence: int, csrcs: int, ext: bytes | None
) -> None:
    packet = rtp(sequence, payload, ssrc, csrcs, ext)
    sealed = session(profile).protect(packet)
    header = len(packet) - len(payload)
    assert sealed[:header] == packet[:header]
    assert session(profile).unprotect(sealed) == packet


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([CM, GCM128, GCM256]), st.binary(max_size=200))
def test_noise_is_refused(profile: int, noise: bytes) -> None:
    receiver = session(profile)
    for call in (receiver.unprotect, receiver.unprotect_rtcp):
        with pytest.raises(SrtpError) as caught:
            call(noise)
        assert caught.value.code in (SHORT, AUTH)
