"""Small documents that carry their own signature: canonical JSON with the members `key` and `signature`.

The Ed25519 signature, in hexadecimal, is over the document's own bytes with an empty `signature`; both are empty where
nothing signs.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from mediaserver.recording.keys import SigningKey, Trust, TrustedKeys

SignedT = TypeVar("SignedT", bound=msgspec.Struct)


def encode(document: msgspec.Struct) -> bytes:
    """The one way to write it."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode(data: bytes, kind: type[SignedT], name: str, version: int) -> SignedT:
    """Raises ValueError when it is not such a document of this version, written the one way. `name` is what a reader
    calls it, with its article."""
    try:
        document: Any = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"not {name}: {error}") from error
    if document.version != version:
        raise ValueError(f"{name} of version {document.version}, not {version}")
    if encode(document) != data:
        raise ValueError("it is not written as this software writes it")
    return document  # type: ignore[no-any-return]


def sign(document: SignedT, signer: SigningKey | None) -> SignedT:
    """Signed anew, by nobody without a `signer`."""
    blank = msgspec.structs.replace(document, key=signer.id if signer else "", signature="")
    signature = signer.sign(encode(blank)).hex() if signer else ""
    return msgspec.structs.replace(blank, signature=signature)


def check(document: msgspec.Struct, trusted: TrustedKeys) -> Trust:
    """Whether a trusted key has signed it."""
    given: Any = document
    try:
        signature = bytes.fromhex(given.signature)
    except ValueError:
        return Trust.BAD
    if signature.hex() != given.signature:
        return Trust.BAD  # the same signature, but not the same bytes
    return trusted.check(given.key, signature, encode(msgspec.structs.replace(document, signature="")))
