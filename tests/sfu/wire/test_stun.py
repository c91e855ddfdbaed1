from __future__ import annotations

import hashlib
import ipaddress
from binascii import crc32

import pytest
from aioice import stun as oracle
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.sfu.wire import stun
from mediaserver.sfu.wire.stun import StunRole, StunType

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
# RFC 5769, sections 2.1 to 2.4.
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008"
    "932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)
IPV4_RESPONSE = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599"
    "fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
IPV6_RESPONSE = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5"
    "bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
LONG_TERM_REQUEST = bytes.fromhex(
    "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b900000015001c662f2f3439396b39"
    "353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a2"
    "8ca89666"
)
# The long-term key after RFC 8489, section 18.5.1.
LONG_TERM_KEY = hashlib.md5("マトリックス:example.org:TheMatrIX".encode(), usedforsecurity=False).digest()
SAMPLES = pytest.mark.parametrize(
    ("data", "key"),
    [
        pytest.param(REQUEST, PASSWORD, id="request"),
        pytest.param(IPV4_RESPONSE, PASSWORD, id="ipv4"),
        pytest.param(IPV6_RESPONSE, PASSWORD, id="ipv6"),
        pytest.param(LONG_TERM_REQUEST, LONG_TERM_KEY, id="long-term"),
    ],
)
TRANSACTION = bytes(range(12))

TRANSACTIONS = st.binary(min_size=12, max_size=12)
PASSWORDS = st.binary(min_size=1, max_size=256)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


def attribute(kind: int, value: bytes = b"", size: int | None = None) -> bytes:
    length = len(value) if size is None else size
    return kind.to_bytes(2, "big") + length.to_bytes(2, "big") + value + bytes(-len(value) % 4)


def message(*attributes: bytes, kind: int = StunType.STUN_BINDING_REQUEST) -> bytes:
    body = b"".join(attributes)
    return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + TRANSACTION + body


def with_fingerprint(data: bytes, *behind: bytes) -> bytes:
    """`data` with a right FINGERPRINT, and whatever is to stand behind it."""
    tail = b"".join(behind)
    data = data[:2] + (len(data) - 20 + 8 + len(tail)).to_bytes(2, "big") + data[4:]
    return data + attribute(0x8028, (crc32(data) ^ 0x5354554E).to_bytes(4, "big")) + tail


class TestSamples:
    def test_request(self) -> None:
        parsed = stun.parse(REQUEST)
        assert parsed.type == StunType.STUN_BINDING_REQUEST
        assert parsed.transaction.hex() == "b7e7a701bc34d686fa87dfae"
        assert parsed.username == b"evtj:h6vY"
        assert (parsed.priority, parsed.role) == (0x6E0001FF, StunRole.STUN_CONTROLLED)
        assert parsed.tie_breaker == 0x932FF9B151263B36
        assert parsed.has_integrity
        assert parsed.has_fingerprint
        assert not parsed.use_candidate
        assert parsed.error_code is parsed.unknown_required is parsed.address is None
        assert stun.verify(REQUEST, PASSWORD)

    @pytest.mark.parametrize(
        ("data", "ip"), [(IPV4_RESPONSE, "192.0.2.1"), (IPV6_RESPONSE, "2001:db8:1234:5678:11:2233:4455:6677")]
    )
    def test_responses(self, data: bytes, ip: str) -> None:
        parsed = stun.parse(data)
        assert parsed.type == StunType.STUN_BINDING_SUCCESS
        assert parsed.address == (ipaddress.ip_address(ip).packed, 32853)
        assert stun.verify(data, PASSWORD)

    def test_long_term_request(self) -> None:
        parsed = stun.parse(LONG_TERM_REQUEST)
        assert parsed.username == "マトリックス".encode()
        assert parsed.unknown_required is None
        assert not parsed.has_fingerprint
        assert stun.verify(LONG_TERM_REQUEST, LONG_TERM_KEY)

    @SAMPLES
    def test_every_changed_bit_is_noticed(self, data: bytes, key: bytes) -> None:
        kind_of_fingerprint = range(len(data) - 8, len(data) - 6) if stun.parse(data).has_fingerprint else range(0)
        for bit in range(8 * len(data)):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            # Another optional attribute in its place is one to ignore: what the digest covers still stands.
            expected = bit // 8 in kind_of_fingerprint
            try:
                assert stun.verify(bytes(changed), key) is expected
            except ValueError:
                assert not expected

    @SAMPLES
    def test_every_truncation_is_refused(self, data: bytes, key: bytes) -> None:
        for size in range(len(data)):
            with pytest.raises(ValueError, match="truncated"):
                stun.parse(data[:size])
        with pytest.raises(ValueError, match="truncated"):
            stun.parse(data + bytes(4))


