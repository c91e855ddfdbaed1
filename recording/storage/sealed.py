"""Files encrypted with AES-256-GCM (NIST SP 800-38D) that can grow, be read at any place, and can't be changed unseen.

::

    file    = header frame* [index trailer]
    header  = magic (8 bytes)  salt (32)
    frame   = length of the plaintext (4, big endian)  nonce (12)  ciphertext  tag (16)
    index   = a frame whose plaintext is, for each frame in the order of the plaintext:
              offset in the file (8)  length of the plaintext (4)  tag (16)
    trailer = offset of the index in the file (8)  magic (8)

Each file has a key of its own: HKDF-SHA256 (RFC 5869) of the recording's data key with the file's random salt, bound
to the recording and the name, so that no file can be put in the place of another. Each frame has a random nonce, so
that a write that is repeated with other data never uses one again. A frame's associated data is its place in the
plaintext; so frames can't be moved, doubled or left out.

While it grows a file has frames alone, and the journal knows how far to trust it. Completing it only appends: what is
patched is written anew as frames at the end, then comes the index, which names the frames that count with their tags.
So an interruption at any point leaves what was there before, and can be followed by another try.
"""

from __future__ import annotations

import hashlib
import os
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mediaserver.recording.sample import Patch
from mediaserver.recording.storage.face import Reader, Unreadable

MAGIC = b"MSSEAL1\n"
END_MAGIC = b"MSINDX1\n"
MAX_FRAME = 64 * 1024
"""Bytes of plaintext in a frame at most: what a read of a single byte has to decrypt."""
KEY_BYTES = 32

_SALT = 32
_HEADER = len(MAGIC) + _SALT
_LENGTH = struct.Struct(">I")
_NONCE = 12
_TAG = 16
_LEAD = _LENGTH.size + _NONCE
_OVERHEAD = _LEAD + _TAG
_ENTRY = struct.Struct(">QI16s")
_TRAILER = struct.Struct(">Q8s")
_DATA = b"data"
_INDEX = b"index"
_HASHED = 1 << 20


class Random(Protocol):
    """A file to which can be written at any place, such as `local.StoredFile`."""

    @property
    def path(self) -> Path: ...
    @property
    def size(self) -> int: ...
    def write(self, data: bytes, offset: int) -> None: ...
    def read(self, size: int, offset: int) -> bytes: ...
    def sync(self) -> None: ...
    def truncate(self, size: int) -> None: ...
    def sha256(self, size: int) -> str: ...
    def close(self) -> None: ...


class _Frame(NamedTuple):
    start: int
    """Its place in the plaintext."""
    length: int
    at: int
    """Its place in the file."""
    tag: bytes

    @property
    def end(self) -> int:
        return self.at + _OVERHEAD + self.length


class Content(NamedTuple):
    """The plaintext of a file."""

    bytes: int
    sha256: str


class _Cipher:
    """The key of one file."""

    def __init__(self, data_key: bytes, name: str, salt: bytes) -> None:
        """`name` says which file of which recording it is."""
        info = b"mediaserver sealed file\0" + name.encode()
        self._gcm = AESGCM(HKDF(SHA256(), KEY_BYTES, salt, info).derive(data_key))
        self._name = name

    def seal(self, kind: bytes, place: int, plain: bytes | memoryview) -> bytes:
        nonce = os.urandom(_NONCE)
        return _LENGTH.pack(len(plain)) + nonce + self._gcm.encrypt(nonce, bytes(plain), _bound(kind, place))

    def open(self, kind: bytes, place: int, frame: bytes) -> bytes:
        """Of a frame that has exactly these bytes. Raises `Unreadable`."""
        if len(frame) < _OVERHEAD or _LENGTH.unpack_from(frame)[0] != len(frame) - _OVERHEAD:
            raise Unreadable(f"{self._name}: a frame is not as long as it should be")
        try:
            return self._gcm.decrypt(frame[_LENGTH.size : _LEAD], frame[_LEAD:], _bound(kind, place))
        except InvalidTag:
            raise Unreadable(f"{self._name}: these are not the bytes that were sealed under this key") from None


def _bound(kind: bytes, place: int) -> bytes:
    return kind + place.to_bytes(8, "big")


