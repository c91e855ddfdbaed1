"""Whose key opens a recording: a random one of its own, wrapped by a master key, in `keys.json` beside its files.

Wrapping is AES Key Wrap (RFC 3394). Master keys come from the configuration and have names; new recordings are put
under the one in use, older ones open as long as theirs is configured. Who destroys `keys.json` destroys the recording.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable, Mapping

import msgspec
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from mediaserver.recording.storage.face import MissingKey, Unreadable

NAME = "keys.json"
TOMBSTONE = "erased.json"
DISPOSED = "disposed.json"
"""What is left of a recording that was disposed of; while it is, the decision that it goes."""
CLAIMED = ".claimed"
"""A mark while another store is asked for the last time whether the recording may go (`storage.claims`)."""
VERSION = 1
KEY_BYTES = 32
_IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,64}")


class KeysError(ValueError):
    """The master keys can't be used; the message says why."""


class WrappedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `keys.json`. `master` is the id of the key that opens `wrapped`."""

    version: int
    algorithm: str
    master: str
    wrapped: bytes


class Tombstone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is left of an erased recording's key: when it was destroyed (Unix time in µs), and why."""

    version: int
    recording: str
    erased_us: int
    reason: str


class MasterKeys:
    """The master keys by id; `current` wraps the keys of new recordings, empty when they are not to be encrypted."""

    def __init__(self, current: str, keys: Mapping[str, bytes]) -> None:
        """Raises `KeysError`."""
        for identifier, key in keys.items():
            if not _IDENTIFIER.fullmatch(identifier):
                raise KeysError(f"a master key's id is letters, digits, '.', '_' and '-', not {identifier!r}")
            if len(key) != KEY_BYTES:
                raise KeysError(f"master key {identifier} has {len(key)} bytes, not {KEY_BYTES}")
        if current and current not in keys:
            raise KeysError(f"there is no master key {current}; known are: {', '.join(sorted(keys)) or 'none'}")
        self.current = current
        self._keys = dict(keys)

    @classmethod
    def parse(cls, current: str, lines: Iterable[str]) -> MasterKeys:
        """From lines `ID:KEY`, the key in Base64; empty ones and those that begin with # don't count."""
        keys: dict[str, bytes] = {}
        for line in lines:
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            identifier, colon, encoded = text.partition(":")
            if not colon:
                raise KeysError("a master key is written as ID:KEY, the key being 32 bytes in Base64")
            if identifier in keys:
                raise KeysError(f"there are two master keys {identifier}")
            try:
                keys[identifier] = base64.b64decode(encoded.strip(), validate=True)
            except (binascii.Error, ValueError):
                raise KeysError(f"master key {identifier} is not Base64") from None
        return cls(current, keys)

    def create(self) -> bytes:
        """A new recording's `keys.json`."""
        return self._wrapped(os.urandom(KEY_BYTES))

    def open(self, data: bytes, recording: str) -> bytes:
        """The data key in a `keys.json`. Raises `Unreadable`."""
        kept = decode(data, recording)
        master = self._keys.get(kept.master)
        if master is None:
            raise MissingKey(f"recording {recording} is under master key {kept.master}, which is not configured here")
        try:
            return aes_key_unwrap(master, kept.wrapped)
        except (InvalidUnwrap, ValueError):
            text = (
                f"master key {kept.master} does not open recording {recording}: it is another one, or {NAME} is altered"
            )
            raise Unreadable(text) from None

    def rewrap(self, data: bytes, recording: str) -> bytes | None:
        """A `keys.json` under the master key in use; None when it is already. Raises `Unreadable`, `KeysError`."""
        if not self.current:
            raise KeysError("no master key is in use: name one in the configuration")
        if decode(data, recording).master == self.current:
            return None
        return self._wrapped(self.open(data, recording))

    def _wrapped(self, key: bytes) -> bytes:
        wrapped = aes_key_wrap(self._keys[self.current], key)
        return msgspec.json.encode(WrappedKey(VERSION, "A256KW", self.current, wrapped)) + b"\n"


def decode(data: bytes, recording: str) -> WrappedKey:
    """Raises `Unreadable`."""
    try:
        kept = msgspec.json.decode(data, type=WrappedKey)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreadable(f"{NAME} of recording {recording} can't be read: {error}") from None
    if kept.version != VERSION or kept.algorithm != "A256KW":
        raise Unreadable(f"{NAME} of recording {recording} is of another version of this software")
    return kept
