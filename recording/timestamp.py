"""Time stamps (RFC 3161) of manifests: a trusted third party's word that these bytes were there at a time.

Needs the extra `timestamp`. The stamp is over the SHA-256 of manifest.json's bytes, so that it can be checked without
this software too: `openssl ts -verify -data manifest.json -in manifest.tsr -CAfile AUTHORITY.pem`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cryptography.x509 import Certificate

if TYPE_CHECKING:
    from rfc3161_client import TimeStampRequest

MAX_BYTES = 64 << 10
"""The longest answer that is taken."""
MISSING = "the package rfc3161-client is not installed: pip install 'mediaserver[timestamp]'"


class TimeStampError(Exception):
    """It is no good time stamp of this; the message says why."""


class NoLibrary(Exception):
    """`MISSING`."""


def ask(data: bytes) -> tuple[bytes, TimeStampRequest]:
    """A TimeStampReq in DER with a fresh nonce, and what its answer has to be held against. Raises `NoLibrary`."""
    try:
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
    except ImportError:
        raise NoLibrary(MISSING) from None
    request = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).build()
    return request.as_bytes(), request


def check(
    answer: bytes, data: bytes, authorities: Sequence[Certificate], request: TimeStampRequest | None = None
) -> str:
    """The time (RFC 3339) that a TimeStampResp in DER gives `data`, by one of the authorities or whom it certifies.

    The certificates have to be good at that time, not now. With `request` its nonce is checked too. Raises
    `TimeStampError` and `NoLibrary`.
    """
    try:
        from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response
    except ImportError:
        raise NoLibrary(MISSING) from None
    if not authorities:
        raise TimeStampError("no certificate of a time-stamping authority is trusted here")
    builder = VerifierBuilder(roots=list(authorities), nonce=request.nonce if request else None)
    try:
        response = decode_timestamp_response(answer)
        builder.build().verify_message(response, data)
        return response.tst_info.gen_time.isoformat().replace("+00:00", "Z")
    except (VerificationError, ValueError) as error:
        raise TimeStampError(str(error)) from None