class SealedFile:
    """A file that grows encrypted, with the face of `local.StoredFile`: offsets and sizes are those of the plaintext.

    A write begins at the end, or where an earlier one began, which it replaces with all that came after.
    """

    def __init__(self, file: Random, data_key: bytes, name: str) -> None:
        """What `file` holds already is taken as frames, as far as it can be. Raises OSError."""
        self._file = file
        self._frames: list[_Frame] = []
        header = file.read(_HEADER, 0)
        self._fresh = len(header) < _HEADER
        if not self._fresh and not header.startswith(MAGIC):
            raise Unreadable(f"{name}: not a sealed file")
        salt = os.urandom(_SALT) if self._fresh else header[len(MAGIC) :]
        self._header = MAGIC + salt
        self._cipher = _Cipher(data_key, name, salt)
        self._scan()

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def size(self) -> int:
        return self._frames[-1].start + self._frames[-1].length if self._frames else 0

    def write(self, data: bytes, offset: int) -> None:
        """All of it, or OSError; then what stood before `offset` still does."""
        kept = self._before(offset)
        at = kept[-1].end if kept else _HEADER
        sealed, frames = self._seal(data, offset, at)
        if self._fresh or not kept:
            self._file.write(self._header + sealed, 0)
            self._fresh = False
        else:
            self._file.write(sealed, at)
        self._frames = kept + frames

    def read(self, size: int, offset: int) -> bytes:
        return b"".join(_slices(self._frames, size, offset, self._open))

    def sync(self) -> None:
        self._file.sync()

    def truncate(self, size: int) -> None:
        """To where a write has begun or ended."""
        kept = self._before(size)
        if not self._fresh:
            self._file.truncate(kept[-1].end if kept else _HEADER)
        self._frames = kept

    def sha256(self, size: int) -> str:
        """Of the first `size` bytes of plaintext."""
        digest = hashlib.sha256()
        for part in _slices(self._frames, size, 0, self._open):
            digest.update(part)
        return digest.hexdigest()

    def sound(self) -> int:
        """How much of the plaintext, from its start, is as it was sealed."""
        for frame in self._frames:
            try:
                list(self._open([frame]))
            except Unreadable:
                return frame.start
        return self.size

    def complete(self, patches: Sequence[Patch], tail: bytes, size: int) -> tuple[int, str, Content]:
        """Patches, `tail` behind the first `size` bytes, and the index; all of it on the disk when it returns.

        Gives the size and SHA-256 of what is stored, and what the plaintext is.
        """
        frames = self._before(size)
        at = frames[-1].end if frames else _HEADER
        out = bytearray()
        for number, frame in enumerate(frames):
            plain = _patched(frame, patches, self._open)
            if plain is not None:
                sealed, (frames[number],) = self._seal(plain, frame.start, at + len(out))
                out += sealed
        sealed, added = self._seal(tail, size, at + len(out))
        out += sealed
        frames += added
        index_at = at + len(out)
        entries = b"".join(_ENTRY.pack(frame.at, frame.length, frame.tag) for frame in frames)
        out += self._cipher.seal(_INDEX, index_at, entries) + _TRAILER.pack(index_at, END_MAGIC)
        self._file.truncate(at)
        if self._fresh:
            self._file.write(self._header, 0)
            self._fresh = False
        self._file.write(bytes(out), at)
        self._file.sync()
        self._frames = frames
        stored = at + len(out)
        return stored, self._file.sha256(stored), Content(self.size, self.sha256(self.size))

    def close(self) -> None:
        self._file.close()

    def _before(self, offset: int) -> list[_Frame]:
        if offset == self.size:
            return list(self._frames)
        kept = [frame for frame in self._frames if frame.start < offset]
        if (kept[-1].start + kept[-1].length if kept else 0) != offset:
            raise ValueError(f"no frame begins at {offset}")
        return kept

    def _seal(self, data: bytes, offset: int, at: int) -> tuple[bytes, list[_Frame]]:
        """`data` as frames that are to stand at `at`."""
        out = bytearray()
        frames = []
        view = memoryview(data)
        for start in range(0, len(data), MAX_FRAME):
            plain = view[start : start + MAX_FRAME]
            sealed = self._cipher.seal(_DATA, offset + start, plain)
            frames.append(_Frame(offset + start, len(plain), at + len(out), sealed[-_TAG:]))
            out += sealed
        return bytes(out), frames

    def _scan(self) -> None:
        """What stands there, as far as it looks like frames. Whether it is genuine shows when it is read."""
        at, start, end = _HEADER, 0, self._file.size
        while at + _OVERHEAD < end:
            (length,) = _LENGTH.unpack(self._file.read(_LENGTH.size, at))
            if not 0 < length <= MAX_FRAME or at + _OVERHEAD + length > end:
                break
            tag = self._file.read(_TAG, at + _LEAD + length)
            self._frames.append(_Frame(start, length, at, tag))
            at, start = self._frames[-1].end, start + length

    def _open(self, frames: Sequence[_Frame]) -> Iterator[bytes]:
        for frame in frames:
            yield self._cipher.open(_DATA, frame.start, self._file.read(frame.end - frame.at, frame.at))


