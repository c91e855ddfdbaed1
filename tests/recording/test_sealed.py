"""Sealed files: any range reads as it was written, and nothing that was changed passes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.recording.sample import Patch
from mediaserver.recording.storage import StoredFile, Unreadable
from mediaserver.recording.storage import sealed as module
from mediaserver.recording.storage.sealed import (
    BytesReader,
    SealedFile,
    SealedReader,
    open_bytes,
    seal_bytes,
)

KEY = bytes(range(32))
NAME = "20261129-120000-00000000/us-1.mp4"
FRAME = 64
HEADER = 40
OVERHEAD = 32


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FRAME", FRAME)


class Memory:
    """A file in memory, with the face of `StoredFile`."""

    def __init__(self, data: bytes = b"") -> None:
        self.path = Path("us-1.mp4")
        self.data = bytearray(data)

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes, offset: int) -> None:
        self.data[len(self.data) :] = bytes(max(0, offset - len(self.data)))
        self.data[offset : offset + len(data)] = data

    def read(self, size: int, offset: int) -> bytes:
        return bytes(self.data[offset : offset + size])

    def sync(self) -> None:
        pass

    def truncate(self, size: int) -> None:
        del self.data[size:]

    def sha256(self, size: int) -> str:
        return str(size)

    def close(self) -> None:
        pass


def reader(data: bytes, key: bytes = KEY, name: str = NAME) -> SealedReader:
    return SealedReader(BytesReader(data), key, name)


def whole(data: bytes, key: bytes = KEY, name: str = NAME) -> bytes:
    return open_bytes(data, key, name)


def patched(data: bytes, patches: list[Patch]) -> bytes:
    out = bytearray(data)
    for patch in patches:
        out[patch.offset : patch.offset + len(patch.data)] = patch.data
    return bytes(out)


CONTENT = st.binary(max_size=5 * FRAME)


@given(data=CONTENT, size=st.integers(0, 6 * FRAME), offset=st.integers(0, 6 * FRAME))
def test_any_range(data: bytes, size: int, offset: int) -> None:
    sealed = reader(seal_bytes(data, KEY, NAME))
    assert sealed.size == len(data)
    assert sealed.read(size, offset) == data[offset : offset + size]
    assert sealed.read(size, offset) == data[offset : offset + size]


@given(writes=st.lists(st.binary(min_size=1, max_size=3 * FRAME), min_size=1, max_size=6), data=st.data())
def test_a_file_that_grows_and_is_completed(writes: list[bytes], data: st.DataObject) -> None:
    file = Memory()
    growing = SealedFile(file, KEY, NAME)
    plain = b""
    for one in writes:
        if data.draw(st.booleans()):  # a write that failed half-way, and is repeated with something else
            before = bytes(file.data)
            growing.write(data.draw(st.binary(min_size=1, max_size=3 * FRAME)), len(plain))
            cut = data.draw(st.integers(len(before), len(file.data)))
            del file.data[cut:]
        growing.write(one, len(plain))
        plain += one
    assert growing.read(len(plain), 0) == plain
    # What a crash left is found again, whatever stands behind it.
    file.data += data.draw(st.binary(max_size=100))
    again = SealedFile(file, KEY, NAME)
    assert again.read(len(plain), 0) == plain
    assert again.sound() >= len(plain)
    at = data.draw(st.integers(0, len(plain) - 1))
    patches = [Patch(at, data.draw(st.binary(max_size=len(plain) - at)))]
    tail = data.draw(st.binary(max_size=2 * FRAME))
    for _ in range(2):  # completing it can be repeated
        stored, _, content = SealedFile(file, KEY, NAME).complete(patches, tail, len(plain))
        assert stored == len(file.data)
        assert whole(bytes(file.data)) == patched(plain, patches) + tail
        assert content.bytes == len(plain) + len(tail)


def completed() -> tuple[bytes, bytes]:
    """A file with a frame that was patched, and its plaintext."""
    file = Memory()
    growing = SealedFile(file, KEY, NAME)
    plain = bytes(range(256)) * 2
    growing.write(plain[:100], 0)
    growing.write(plain[100:], 100)
    growing.complete([Patch(10, b"patch")], b"the end", len(plain))
    return bytes(file.data), patched(plain, [Patch(10, b"patch")]) + b"the end"


def test_every_flipped_byte_is_refused() -> None:
    data, plain = completed()
    superseded = range(HEADER, HEADER + FRAME + OVERHEAD)  # the frame that the patch has replaced: nobody reads it
    for at in range(len(data)):
        altered = bytearray(data)
        altered[at] ^= 1
        if at in superseded:
            assert whole(bytes(altered)) == plain
        else:
            with pytest.raises(Unreadable):
                whole(bytes(altered))


def test_every_truncation_is_refused() -> None:
    data, _ = completed()
    for size in range(len(data)):
        with pytest.raises(Unreadable):
            whole(data[:size])
    with pytest.raises(Unreadable):
        whole(data + b"\0")


def frames_of(data: bytes) -> list[bytes]:
    """The frames of equal size behind the header."""
    size = FRAME + OVERHEAD
    return [data[at : at + size] for at in range(HEADER, HEADER + 4 * size, size)]


@pytest.mark.parametrize("order", [[1, 0, 2, 3], [0, 0, 2, 3], [0, 2, 2, 3], [3, 2, 1, 0]])
def test_frames_in_another_order_are_refused(order: list[int]) -> None:
    data = seal_bytes(os.urandom(4 * FRAME), KEY, NAME)
    frames = frames_of(data)
    moved = b"".join(frames[number] for number in order)
    with pytest.raises(Unreadable):
        whole(data[:HEADER] + moved + data[HEADER + len(moved) :])


def test_a_growing_file_with_frames_in_another_order_is_not_sound() -> None:
    file = Memory()
    growing = SealedFile(file, KEY, NAME)
    growing.write(os.urandom(4 * FRAME), 0)
    frames = frames_of(bytes(file.data))
    file.data[HEADER:] = frames[0] + frames[2] + frames[1] + frames[3]
    again = SealedFile(file, KEY, NAME)
    assert again.sound() == FRAME
    with pytest.raises(Unreadable):
        again.read(FRAME, FRAME)


def test_frames_of_an_earlier_write_are_refused() -> None:
    """Somebody kept the frame that a repeated write has replaced, and puts it back."""
    file = Memory()
    growing = SealedFile(file, KEY, NAME)
    growing.write(b"first version", 0)
    early = bytes(file.data[HEADER:])
    growing.write(b"other version", 0)
    growing.complete([], b"", 13)
    assert whole(bytes(file.data)) == b"other version"
    file.data[HEADER : HEADER + len(early)] = early
    with pytest.raises(Unreadable):
        whole(bytes(file.data))


def test_another_key_and_another_name_are_refused() -> None:
    data = seal_bytes(b"picture", KEY, NAME)
    for key, name in ((bytes(32), NAME), (KEY, NAME.replace("us-1", "us-2")), (KEY, "other/us-1.mp4")):
        with pytest.raises(Unreadable):
            whole(data, key, name)


def test_the_index_of_another_file_is_refused() -> None:
    one, two = (seal_bytes(b"x" * 100, KEY, NAME) for _ in range(2))
    frames = HEADER + 100 + 2 * OVERHEAD
    with pytest.raises(Unreadable):
        whole(one[:frames] + two[frames:])


def test_no_nonce_is_used_twice() -> None:
    file = Memory()
    growing = SealedFile(file, KEY, NAME)
    seen: set[bytes] = set()
    for number in range(50):  # the same place again and again, with other data each time
        growing.write(bytes([number]) * FRAME, 0)
        seen.add(bytes(file.data[HEADER + 4 : HEADER + 16]))
    assert len(seen) == 50


@given(data=st.binary(max_size=400), fixed=st.booleans())
def test_whatever_the_bytes_are_they_are_refused_in_a_sentence(data: bytes, fixed: bool) -> None:
    """Any bytes at all, and any between a genuine header and a genuine end."""
    genuine = seal_bytes(b"x" * 100, KEY, NAME)
    made = genuine[:HEADER] + data + genuine[-16:] if fixed else data
    with pytest.raises(Unreadable):
        whole(made)
    file = Memory(made)
    try:
        growing = SealedFile(file, KEY, NAME)
    except Unreadable:
        assert len(made) >= HEADER
    else:
        assert growing.sound() == 0


@given(data=st.data())
def test_a_mutated_file_reads_as_it_was_or_not_at_all(data: st.DataObject) -> None:
    genuine, plain = completed()
    made = bytearray(genuine)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(made)))
        stop = data.draw(st.integers(start, min(len(made), start + 200)))
        made[start:stop] = data.draw(st.binary(max_size=200) | st.just(genuine[start : start + 96]))
    with contextlib.suppress(Unreadable):
        assert whole(bytes(made)) == plain


def test_only_what_is_needed_is_read() -> None:
    class Counting(BytesReader):
        reads = 0
        count = 0

        def read(self, size: int, offset: int) -> bytes:
            self.reads += 1
            self.count += size
            return super().read(size, offset)

    plain = os.urandom(1000 * FRAME)
    stored = Counting(seal_bytes(plain, KEY, NAME))
    sealed = SealedReader(stored, KEY, NAME)
    stored.reads = stored.count = 0
    assert sealed.read(3 * FRAME, 500 * FRAME + 7) == plain[500 * FRAME + 7 : 503 * FRAME + 7]
    assert stored.reads == 1
    assert stored.count == 4 * (FRAME + OVERHEAD)


def test_on_a_real_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FRAME", 64 * 1024)
    path = tmp_path / "us-1.mp4"
    plain = os.urandom(300_000)
    growing = SealedFile(StoredFile(path), KEY, NAME)
    growing.write(plain, 0)
    growing.sync()
    growing.complete([], b"", len(plain))
    growing.close()
    data = path.read_bytes()
    assert plain[:64] not in data
    assert whole(data) == plain
