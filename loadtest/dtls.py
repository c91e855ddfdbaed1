"""DTLS-SRTP (RFC 5764) by pyOpenSSL over memory, without I/O: the swarm's handshakes, at join time only."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from mediaserver.loadtest.peers import Keys

MTU = 1200
_RECORD_HEADER = 13
_CHANGE_CIPHER_SPEC = 20

# OpenSSL's name, profile number, bytes of master key and of salt (RFC 5764, section 4.1.2; RFC 7714, section 14.2).
PROFILES: dict[str, tuple[int, int, int]] = {
    "SRTP_AEAD_AES_128_GCM": (0x0007, 16, 12),
    "SRTP_AEAD_AES_256_GCM": (0x0008, 32, 12),
    "SRTP_AES128_CM_SHA1_80": (0x0001, 16, 14),
}


class HandshakeError(Exception):
    """The handshake failed, or the peer is not who the answer said."""


class Identity:
    """A certificate for a whole swarm: making one for each peer would measure key generation."""

    def __init__(self, profiles: tuple[str, ...] = tuple(PROFILES)) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "swarm")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .sign(key, hashes.SHA256())
        )
        self.fingerprint = fingerprint_of(certificate)
        context = SSL.Context(SSL.DTLS_METHOD)
        # The peer's certificate is self-signed; its fingerprint is what counts, and it is compared afterwards.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.set_tlsext_use_srtp(":".join(profiles).encode())
        self.context = context


class Handshake:
    """One handshake. Feed it datagrams, send what `flights` gives, until `done`.

    `closing` holds once the flight is there with which this side is ready: a client's last.
    """

    def __init__(self, identity: Identity, *, server: bool = False) -> None:
        self._connection = SSL.Connection(identity.context, None)
        self._connection.set_ciphertext_mtu(MTU)
        self._server = server
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
        self.done = False
        self.closing = False

    def feed(self, datagram: bytes) -> None:
        """Take a datagram of the peer. Raises `HandshakeError`."""
        self._connection.bio_write(datagram)

    def flights(self) -> list[bytes]:
        """Go on as far as possible; the datagrams to send now. Raises `HandshakeError`."""
        if not self.done:
            try:
                self._connection.do_handshake()
                self.done = True
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                raise HandshakeError(f"DTLS failed: {error}") from None
        return list(self._outgoing())

    @property
    def timeout(self) -> float | None:
        """Seconds until `expire` is due; None when nothing is waited for."""
        return None if self.done else self._connection.DTLSv1_get_timeout()

    def expire(self) -> list[bytes]:
        """The timer ran out: the datagrams to send again."""
        self._connection.DTLSv1_handle_timeout()
        return list(self._outgoing())

    def keys(self, fingerprint: str) -> Keys:
        """The SRTP keys, once the peer's certificate has the fingerprint (SHA-256). Raises `HandshakeError`."""
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None or fingerprint_of(certificate) != fingerprint.upper():
            raise HandshakeError("the certificate of the handshake is not the one of the session description")
        name = self._connection.get_selected_srtp_profile().decode()
        if name not in PROFILES:
            raise HandshakeError(f"no SRTP profile in common ({name or 'none'})")
        profile, key_size, salt_size = PROFILES[name]
        material = self._connection.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key_size + salt_size))
        keys = material[:key_size], material[key_size : 2 * key_size]
        salts = material[2 * key_size : 2 * key_size + salt_size], material[2 * key_size + salt_size :]
        client, server = (keys[0], salts[0]), (keys[1], salts[1])
        sent, received = (server, client) if self._server else (client, server)
        return Keys(profile, *sent, *received)

    def _outgoing(self) -> Iterator[bytes]:
        """What OpenSSL wants to send: whole records, put together up to the MTU."""
        try:
            data = self._connection.bio_read(1 << 16)
        except SSL.WantReadError:
            return
        start = end = 0
        while end < len(data):
            self.closing |= data[end] == _CHANGE_CIPHER_SPEC
            size = _RECORD_HEADER + int.from_bytes(data[end + 11 : end + 13])
            if end > start and end + size - start > MTU:
                yield data[start:end]
                start = end
            end += size
        yield data[start:end]


def fingerprint_of(certificate: x509.Certificate) -> str:
    """As SDP writes it (RFC 8122): SHA-256 in upper-case hexadecimal with colons."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()
