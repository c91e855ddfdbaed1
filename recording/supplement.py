"""What came to a recording after its manifest: a signed list beside it.

The session report and the time stamp are there only when the manifest is closed. `supplement.json` is canonical JSON
that names each such file with its SHA-256; its signature is over the same bytes with an empty `signature`.
"""

from __future__ import annotations

import hashlib

import msgspec

from mediaserver.recording import signed
from mediaserver.recording.keys import SigningKey, Trust, TrustedKeys
from mediaserver.recording.manifest import Content

VERSION = 1
NAME = "supplement.json"


class Addition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file. `added_us` is the Unix time in µs by this server's clock."""

    name: str
    bytes: int
    sha256: str
    added_us: int
    content: Content | msgspec.UnsetType = msgspec.UNSET
    """Of an encrypted file: what is in it."""


class Supplement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`manifest` is the digest of the manifest that it adds to."""

    version: int
    recording: str
    manifest: str
    files: list[Addition]
    key: str = ""
    signature: str = ""
    """In hexadecimal; empty with `key` where nothing signs."""


def encode(supplement: Supplement) -> bytes:
    """The one way to write it."""
    return signed.encode(supplement)


def decode(data: bytes) -> Supplement:
    """Raises ValueError when it is not a supplement of this version, written the one way."""
    return signed.decode(data, Supplement, "a supplement", VERSION)


def extend(
    before: Supplement, name: str, data: bytes, now_us: int, signer: SigningKey | None, plain: bytes | None = None
) -> Supplement:
    """With the file `name` in it, in the place of an earlier one of that name, signed anew. `plain` is what is in
    `data` where that is encrypted."""
    content = msgspec.UNSET if plain is None else Content(len(plain), hashlib.sha256(plain).hexdigest())
    addition = Addition(name, len(data), hashlib.sha256(data).hexdigest(), now_us, content)
    files = [*(file for file in before.files if file.name != name), addition]
    return signed.sign(msgspec.structs.replace(before, files=files), signer)


def check(supplement: Supplement, trusted: TrustedKeys) -> Trust:
    """Whether a trusted key has signed it."""
    return signed.check(supplement, trusted)
