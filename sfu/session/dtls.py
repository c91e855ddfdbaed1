"""DTLS 1.2 with the keys of SRTP (RFC 5764) without I/O: datagrams and times in, datagrams out.

OpenSSL does the handshake on memory BIOs (`handshake`). What it leaves to us: datagram boundaries (a memory BIO joins
what is written to it), the retransmission timer (OpenSSL's own reads a clock), which hash function of a description
counts (RFC 8122), and that nothing an outsider sends ends a session that stands.

The steps of a handshake cost most of what a join costs. They are carried out at once, or, where a session has a `Desk`,
by that, elsewhere: then what comes of each is given to `DtlsSession.finish`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import cached_property
from typing import Final, NamedTuple, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mediaserver.sfu.session.handshake import Context, Handshake, Outcome

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
    def context(self) -> Context:
        """Made once; it is never changed after the first session."""
        der = serialization.Encoding.DER
        key = self.key.private_bytes(der, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Context(self.certificate.public_bytes(der), key, CIPHERS, b":".join(PROFILES))


def _digest(algorithm: str, der: bytes) -> str:
    """The fingerprint of a certificate by an SDP hash function."""
    return hashlib.new(algorithm.replace("-", ""), der).hexdigest().upper()


def strongest(fingerprints: Sequence[tuple[str, str]]) -> tuple[str, list[bytes]]:
    """What a certificate must match (RFC 8122, section 5): the strongest hash function counts, and of several digests
    by that function any. OpenSSL's name of the function, "" when there is none, and the digests."""
    named = next((name for name in DIGESTS if any(algorithm == name for algorithm, _ in fingerprints)), "")
    digests = []
    for algorithm, text in fingerprints:
        if algorithm == named:
            with suppress(ValueError):  # what is no digest matches nothing
                digests.append(bytes.fromhex(text.replace(":", "")))
    return named.replace("-", ""), digests


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


class Desk(Protocol):
    """Carries out the steps of handshakes elsewhere, each session's in their order."""

    def put(self, session: int, engine: Handshake, datagram: bytes) -> bool:
        """What comes of `engine.step(datagram)` will be given to `DtlsSession.finish` of that session. False when too
        many steps wait: the peer will send it again."""


class _Attempt:
    """One handshake, from its first flight to its end, and then the session that stands."""

    def __init__(self, engine: Handshake, client: bool, now: int) -> None:
        self.engine = engine
        self.started = now
        self.client = client
        self.done = self.failed = self.closed = False
        self.flight: list[bytes] = []  # what we sent last, to be sent again
        self.sent = now
        self.timeout = FIRST_TIMEOUT_US
        self.received = self.repeats = 0
        self.steps: list[bool] = []  # that are at the desk: whether each was news
        self._heard = (-1, 0)  # the last handshake message of the peer

    def admit(self) -> bool:
        """Whether one more datagram is taken."""
        self.received += 1
        self.failed = self.failed or self.received > MAX_DATAGRAMS
        return not self.failed

    def is_news(self, datagram: bytes) -> bool:
        """Whether it goes further than what was heard so far; what is not a message in the clear always may."""
        said = last_message(datagram)
        if said is not None and said <= self._heard:
            return False
        self._heard = said or self._heard
        return True

    def note(self, outcome: Outcome, news: bool, now: int) -> list[bytes]:
        """OpenSSL has gone on as far as it could; what to send."""
        self.done, self.failed = outcome.done, outcome.failed
        out = datagrams(outcome.out)
        if out:
            self.flight, self.sent, self.timeout = out, now, FIRST_TIMEOUT_US
        # The peer has repeated itself, so what we said was lost. A part of a new flight is no repetition, however
        # late its rest comes: FFmpeg stops reading for good when it hears the handshake again after its end.
        elif not news and not self.done and not self.failed:
            return self.repeat(now)
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
        self.closed = self.engine.step(datagram, reads=True).closed

    def close(self) -> list[bytes]:
        return datagrams(self.engine.close())

    def keys(self) -> SrtpKeys | None:
        """None when the peer agreed to no profile of ours (RFC 5764, section 4.1.2)."""
        profile = next((one for one in PROFILES.values() if one.number == self.engine.profile), None)
        if profile is None:
            return None
        number, key, salt = profile
        material = self.engine.material
        client = material[:key], material[2 * key : 2 * key + salt]
        server = material[key : 2 * key], material[2 * key + salt :]
        rx, tx = (server, client) if self.client else (client, server)
        return SrtpKeys(number, *rx, *tx)


class DtlsSession:
    """The DTLS side of one peer connection.

    WAITING until the peer's ClientHello (as server) or `start` (as client), HANDSHAKING, then ESTABLISHED with
    `keys`; CLOSED by the peer's close_notify, FAILED when too many handshakes went wrong. There is one session in
    its life: a peer that starts over makes an offer with new ICE credentials, and gets a new peer and a new session.
    """

    def __init__(
        self,
        identity: Identity,
        fingerprints: Sequence[tuple[str, str]],
        *,
        client: bool = False,
        desk: Desk | None = None,
        number: int = 0,
    ) -> None:
        """`number` is the session's at the desk; without one the steps are carried out at once."""
        self.state = State.WAITING
        self.client = client
        self.keys: SrtpKeys | None = None
        self._identity = identity
        self._fingerprints = tuple(fingerprints)
        self._desk = desk
        self._number = number
        self._attempt: _Attempt | None = None
        self._standing: _Attempt | None = None
        self._attempts = 0
        self._retry: int | None = None

    def start(self, now: int) -> list[bytes]:
        """As client: say hello, once the path is known to carry. As server there is nothing to say."""
        if not self.client or self._attempt is not None or self.state is not State.WAITING:
            return []
        return self._step(self._begin(now), b"", True, now)

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
        if not self._attempt.admit():
            self._conclude(now)
            return []
        return self._step(self._attempt, datagram, self._attempt.is_news(datagram), now)

    def finish(self, engine: Handshake, outcome: Outcome, now: int) -> list[bytes]:
        """The desk has carried out a step; what to send. What comes of an attempt that was given up is passed over."""
        attempt = self._attempt if self._attempt is not None else self._standing
        if attempt is None or attempt.engine is not engine:
            return []
        news = attempt.steps.pop(0)
        if attempt is self._standing:
            return []  # it came before we heard that the session stands, and changes nothing
        out = attempt.note(outcome, news, now)
        self._conclude(now)
        return out

    def _step(self, attempt: _Attempt, datagram: bytes, news: bool, now: int) -> list[bytes]:
        if self._desk is None:
            out = attempt.note(attempt.engine.step(datagram), news, now)
            self._conclude(now)
            return out
        if self._desk.put(self._number, attempt.engine, datagram):
            attempt.steps.append(news)
        return []

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

    def _begin(self, now: int) -> _Attempt:
        self._attempts += 1
        self._retry = None
        function, digests = strongest(self._fingerprints)
        engine = Handshake(self._identity.context, function, digests, client=self.client, mtu=MTU)
        self._attempt = _Attempt(engine, self.client, now)
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

    def _stand(self, standing: _Attempt, datagram: bytes, found: list[Record], now: int) -> list[bytes]:
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