class TestIntegrity:
    @pytest.mark.parametrize("password", [b"", b"x", PASSWORD[:-1], PASSWORD + b"x", PASSWORD.lower()])
    def test_other_passwords_fail(self, password: bytes) -> None:
        assert not stun.verify(REQUEST, password)

    def test_a_message_without_integrity_fails(self) -> None:
        assert not stun.verify(with_fingerprint(message(attribute(6, b"a:b"))), PASSWORD)

    def test_a_digest_of_another_size_is_refused(self) -> None:
        for size in (0, 16, 19, 24, 32):
            with pytest.raises(ValueError, match="attribute"):
                stun.parse(message(attribute(8, bytes(size))))

    def test_what_follows_the_digest_is_not_believed(self) -> None:
        signed = stun.write_request(TRANSACTION, b"a:b", PASSWORD, priority=1, role=1, tie_breaker=2)[:-8]
        body = signed + attribute(0x25) + attribute(6, b"other") + attribute(0x7777) + attribute(8, bytes(20))
        data = with_fingerprint(body)
        parsed = stun.parse(data)
        assert stun.verify(data, PASSWORD)
        assert (parsed.use_candidate, parsed.username, parsed.unknown_required) == (False, b"a:b", None)

    @given(data=st.binary(max_size=300), password=PASSWORDS)
    def test_noise_never_verifies(self, data: bytes, password: bytes) -> None:
        noise = message(attribute(6, data), attribute(8, hashlib.sha1(data, usedforsecurity=False).digest()))
        assert not stun.verify(noise, password)


class TestFingerprint:
    def test_it_is_the_last_attribute(self) -> None:
        data = message(attribute(6, b"a:b"))
        assert stun.parse(with_fingerprint(data)).has_fingerprint
        with pytest.raises(ValueError, match="fingerprint"):
            stun.parse(with_fingerprint(data, attribute(0x8022, b"late")))

    @pytest.mark.parametrize("size", [0, 3, 5, 8])
    def test_of_another_size_it_is_refused(self, size: int) -> None:
        with pytest.raises(ValueError, match="fingerprint"):
            stun.parse(message(attribute(0x8028, bytes(size))))