class SealedReader:
    """The plaintext of a complete sealed file, by ranges: only the frames that are needed are read and decrypted."""

    def __init__(self, stored: Reader, data_key: bytes, name: str) -> None:
        """Takes over `stored`. Raises `Unreadable` when it is not what was sealed under this key and name."""
        self._stored = stored
        self._name = name
        self._last: tuple[_Frame, bytes] | None = None
        try:
            header = stored.read(_HEADER, 0)
            if len(header) < _HEADER or not header.startswith(MAGIC):
                raise Unreadable(f"{name}: not a sealed file")
            self._cipher = _Cipher(data_key, name, header[len(MAGIC) :])
            self._frames = self._index()
        except BaseException:
            stored.close()
            raise
        self._starts = [frame.start for frame in self._frames]

    @property
    def size(self) -> int:
        return self._frames[-1].start + self._frames[-1].length if self._frames else 0

    def read(self, size: int, offset: int) -> bytes:
        first = max(0, bisect_right(self._starts, offset) - 1)
        last = bisect_right(self._starts, offset + size - 1) if size > 0 else first
        return b"".join(_slices(self._frames[first:last], size, offset, self._open))

    def close(self) -> None:
        self._stored.close()

    def _index(self) -> list[_Frame]:
        stored = self._stored
        broken = Unreadable(f"{self._name}: the sealed file is cut short or its end is altered")
        end = stored.size - _TRAILER.size
        # Most often the index is in it: one read instead of two from a store far away.
        tail_at = max(_HEADER, stored.size - MAX_FRAME)
        tail = stored.read(stored.size - tail_at, tail_at) if end >= _HEADER else b""
        if len(tail) < _TRAILER.size:
            raise broken
        at, magic = _TRAILER.unpack_from(tail, len(tail) - _TRAILER.size)
        if magic != END_MAGIC or not _HEADER <= at <= end - _OVERHEAD:
            raise broken
        sealed = tail[at - tail_at : end - tail_at] if at >= tail_at else stored.read(end - at, at)
        entries = self._cipher.open(_INDEX, at, sealed)
        if len(entries) % _ENTRY.size:
            raise broken
        frames = []
        start = 0
        for place, length, tag in _ENTRY.iter_unpack(entries):
            frames.append(_Frame(start, length, place, tag))
            start += length
        return frames

    def _open(self, frames: Sequence[_Frame]) -> Iterator[bytes]:
        """One read for frames that lie one behind the other."""
        for run in _runs(frames):
            first = run[0]
            if self._last is not None and self._last[0] == first:
                yield self._last[1]
                run = run[1:]
                if not run:
                    continue
                first = run[0]
            data = self._stored.read(run[-1].end - first.at, first.at)
            for frame in run:
                sealed = data[frame.at - first.at : frame.end - first.at]
                if sealed[-_TAG:] != frame.tag:
                    raise Unreadable(f"{self._name}: a frame is not the one that was sealed")
                plain = self._cipher.open(_DATA, frame.start, sealed)
                self._last = frame, plain
                yield plain


def seal_bytes(data: bytes, data_key: bytes, name: str) -> bytes:
    """A small file as a whole."""
    salt = os.urandom(_SALT)
    cipher = _Cipher(data_key, name, salt)
    out = bytearray(MAGIC + salt)
    entries = bytearray()
    for start in range(0, len(data), MAX_FRAME):
        sealed = cipher.seal(_DATA, start, data[start : start + MAX_FRAME])
        entries += _ENTRY.pack(len(out), len(sealed) - _OVERHEAD, sealed[-_TAG:])
        out += sealed
    index_at = len(out)
    return bytes(out + cipher.seal(_INDEX, index_at, bytes(entries)) + _TRAILER.pack(index_at, END_MAGIC))


def open_bytes(sealed: bytes, data_key: bytes, name: str) -> bytes:
    """Raises `Unreadable`."""
    reader = SealedReader(BytesReader(sealed), data_key, name)
    return reader.read(reader.size, 0)


class BytesReader:
    """Bytes in memory as a `Reader`."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, size: int, offset: int) -> bytes:
        return self._data[offset : offset + size]

    def close(self) -> None:
        pass


class _Opener(Protocol):
    def __call__(self, frames: Sequence[_Frame]) -> Iterator[bytes]: ...


def _slices(frames: Sequence[_Frame], size: int, offset: int, opener: _Opener) -> Iterator[bytes]:
    """The parts of `frames` that make up the range."""
    wanted = [frame for frame in frames if frame.start < offset + size and frame.start + frame.length > offset]
    for frame, plain in zip(wanted, opener(wanted), strict=True):
        yield plain[max(0, offset - frame.start) : offset + size - frame.start]


def _runs(frames: Sequence[_Frame]) -> Iterator[Sequence[_Frame]]:
    start = 0
    for number in range(1, len(frames) + 1):
        if number == len(frames) or frames[number].at != frames[number - 1].end:
            yield frames[start:number]
            start = number


def _patched(frame: _Frame, patches: Iterable[Patch], opener: _Opener) -> bytes | None:
    """The plaintext of a frame with the patches that touch it; None when none does."""
    touching = [p for p in patches if p.offset < frame.start + frame.length and p.offset + len(p.data) > frame.start]
    if not touching:
        return None
    plain = bytearray(b"".join(opener([frame])))
    for patch in touching:
        skip = max(0, frame.start - patch.offset)
        at = patch.offset + skip - frame.start
        part = patch.data[skip : skip + frame.length - at]
        plain[at : at + len(part)] = part
    return bytes(plain)
