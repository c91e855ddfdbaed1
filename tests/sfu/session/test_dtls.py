"""DTLS between two of our sessions, and with OpenSSL's own clients, through a lossy network in virtual time."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL

from mediaserver.sfu.session import dtls
from mediaserver.sfu.session.dtls import DtlsSession, Identity, State
from tests.sfu.session.harness import identity

SERVER, CLIENT = 0, 1
DELAY_US = 20_000


def pair(fingerprints: list[tuple[str, str]] | None = None) -> tuple[DtlsSession, DtlsSession]:
    """A server and a client that know each other's certificates."""
    server = DtlsSession(identity(SERVER), fingerprints or [("sha-256", identity(CLIENT).fingerprint)])
    client = DtlsSession(identity(CLIENT), [("sha-256", identity(SERVER).fingerprint)], client=True)
    return server, client


class Network:
    """Carries datagrams both ways with a delay; `lost` decides which are dropped, from (number, datagram)."""

    def __init__(self, server: DtlsSession, client: DtlsSession, lost: Callable[[int, bytes], bool]) -> None:
        self.ends = (server, client)
        self.now = 0
        self.sent = [0, 0]
        self._lost = lost
        self._number = 0
        self._way: list[tuple[int, int, bytes]] = []

    def send(self, to: int, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            assert len(datagram) <= dtls.MTU
            self.sent[1 - to] += 1
            self._number += 1
            if not self._lost(self._number, datagram):
                self._way.append((self.now + DELAY_US, to, datagram))

    def run(self, until: Callable[[], bool], limit: int = 60_000_000) -> bool:
        """Go on until `until` holds; False when nothing more happens or `limit` has come."""
        self.send(SERVER, self.ends[CLIENT].start(self.now))
        while not until():
            timers = [end.deadline for end in self.ends if end.deadline is not None]
            times = [time for time, _, _ in self._way] + timers
            if not times or min(times) > limit:
                return False
            self.now = max(self.now, min(times))
            due = [item for item in self._way if item[0] <= self.now]
            self._way = [item for item in self._way if item[0] > self.now]
            for _, to, datagram in due:
                self.send(1 - to, self.ends[to].receive(datagram, self.now))
            for at, end in enumerate(self.ends):
                self.send(1 - at, end.tick(self.now))
        return True


def connect(
    server: DtlsSession, client: DtlsSession, lost: Callable[[int, bytes], bool] = lambda n, d: False
) -> Network:
    network = Network(server, client, lost)
    assert network.run(lambda: server.state is client.state is State.ESTABLISHED)
    return network


def test_both_ends_agree_on_the_keys_of_our_first_profile() -> None:
    server, client = pair()
    network = connect(server, client)
    assert network.now == 4 * DELAY_US  # two round trips
    assert server.keys is not None
    assert client.keys is not None
    assert server.keys.profile == 0x0007
    assert (len(server.keys.rx_key), len(server.keys.rx_salt)) == (16, 12)
    assert server.keys[1:3] == client.keys[3:5]
    assert server.keys[3:5] == client.keys[1:3]
    assert server.keys.rx_key != server.keys.tx_key
    assert server.deadline is None


@pytest.mark.parametrize(
    ("offered", "number", "key", "salt"),
    [
        (b"SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM", 0x0007, 16, 12),
        (b"SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_256_GCM", 0x0008, 32, 12),
        (b"SRTP_AES128_CM_SHA1_80", 0x0001, 16, 14),
    ],
)
def test_our_order_of_profiles_decides(offered: bytes, number: int, key: int, salt: int) -> None:
    server, peer = pair()[0], Peer(offered)
    peer.run(server)
    assert server.keys is not None
    assert (server.keys.profile, len(server.keys.rx_key), len(server.keys.tx_salt)) == (number, key, salt)
    material = peer.connection.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
    assert server.keys.rx_key == material[:key]
    assert server.keys.tx_key == material[key : 2 * key]
    assert server.keys.rx_salt == material[2 * key : 2 * key + salt]
    assert server.keys.tx_salt == material[2 * key + salt :]


class Peer:
    """A client that is OpenSSL alone, with the certificate of `identity(CLIENT)`."""

    def __init__(
        self, profiles: bytes = b"", *, version: int | None = None, certificate: bool = True, ciphers: bytes = b""
    ) -> None:
        context = SSL.Context(SSL.DTLS_METHOD)
        if ciphers:
            context.set_cipher_list(ciphers)
        context.set_verify(SSL.VERIFY_NONE)
        context.set_options(SSL.OP_NO_QUERY_MTU)
        if profiles:
            context.set_tlsext_use_srtp(profiles)
        if version is not None:
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
        if certificate:
            context.use_certificate(identity(CLIENT).certificate)
            context.use_privatekey(identity(CLIENT).key)
        self.connection = SSL.Connection(context, None)
        self.connection.set_ciphertext_mtu(1200)
        self.connection.set_connect_state()

    def step(self, datagrams: list[bytes]) -> list[bytes]:
        for datagram in datagrams:
            self.connection.bio_write(datagram)
            with suppress(SSL.Error):
                self.connection.do_handshake()
        if not datagrams:
            with pytest.raises(SSL.WantReadError):
                self.connection.do_handshake()
        try:
            return dtls.datagrams(self.connection.bio_read(65536))
        except SSL.WantReadError:
            return []

    def run(self, server: DtlsSession) -> None:
        datagrams = self.step([])
        while datagrams:
            answers = [answer for datagram in datagrams for answer in server.receive(datagram, 0)]
            datagrams = self.step(answers) if answers else []


@pytest.mark.parametrize("seed", range(12))
def test_a_third_of_the_datagrams_lost(seed: int) -> None:
    rng = random.Random(seed)
    server, client = pair()
    network = Network(server, client, lambda number, datagram: rng.random() < 0.3)
    assert network.run(lambda: server.state is client.state is State.ESTABLISHED)
    assert server.keys is not None
    assert client.keys is not None
    assert server.keys.rx_key == client.keys.tx_key


@pytest.mark.parametrize("number", range(1, 9))
def test_any_one_datagram_lost_costs_one_timeout(number: int) -> None:
    server, client = pair()
    network = connect(server, client, lambda n, datagram: n == number)
    assert network.now <= 4 * DELAY_US + dtls.FIRST_TIMEOUT_US + 2 * DELAY_US


def test_the_timer_backs_off() -> None:
    server, client = pair()
    hello = client.start(0)
    for datagram in hello:
        server.receive(datagram, 0)
    times = []
    while (due := server.deadline) is not None and due < dtls.ATTEMPT_US:
        assert server.tick(due - 1) == []
        assert server.tick(due)
        times.append(due)
    assert times == [500_000, 1_500_000, 3_500_000, 7_500_000, 15_500_000]
    server.tick(dtls.ATTEMPT_US)
    assert server.state is State.WAITING
    assert server.deadline is None


def test_a_hello_in_pieces_and_in_the_wrong_order() -> None:
    """As Chromium sends it: one message in two datagrams."""
    server, peer = pair()[0], Peer(b"SRTP_AEAD_AES_128_GCM")
    [hello] = peer.step([])
    message = hello[dtls.RECORD_HEADER :]
    body, half = message[12:], 80
    pieces = []
    for at, part in ((0, body[:half]), (half, body[half:])):
        fragment = message[:6] + at.to_bytes(3, "big") + len(part).to_bytes(3, "big") + part
        sequence = len(pieces).to_bytes(6, "big")
        pieces.append(hello[:5] + sequence + len(fragment).to_bytes(2, "big") + fragment)
    assert server.receive(pieces[1], 0) == []
    flight = server.receive(pieces[0], 0)
    assert flight
    assert server.state is State.HANDSHAKING


@pytest.mark.parametrize("algorithm", dtls.DIGESTS)
def test_every_hash_function_of_the_rfc(algorithm: str) -> None:
    der = identity(CLIENT).certificate.public_bytes(serialization.Encoding.DER)
    digest = dtls._digest(algorithm, der)
    value = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
    connect(*pair([("sha-999", "00"), (algorithm, "00:11"), (algorithm, value)]))


@pytest.mark.parametrize(
    ("others", "accepted"),
    [
        ([], True),
        ([("sha-1", "00")], True),
        ([("sha-256", "no digest")], True),
        ([("sha-512", "00")], False),
        ([("sha-384", "00:11" * 24)], False),
    ],
)
def test_the_strongest_hash_function_counts(others: list[tuple[str, str]], accepted: bool) -> None:
    server, peer = pair([*others, ("sha-256", identity(CLIENT).fingerprint)])[0], Peer(b"SRTP_AEAD_AES_128_GCM")
    peer.run(server)
    assert (server.state is State.ESTABLISHED) == accepted


@pytest.mark.parametrize("fingerprints", [[("md5", "00")], [("sha-256", "")], [("sha-256", "zz")]])
def test_without_a_digest_that_can_be_used_nobody_is_good(fingerprints: list[tuple[str, str]]) -> None:
    server, peer = pair(fingerprints)[0], Peer(b"SRTP_AEAD_AES_128_GCM")
    peer.run(server)
    assert server.state is State.WAITING
    assert dtls.strongest([])[0] == ""


def test_another_certificate_than_the_offer_s_is_refused() -> None:
    server, client = pair([("sha-256", identity(SERVER).fingerprint)])
    network = Network(server, client, lambda number, datagram: False)
    assert not network.run(lambda: State.ESTABLISHED in (server.state, client.state))
    assert server.keys is None
    assert client.keys is None


def test_a_client_without_a_certificate_is_refused() -> None:
    server, peer = pair()[0], Peer(b"SRTP_AEAD_AES_128_GCM", certificate=False)
    peer.run(server)
    assert server.keys is None
    assert server.state is State.WAITING


def test_a_client_without_srtp_is_refused() -> None:
    server, peer = pair()[0], Peer()
    peer.run(server)
    assert server.keys is None
    assert server.state is State.WAITING


def test_too_many_failures_end_the_session() -> None:
    server = pair()[0]
    for attempt in range(dtls.MAX_ATTEMPTS):
        assert server.state is State.WAITING, attempt
        Peer().run(server)
    assert server.state is State.FAILED
    assert server.receive(Peer(b"SRTP_AEAD_AES_128_GCM").step([])[0], 0) == []


def test_a_failed_attempt_does_not_keep_the_next_from_succeeding() -> None:
    server = pair()[0]
    Peer().run(server)
    Peer(b"SRTP_AEAD_AES_128_GCM").run(server)
    assert server.state is State.ESTABLISHED


def test_a_new_hello_never_touches_a_session_that_stands() -> None:
    server, client = pair()
    connect(server, client)
    keys = server.keys
    for _ in range(50):
        [hello] = Peer(b"SRTP_AEAD_AES_128_GCM").step([])
        assert server.receive(hello, 10_000_000) == []
    assert server.state is State.ESTABLISHED
    assert server.keys == keys
    for datagram in client.close():
        server.receive(datagram, 20_000_000)
    assert server.state is State.CLOSED


def test_alerts_in_the_clear_do_not_end_a_session_that_stands() -> None:
    server, client = pair()
    connect(server, client)
    forged = bytes([21, 0xFE, 0xFD]) + bytes(7) + b"\x63\x00\x02" + bytes([1, 0])  # close_notify, epoch 0
    assert server.receive(forged, 0) == []
    protected = bytes([21, 0xFE, 0xFD, 0, 1]) + bytes(5) + b"\x63\x00\x02" + bytes([2, 40])  # epoch 1, not sealed
    assert server.receive(protected, 0) == []
    assert server.state is State.ESTABLISHED


def test_close_notify_closes() -> None:
    server, client = pair()
    connect(server, client)
    [farewell] = server.close()
    assert server.state is State.CLOSED
    assert client.receive(farewell, 0) == []
    assert client.state is State.CLOSED
    assert client.close() == []


SUITES = [
    b"ECDHE-ECDSA-AES128-GCM-SHA256",
    b"ECDHE-ECDSA-AES256-GCM-SHA384",
    b"ECDHE-ECDSA-CHACHA20-POLY1305",
    b"ECDHE-ECDSA-AES128-SHA",
]
"""Those of which the keys alone are kept, and one with which OpenSSL keeps the session."""


def standing(suite: bytes) -> tuple[DtlsSession, Peer]:
    server, peer = pair()[0], Peer(b"SRTP_AEAD_AES_128_GCM", ciphers=suite)
    peer.run(server)
    assert server.state is State.ESTABLISHED
    assert peer.connection.get_cipher_name() == suite.decode()
    return server, peer


@pytest.mark.parametrize("suite", SUITES)
def test_openssl_takes_our_close_notify(suite: bytes) -> None:
    server, peer = standing(suite)
    [farewell] = server.close()
    peer.connection.bio_write(farewell)
    with pytest.raises(SSL.ZeroReturnError):
        peer.connection.recv(100)
    assert server.close() == []


@pytest.mark.parametrize("suite", SUITES)
def test_we_take_openssl_s_close_notify_whole_or_not_at_all(suite: bytes) -> None:
    server, peer = standing(suite)
    peer.connection.shutdown()
    farewell = peer.connection.bio_read(4096)
    for at in range(len(farewell)):
        if at in (1, 2):
            continue  # of another version it is no DTLS
        for changed in (farewell[:at], farewell[:at] + bytes([farewell[at] ^ 1]) + farewell[at + 1 :]):
            assert server.receive(changed, 0) == []
            assert server.state is State.ESTABLISHED, (at, len(changed))
    assert server.receive(farewell, 0) == []
    assert server.state is State.CLOSED


@pytest.mark.parametrize("suite", SUITES)
def test_what_a_peer_says_under_its_keys_otherwise_ends_nothing(suite: bytes) -> None:
    server, peer = standing(suite)
    for text in (b"", b"x", b"ab", b"\x02\x28", b"hello" * 100):
        if text:
            peer.connection.send(text)
            assert server.receive(peer.connection.bio_read(4096), 0) == []
    assert server.state is State.ESTABLISHED


def test_a_short_record_under_keys_does_not_end_a_handshake() -> None:
    """Anybody can forge one before the keys are there; OpenSSL 3.0 takes it for the end."""
    server, peer = pair()[0], Peer(b"SRTP_AEAD_AES_128_GCM")
    flight = peer.step([answer for hello in peer.step([]) for answer in server.receive(hello, 0)])
    records = [d[r.start : r.end] for d in flight for r in dtls.records(d) or ()]
    assert server.receive(b"".join(records[:-1]), 0) == []  # up to the change of the cipher
    for size in range(30):
        forged = bytes([22, 0xFE, 0xFD, 0, 1]) + size.to_bytes(6, "big") + size.to_bytes(2, "big") + bytes(size)
        server.receive(forged, 0)
    server.receive(records[-1], 0)
    assert server.state is State.ESTABLISHED


def test_what_is_not_dtls_is_ignored() -> None:
    server, client = pair()
    rng = random.Random(3)
    for _ in range(500):
        assert server.receive(rng.randbytes(rng.randrange(60)), 0) == []
    assert server.state is State.WAITING
    assert server.receive(bytes([22, 0xFE, 0xFD]) + bytes(8) + b"\x00\x00" * 1, 0) == []
    assert server.receive(b"\x16\xfe\xfd" + bytes(5000), 0) == []
    connect(server, client)


@pytest.mark.parametrize("seed", range(4))
def test_broken_handshakes_are_bounded_and_do_no_harm(seed: int) -> None:
    """Bits of real flights turned over: the session fails at worst, and what it sends is bounded."""
    rng = random.Random(seed)
    server, client = pair()
    flights = client.start(0)
    sent = 0
    for _ in range(600):
        datagram = bytearray(rng.choice(flights))
        for _ in range(rng.randrange(1, 4)):
            datagram[rng.randrange(dtls.RECORD_HEADER, len(datagram))] ^= 1 << rng.randrange(8)
        sent += len(server.receive(bytes(datagram), 0))
    assert server.state in (State.WAITING, State.HANDSHAKING, State.FAILED)
    assert sent < 100


def test_an_echo_of_repeated_flights_ends() -> None:
    server, client = pair()
    hello = client.start(0)
    flight = [answer for datagram in hello for answer in server.receive(datagram, 0)]
    sent = 0
    for time in range(0, 20_000_000 // 2, 50_000):
        sent += sum(len(server.receive(datagram, time)) for datagram in hello)
    assert 0 < sent <= dtls.MAX_REPEATS * len(flight)


def test_a_flight_that_comes_in_pieces_is_not_taken_for_a_repetition() -> None:
    server, client = pair()
    now = 0
    flight = client.start(now)
    for _ in range(2):
        pieces = [
            datagram[record.start : record.end]
            for sent in flight
            for datagram in server.receive(sent, now)
            for record in dtls.records(datagram) or ()
        ]
        answers = []
        for piece in pieces:
            now += 60_000  # each piece comes later than a repetition would be answered
            answers.append(client.receive(piece, now))
        assert not any(answers[:-1])
        flight = answers[-1]
    assert flight == []
    assert client.state is server.state is State.ESTABLISHED


def test_records_are_cut_into_datagrams_whole() -> None:
    record = bytes([22, 0xFE, 0xFD]) + bytes(8) + (487).to_bytes(2, "big") + bytes(487)
    assert [len(one) for one in dtls.datagrams(record * 5, 1200)] == [1000, 1000, 500]
    assert dtls.datagrams(b"") == []
    assert dtls.records(record[:-1]) is None
    assert dtls.records(b"\x16\x03\x01" + record[3:]) is None


def test_an_identity_from_pem() -> None:
    one = identity(SERVER)
    private = serialization.PrivateFormat.PKCS8
    key = one.key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    again = Identity.from_pem(one.certificate.public_bytes(serialization.Encoding.PEM), key)
    assert again.fingerprint == one.fingerprint
    assert len(one.fingerprint) == 95


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")
def test_the_openssl_command(tmp_path: Path) -> None:
    """An implementation whose flights, timers and SRTP offer are not ours, over a real socket."""
    one = identity(CLIENT)
    private = serialization.PrivateFormat.PKCS8
    key = one.key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "cert.pem").write_bytes(one.certificate.public_bytes(serialization.Encoding.PEM))
    server = pair()[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        command = ["openssl", "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{sock.getsockname()[1]}", "-mtu", "1200"]
        command += ["-use_srtp", "SRTP_AES128_CM_SHA1_80", "-cert", "cert.pem", "-key", "key.pem"]
        nowhere = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere)
        assert process.stdin is not None
        try:
            while server.state not in (State.CLOSED, State.FAILED):
                datagram, address = sock.recvfrom(4096)
                for answer in server.receive(datagram, 0):
                    sock.sendto(answer, address)
                if server.state is State.ESTABLISHED:
                    process.stdin.close()  # the client says goodbye
        finally:
            process.stdin.close()
            process.kill()
            process.wait()
    assert server.state is State.CLOSED
    assert server.keys is not None
    assert server.keys.profile == 0x0001