class TestAttributes:
    def test_the_first_unknown_required_one_is_named(self) -> None:
        parsed = stun.parse(message(attribute(0x8123), attribute(0x7FFE, b"abc"), attribute(0x0003)))
        assert parsed.unknown_required == 0x7FFE
        assert stun.parse(message(attribute(0x8000), attribute(0xFFFF))).unknown_required is None

    def test_the_first_of_a_repeated_one_counts(self) -> None:
        parsed = stun.parse(
            message(
                attribute(6, b"one"),
                attribute(6, b"two"),
                attribute(0x24, b"\0\0\0\1"),
                attribute(0x24, b"\0\0\0\2"),
                attribute(0x8029, bytes(7) + b"\3"),
                attribute(0x802A, bytes(7) + b"\4"),
            )
        )
        assert (parsed.username, parsed.priority) == (b"one", 1)
        assert (parsed.role, parsed.tie_breaker) == (StunRole.STUN_CONTROLLED, 3)

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (0x06, bytes(514)),
            (0x24, b""),
            (0x24, bytes(5)),
            (0x25, b"\0"),
            (0x8029, bytes(4)),
            (0x802A, bytes(9)),
            (0x09, bytes(3)),
            (0x09, b"\0\0\2\0"),
            (0x09, b"\0\0\7\0"),
            (0x09, b"\0\0\4\x64"),
            (0x20, b""),
            (0x20, b"\0\1" + bytes(5)),
            (0x20, b"\0\1" + bytes(18)),
            (0x20, b"\0\2" + bytes(6)),
            (0x20, b"\0\3" + bytes(6)),
            (0x01, b"\0\0" + bytes(6)),
        ],
    )
    def test_a_size_or_value_that_its_type_forbids_is_refused(self, kind: int, value: bytes) -> None:
        with pytest.raises(ValueError, match="attribute"):
            stun.parse(message(attribute(kind, value)))

    @pytest.mark.parametrize("size", [1, 4, 5, 0x100, 0xFFFD, 0xFFFF])
    def test_a_length_past_the_end_is_refused(self, size: int) -> None:
        with pytest.raises(ValueError, match="truncated"):
            stun.parse(message(attribute(0x8022, b"", size)))

    def test_a_plain_mapped_address_is_read_unless_there_is_an_xored_one(self) -> None:
        plain = attribute(0x01, b"\0\1\x12\x34\x0a\0\0\1")
        xored = attribute(0x20, b"\0\1" + bytes(6))
        assert stun.parse(message(plain)).address == (b"\x0a\0\0\1", 0x1234)
        expected = (b"\x21\x12\xa4\x42", 0x2112)
        assert stun.parse(message(plain, xored)).address == expected
        assert stun.parse(message(xored, plain)).address == expected

    def test_a_username_of_the_longest_size(self) -> None:
        assert stun.parse(message(attribute(6, b"u" * 513))).username == b"u" * 513

    def test_other_types_are_told(self) -> None:
        assert stun.parse(message(kind=StunType.STUN_BINDING_INDICATION)).type == 0x0011
        assert stun.parse(message(kind=0x0003)).type == 3

    def test_messages_without_the_cookie_are_refused(self) -> None:
        with pytest.raises(ValueError, match="cookie"):
            stun.parse(b"\0\1\0\0" + bytes(16))

    def test_an_overlong_message_is_refused(self) -> None:
        assert stun.parse(message(attribute(0x8022, bytes(1476))))
        with pytest.raises(ValueError, match="truncated"):
            stun.parse(message(attribute(0x8022, bytes(1480))))

    @given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40))), st.binary(max_size=8))
    def test_hostile_attributes_are_read_or_refused(self, attributes: list[tuple[int, bytes]], tail: bytes) -> None:
        data = message(*(attribute(kind, value) for kind, value in attributes), tail)
        try:
            parsed = stun.parse(data)
        except ValueError:
            return
        assert parsed.transaction == TRANSACTION
        assert parsed.username is None or parsed.username in data
        assert stun.verify(data, PASSWORD) is False

    @given(st.binary(max_size=200))
    def test_noise_is_read_or_refused(self, data: bytes) -> None:
        try:
            stun.parse(data)
        except ValueError:
            return


