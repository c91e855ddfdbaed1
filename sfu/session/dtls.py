"""DTLS 1.2 with the keys of SRTP (RFC 5764) without I/O: datagrams and times in, datagrams out.

OpenSSL does the handshake on memory BIOs. What it leaves to us: datagram boundaries (a memory BIO joins
what is written to it), the retransmission timer (OpenSSL's own reads a clock), the fingerprint (RFC 8122), and that
nothing an outsider sends ends a session that stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import cached_property
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL.crypto import X509

MTU: Final = 1200
FIRST_TIMEOUT_US: Final = 500_000  # RFC 6347, section 4.2.4.1, says 1 s; a join is to take less
LAST_TIMEOUT_US: Final = 8_000_000
MAX_ATTEMPTS: Final = 5
MAX_DATAGRAM: Final = 4096
MAX_DATAGRAMS: Final = 400  # of one handshake; far above what a lossy network needs
REPEAT_US: Final = 40_000  # repeats of the peer that come in a bunch get one answer
ATTEMPT_US: Final = 20_000_000
RETRY_US: Final = 1_000_000  # as client: from a failed handshake to the next
MAX_REPEATS: Final = 40  # answers to repeated flights: an echo must not go on for ever

DTLS_1_2: Final = 0xFEFD
RECORD_HEADER: Final = 13
HANDSHAKE: Final = 22
CLIENT_HELLO: Final = 1

CIPHERS: Final = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
    b"ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA"
)
DIGESTS: Final = ("sha-512", "sha-384", "sha-256", "sha-224", "sha-1")
"""The hash functions that RFC 8122 leaves us, the strongest first."""


class SrtpProfile(NamedTuple):
    """A protection profile: its number (RFC 5764, RFC 7714) and the sizes of its master key and salt."""

    number: int
    key_size: int
    salt_size: int


PROFILES: Final = {  # in the order of our preference, by OpenSSL's names
    b"SRTP_AEAD_AES_128_GCM": SrtpProfile(0x0007, 16, 12),
    b"SRTP_AEAD_AES_256_GCM": SrtpProfile(0x0008, 32, 12),
    b"SRTP_AES128_CM_SHA1_80": SrtpProfile(0x0001, 16, 14),
}


class SrtpKeys(NamedTuple):
    """What the handshake yields for the data plane: `rx` opens what the peer sends, `tx` protects what we send."""

    profile: int
    rx_key: bytes
    rx_salt: bytes
    tx_key: bytes
    tx_salt: bytes


class Identity:
    """The certificate and the key of this server, and the OpenSSL context that every session shares."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self.key = key

    @classmethod
    def generate(cls, now: datetime, days: int = 30) -> Identity:
        """A fresh self-signed P-256 certificate, valid from a day before `now` (clocks differ) for `days`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mediaserver")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=days))
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def from_pem(cls, certificate: bytes, key: bytes) -> Identity:
        """From PEM text; the key must be an elliptic curve's, else `ValueError`."""
        private = serialization.load_pem_private_key(key, None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError("the DTLS key must be an elliptic curve key")
        return cls(x509.load_pem_x509_certificate(certificate), private)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate as an SDP fingerprint line has it: upper-case hex pairs between colons."""
        digest = _digest("sha-256", self.certificate.public_bytes(serialization.Encoding.DER))
        return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))

    @cached_property
    def context(self) -> SSL.Context:
        """Made once; it is never changed after the first session."""
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_max_proto_version(DTLS_1_2)
        context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_cipher_list(CIPHERS)
        context.set_tlsext_use_srtp(b":".join(PROFILES))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
        context.use_certificate(self.certificate)
        context.use_privatekey(self.key)
        return context


def _digest(algorithm: str, der: bytes) -> str:
    """The fingerprint of a certificate by an SDP hash function."""
    return hashlib.new(algorithm.replace("-", ""), der).hexdigest().upper()


def _verify(connection: SSL.Connection, certificate: object, error: int, depth: int, ok: int) -> bool:
    """OpenSSL asks about every certificate of the chain; the peer's own must be the one that its offer names."""
    if depth != 0:
        return True
    assert isinstance(certificate, X509)
    der = certificate.to_cryptography().public_bytes(serialization.Encoding.DER)
    return matches(der, connection.get_app_data())


def matches(der: bytes, fingerprints: Sequence[tuple[str, str]]) -> bool:
    """Whether a certificate is one that the fingerprints name (RFC 8122, section 5): the strongest hash function
    counts, and of several digests by that function any."""
    by_strength = [a for a in DIGESTS if any(algorithm == a for algorithm, _ in fingerprints)]
    if not by_strength:
        return False
    digest = _digest(by_strength[0], der)
    return any(a == by_strength[0] and d.replace(":", "").upper() == digest for a, d in fingerprints)


class Record(NamedTuple):
    """The header of a DTLS record, and where the record lies in its datagram."""

    type: int
    epoch: int
    start: int
    end: int


def records(data: bytes) -> list[Record] | None:
    """The records of a datagram, or of several that a memory BIO has joined; None when it is not DTLS 1.0 to 1.2."""
    found, at = [], 0
    while at < len(data):
        if len(data) - at < RECORD_HEADER or data[at + 1] != 0xFE or data[at + 2] not in (0xFF, 0xFD):
            return None
        end = at + RECORD_HEADER + int.from_bytes(data[at + 11 : at + 13], "big")
        if end > len(data):
            return None
        found.append(Record(data[at], int.from_bytes(data[at + 3 : at + 5], "big"), at, end))
        at = end
    return found


def datagrams(data: bytes, mtu: int = MTU) -> list[bytes]:
    """Cut joined records into datagrams again: as many whole records as fit, never a part of one."""
    cut: list[bytes] = []
    start = end = 0
    for record in records(data) or ():
        if record.end - start > mtu and end > start:
            cut.append(data[start:end])
            start = end
        end = record.end
    if end > start:
        cut.append(data[start:end])
    return cut


def last_message(datagram: bytes) -> tuple[int, int] | None:
    """message_seq and fragment_offset of the last handshake message in the clear (RFC 6347, section 4.2.2)."""
    said = [
        (int.from_bytes(body[4:6], "big"), int.from_bytes(body[6:9], "big"))
        for record in records(datagram) or ()
        if record.type == HANDSHAKE
        and record.epoch == 0
        and len(body := datagram[record.start + RECORD_HEADER : record.end]) >= 12
    ]
    return max(said, default=None)


def is_client_hello(datagram: bytes) -> bool:
    """Whether it begins with a ClientHello, or a fragment of one, in the clear."""
    found = records(datagram)
    return (
        bool(found)
        and found is not None
        and found[0].type == HANDSHAKE
        and found[0].epoch == 0
        and datagram[RECORD_HEADER : RECORD_HEADER + 1] == bytes([CLIENT_HELLO])
    )


class State(Enum):
    """Of a session; see `DtlsSession`."""

    WAITING = auto()
    HANDSHAKING = auto()
    ESTABLISHED = auto()
    CLOSED = auto()
    FAILED = auto()


class _Handshake:
    """One run of OpenSSL, from its first flight to its end."""

    def __init__(self, identity: Identity, fingerprints: Sequence[tuple[str, str]], client: bool, now: int) -> None:
        self.started = now
        self.client = client
        self.done = self.failed = self.closed = False
        self.flight: list[bytes] = []  # what we sent last, to be sent again
        self.sent = now
        self.timeout = FIRST_TIMEOUT_US
        self.received = self.repeats = 0
        self._heard = (-1, 0)  # the last handshake message of the peer
        self._connection = SSL.Connection(identity.context, None)
        self._connection.set_ciphertext_mtu(MTU)
        self._connection.set_app_data(tuple(fingerprints))
        if client:
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()

    def receive(self, datagram: bytes, now: int) -> list[bytes]:
        self.received += 1
        if self.received > MAX_DATAGRAMS:
            self.failed = True
            return []
        self._connection.bio_write(datagram)
        news = self._is_news(datagram)
        out = self.step(now)
        # The peer has repeated itself, so what we said was lost. A part of a new flight is no repetition, however
        # late its rest comes: FFmpeg stops reading for good when it hears the handshake again after its end.
        if not out and not news and not self.done and not self.failed:
            return self.repeat(now)
        return out

    def _is_news(self, datagram: bytes) -> bool:
        """Whether it goes further than what was heard so far; what is not a message in the clear always may."""
        said = last_message(datagram)
        if said is not None and said <= self._heard:
            return False
        self._heard = said or self._heard
        return True

    def step(self, now: int) -> list[bytes]:
        """Let OpenSSL go on as far as it can."""
        try:
            self._connection.do_handshake()
            self.done = True
        except SSL.WantReadError:
            pass
        except SSL.Error:
            self.failed = True
        out = self._drain()
        if out:
            self.flight, self.sent, self.timeout = out, now, FIRST_TIMEOUT_US
        return out

    def repeat(self, now: int) -> list[bytes]:
        """Our last flight again (RFC 6347, section 4.2.4), the same bytes: what had arrived is a replay there."""
        if now - self.sent < REPEAT_US or self.repeats >= MAX_REPEATS:
            return []
        self.repeats += 1
        self.sent = now
        return list(self.flight)

    def tick(self, now: int) -> list[bytes]:
        """Send the last flight again when the timer says so."""
        if self.done or not self.flight or now < self.sent + self.timeout:
            return []
        self.sent = now
        self.timeout = min(self.timeout * 2, LAST_TIMEOUT_US)
        return list(self.flight)

    def read(self, datagram: bytes) -> None:
        """Records for the session that stands: of these only an alert that ends it matters."""
        self._connection.bio_write(datagram)
        try:
            while self._connection.recv(MAX_DATAGRAM):
                pass
        except SSL.WantReadError:
            pass
        except SSL.Error:  # ZeroReturnError is one: close_notify
            self.closed = True
        self._drain()

    def close(self) -> list[bytes]:
        with suppress(SSL.Error):
            self._connection.shutdown()
        return self._drain()

    def keys(self) -> SrtpKeys | None:
        """None when the peer agreed to no profile of ours (RFC 5764, section 4.1.2)."""
        profile = PROFILES.get(self._connection.get_selected_srtp_profile())
        if profile is None:
            return None
        number, key, salt = profile
        material = self._connection.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
        client = material[:key], material[2 * key : 2 * key + salt]
        server = material[key : 2 * key], material[2 * key + salt :]
        rx, tx = (server, client) if self.client else (client, server)
        return SrtpKeys(number, *rx, *tx)

    def _drain(self) -> list[bytes]:
        data = b""
        try:
            while True:
                data += self._connection.bio_read(65536)
        except SSL.Error:
            return datagrams(data)


class DtlsSession:
    """The DTLS side of one peer connection.

    WAITING until the peer's ClientHello (as server) or `start` (as client), HANDSHAKING, then ESTABLISHED with
    `keys`; CLOSED by the peer's close_notify, FAILED when too many handshakes went wrong. There is one session in
    its life: a peer that starts over makes an offer with new ICE credentials, and gets a new peer and a new session.
    """

    def __init__(self, identity: Identity, fingerprints: Sequence[tuple[str, str]], *, client: bool = False) -> None:
        self.state = State.WAITING
        self.client = client
        self.keys: SrtpKeys | None = None
        self._identity = identity
        self._fingerprints = tuple(fingerprints)
        self._attempt: _Handshake | None = None
        self._standing: _Handshake | None = None
        self._attempts = 0
        self._retry: int | None = None

    def start(self, now: int) -> list[bytes]:
        """As client: say hello, once the path is known to carry. As server there is nothing to say."""
        if not self.client or self._attempt is not None or self.state is not State.WAITING:
            return []
        return self._begin(now).step(now)

    def receive(self, datagram: bytes, now: int) -> list[bytes]:
        """A datagram with DTLS records from the peer; what to send in return."""
        if len(datagram) > MAX_DATAGRAM or self.state in (State.CLOSED, State.FAILED):
            return []
        found = records(datagram)
        if not found:
            return []
        if self._standing is not None:
            return self._stand(self._standing, datagram, found, now)
        if self._attempt is None and not self.client and is_client_hello(datagram):
            self._begin(now)
        if self._attempt is None:
            return []
        out = self._attempt.receive(datagram, now)
        self._conclude(now)
        return out

    def tick(self, now: int) -> list[bytes]:
        """Retransmit what is due, or try again; call at `deadline`."""
        if self._attempt is None:
            return self.start(now) if self._retry is not None and now >= self._retry else []
        if now >= self._attempt.started + ATTEMPT_US:
            self._attempt.failed = True
            self._conclude(now)
            return []
        return self._attempt.tick(now)

    @property
    def deadline(self) -> int | None:
        """When `tick` has something to do."""
        attempt = self._attempt
        if attempt is None:
            return self._retry
        end = attempt.started + ATTEMPT_US
        return min(end, attempt.sent + attempt.timeout) if attempt.flight else end

    def close(self) -> list[bytes]:
        """End the session; the close_notify to send, when there is a session to end."""
        standing, self._standing, self._attempt, self._retry = self._standing, None, None, None
        self.state = State.CLOSED
        return standing.close() if standing is not None else []

    def _begin(self, now: int) -> _Handshake:
        self._attempts += 1
        self._retry = None
        self._attempt = _Handshake(self._identity, self._fingerprints, self.client, now)
        self.state = State.HANDSHAKING
        return self._attempt

    def _conclude(self, now: int) -> None:
        attempt = self._attempt
        assert attempt is not None
        if attempt.done and not attempt.failed:
            self.keys = attempt.keys()
            if self.keys is not None:
                self._attempt, self._standing = None, attempt
                self.state = State.ESTABLISHED
                return
            attempt.failed = True
        if attempt.failed:
            self._attempt = None
            self.state = State.FAILED if self._attempts >= MAX_ATTEMPTS else State.WAITING
            if self.client and self.state is State.WAITING:
                self._retry = now + RETRY_US

    def _stand(self, standing: _Handshake, datagram: bytes, found: list[Record], now: int) -> list[bytes]:
        """The session stands: only what is protected reaches OpenSSL. Handshake records mean that the peer misses
        our last flight, except a ClientHello, which is somebody's idea of starting over."""
        if any(record.type == HANDSHAKE for record in found):
            return [] if is_client_hello(datagram) else standing.repeat(now)
        if all(record.epoch > 0 for record in found):
            standing.read(datagram)
            if standing.closed:
                self._standing = None
                self.state = State.CLOSED
        return []
