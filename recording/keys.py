"""Keys that sign and keys that are trusted: Ed25519 (RFC 8032), in PEM.

A key's id is the first 16 hexadecimal digits of the SHA-256 of its raw public key. It only says which key to try: what
counts is whether one of the trusted keys has signed.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import Certificate, load_pem_x509_certificates

PRIVATE = "signing.key"
"""The private key that a server has made for itself, in a folder of keys."""
SIGNATURE_BYTES = 64
SEED_BYTES = 32


class Trust(StrEnum):
    """What is to be said of a signature."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"
    """Nobody here trusts the key."""


class SigningKey:
    """The one private key that signs."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.id = key_id(private.public_key())

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(data)

    @property
    def public(self) -> Ed25519PublicKey:
        return self._private.public_key()

    def pem(self) -> bytes:
        """The private key itself: PKCS #8, without a passphrase."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class TrustedKeys:
    """The public keys whose signatures count, and the authorities whose time stamps do."""

    def __init__(self, keys: Iterable[Ed25519PublicKey] = (), authorities: Iterable[Certificate] = ()) -> None:
        self._keys = {key_id(key): key for key in keys}
        self.authorities = list(authorities)

    @property
    def ids(self) -> list[str]:
        return sorted(self._keys)

    def add(self, key: Ed25519PublicKey) -> None:
        self._keys[key_id(key)] = key

    def check(self, key: str, signature: bytes, data: bytes) -> Trust:
        """Whether the key with the id `key` has signed `data`."""
        public = self._keys.get(key)
        if public is None:
            return Trust.UNKNOWN
        try:
            public.verify(signature, data)
        except InvalidSignature:
            return Trust.BAD
        return Trust.GOOD

    def has_signed(self, signature: bytes, data: bytes) -> bool:
        """Whether any of the keys has signed `data`."""
        return any(self.check(key, signature, data) is Trust.GOOD for key in self._keys)

    def save(self, folder: Path) -> None:
        """Each as `<id>.pem` or `tsa-<id>.pem`, beside what is there. Raises OSError."""
        files = {
            f"{identifier}.pem": key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            for identifier, key in self._keys.items()
        }
        for certificate in self.authorities:
            files[f"tsa-{certificate.fingerprint(SHA256()).hex()[:16]}.pem"] = certificate.public_bytes(Encoding.PEM)
        for name, text in files.items():
            path = folder / name
            if not path.exists() or path.read_bytes() != text:
                path.write_bytes(text)

    @classmethod
    def load(cls, folder: Path) -> TrustedKeys:
        """What lies in `folder` as `tsa-*.pem`, and as public keys in `*.pem`. Raises OSError and ValueError."""
        trusted = cls()
        for path in sorted(folder.glob("*.pem")) if folder.is_dir() else []:
            if path.name.startswith("tsa-"):
                trusted.authorities += read_certificates(path.read_text(), str(path))
            else:
                trusted.add(read_public(path.read_text(), str(path)))
        return trusted


def key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def make_key() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.generate())


def read_private(text: str, name: str) -> SigningKey:
    """A private key in PEM, or its 32 bytes in base64. Raises ValueError with a sentence about `name`."""
    if "-----BEGIN" not in text:
        try:
            seed = base64.b64decode(text.strip(), validate=True)
        except ValueError:
            seed = b""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"{name} is neither a private key in PEM form nor 32 bytes in base64")
        return SigningKey(Ed25519PrivateKey.from_private_bytes(seed))
    try:
        key = load_pem_private_key(text.encode(), None)
    except TypeError:
        raise ValueError(f"{name} is encrypted: give the key without a passphrase") from None
    except ValueError:
        raise ValueError(f"{name} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{name} is no Ed25519 key: make one with openssl genpkey -algorithm ed25519")
    return SigningKey(key)


def read_public(text: str, name: str) -> Ed25519PublicKey:
    """A public key in PEM. Raises ValueError with a sentence about `name`."""
    try:
        key = load_pem_public_key(text.encode())
    except ValueError:
        raise ValueError(f"{name} holds no public key in PEM form (-----BEGIN PUBLIC KEY-----)") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{name} is no Ed25519 key")
    return key


def read_certificates(text: str, name: str) -> list[Certificate]:
    """Certificates in PEM. Raises ValueError with a sentence about `name`."""
    try:
        return load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ValueError(f"{name} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None


def own_key(folder: Path) -> tuple[SigningKey, bool]:
    """The key that lies in `folder`, and whether it was made just now. Raises OSError and ValueError."""
    path = folder / PRIVATE
    if path.exists():
        return read_private(path.read_text(), str(path)), False
    key = make_key()
    beside = path.with_suffix(".new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(key.pem())
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    return key, True