class TestAgainstAioice:
    @given(
        transaction=TRANSACTIONS,
        username=st.text(max_size=100).filter(lambda text: len(text.encode()) <= 513),
        password=PASSWORDS,
        priority=st.integers(0, 0xFFFFFFFF),
        role=st.sampled_from([StunRole.STUN_CONTROLLING, StunRole.STUN_CONTROLLED]),
        tie_breaker=st.integers(0, 2**64 - 1),
        use_candidate=st.booleans(),
    )
    def test_requests(
        self,
        transaction: bytes,
        username: str,
        password: bytes,
        priority: int,
        role: StunRole,
        tie_breaker: int,
        use_candidate: bool,
    ) -> None:
        ours = stun.write_request(
            transaction,
            username.encode(),
            password,
            priority=priority,
            role=role,
            tie_breaker=tie_breaker,
            use_candidate=use_candidate,
        )
        role_name = "ICE-CONTROLLING" if role is StunRole.STUN_CONTROLLING else "ICE-CONTROLLED"
        attributes = {"USERNAME": username, "PRIORITY": priority, role_name: tie_breaker}
        if use_candidate:
            attributes["USE-CANDIDATE"] = None
        request = oracle.Message(oracle.Method.BINDING, oracle.Class.REQUEST, transaction, attributes)
        request.add_message_integrity(password)
        assert bytes(request) == ours
        read = oracle.parse_message(ours)
        assert read.check_message_integrity(password)
        parsed = stun.parse(bytes(request))
        assert (parsed.username, parsed.priority, parsed.role) == (username.encode(), priority, role)
        assert (parsed.tie_breaker, parsed.use_candidate) == (tie_breaker, use_candidate)
        assert stun.verify(bytes(request), password)

    @given(transaction=TRANSACTIONS, ip=ADDRESSES, port=st.integers(0, 0xFFFF), password=PASSWORDS)
    def test_successes(
        self,
        transaction: bytes,
        ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
        port: int,
        password: bytes,
    ) -> None:
        ours = stun.write_success(transaction, ip.packed, port, password)
        attributes = {"XOR-MAPPED-ADDRESS": (str(ip), port)}
        answer = oracle.Message(oracle.Method.BINDING, oracle.Class.RESPONSE, transaction, attributes)
        answer.add_message_integrity(password)
        assert bytes(answer) == ours
        assert stun.parse(ours).address == (ip.packed, port)
        assert stun.verify(ours, password)

    @given(transaction=TRANSACTIONS, code=st.integers(300, 699), password=PASSWORDS)
    def test_errors(self, transaction: bytes, code: int, password: bytes) -> None:
        read = oracle.parse_message(stun.write_error(transaction, code, 0x1234, password))
        assert read.message_class is oracle.Class.ERROR
        assert (read.transaction_id, read.error_code) == (transaction, code)
        assert read.check_message_integrity(password)
        answer = oracle.Message(oracle.Method.BINDING, oracle.Class.ERROR, transaction, {"ERROR-CODE": (code, "why")})
        answer.add_message_integrity(password)
        parsed = stun.parse(bytes(answer))
        assert (parsed.type, parsed.error_code) == (StunType.STUN_BINDING_ERROR, code)


class TestWriting:
    def test_an_answer_without_a_password_has_no_integrity(self) -> None:
        parsed = stun.parse(stun.write_error(TRANSACTION, 401))
        assert (parsed.error_code, parsed.has_integrity, parsed.has_fingerprint) == (401, False, True)

    def test_an_unknown_attribute_is_named_with_420_alone(self) -> None:
        assert attribute(0x0A, b"\x12\x34") in stun.write_error(TRANSACTION, 420, 0x1234)
        assert b"\x12\x34" not in stun.write_error(TRANSACTION, 400, 0x1234)

    @pytest.mark.parametrize("code", [0, 299, 700])
    def test_codes_out_of_range_are_refused(self, code: int) -> None:
        with pytest.raises(ValueError, match="not allowed"):
            stun.write_error(TRANSACTION, code)

    def test_what_a_request_cannot_carry_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not allowed"):
            stun.write_request(TRANSACTION, bytes(514), PASSWORD, priority=1, role=1, tie_breaker=1)
        with pytest.raises(ValueError, match="not allowed"):
            stun.write_request(TRANSACTION, b"a:b", PASSWORD, priority=1, role=0, tie_breaker=1)
        with pytest.raises(ValueError, match="12 bytes"):
            stun.write_request(b"short", b"a:b", PASSWORD, priority=1, role=1, tie_breaker=1)
        with pytest.raises(ValueError, match="not allowed"):
            stun.write_success(TRANSACTION, bytes(5), 1)
