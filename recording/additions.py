"""What people added to a recording, sealed: `additions.json` names each of its sidecars with its SHA-256, signed.

A change writes it twice: before, with both what stands and what is to stand, and after. So a crash leaves a list that
is true either way. `number` counts the changes; the register has the last one, so that neither an older list nor an
older sidecar can be put back unseen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mediaserver.recording import signed
from mediaserver.recording.keys import Trust, TrustedKeys
from mediaserver.recording.problem import Problem
from mediaserver.recording.sidecars import ADDITIONS, NAMES

VERSION = 1


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sidecar; an empty SHA-256: there is none. `before` is there while it is being changed."""

    name: str
    sha256: str
    before: str | msgspec.UnsetType = msgspec.UNSET

    def fits(self, sha256: str) -> bool:
        return sha256 in (self.sha256, self.before)


class Additions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `additions.json`."""

    version: int
    recording: str
    number: int
    files: list[Listed]
    key: str = ""
    signature: str = ""

    def sha256(self, name: str) -> str:
        """Empty where it names none."""
        return next((file.sha256 for file in self.files if file.name == name), "")

    @property
    def is_settled(self) -> bool:
        return all(file.before is msgspec.UNSET for file in self.files)


def decode(data: bytes) -> Additions:
    """Raises ValueError."""
    return signed.decode(data, Additions, "a list of additions", VERSION)


def digest(path: Path) -> str:
    """The SHA-256 of a file as it is stored; empty where there is none. Raises OSError."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def begun(kept: Additions, name: str, sha256: str) -> Additions:
    """A change of `name` into what has this hash, empty: it goes."""
    others = [file for file in kept.files if file.name != name]
    files = sorted([*others, Listed(name, sha256, kept.sha256(name))], key=lambda file: file.name)
    return msgspec.structs.replace(kept, number=kept.number + 1, files=files)


def settled(folder: Path, kept: Additions) -> Additions:
    """As the disk has it, where both were possible. Raises OSError."""
    files = []
    for file in kept.files:
        sha256 = file.sha256
        if file.before is not msgspec.UNSET and (actual := digest(folder / file.name)) == file.before:
            sha256 = actual
        if sha256:
            files.append(Listed(file.name, sha256))
    return msgspec.structs.replace(kept, files=files)


def problems(
    folder: Path, trusted: TrustedKeys, *, signs: bool, registered: tuple[int, str] | None = None
) -> Iterator[Problem]:
    """What is wrong with the sidecars of a recording. `registered` is the number and the SHA-256 of the last list that
    the register has. With `signs`, what is not signed at all is a fault. Raises OSError."""
    there = {name: sha256 for name in NAMES if (sha256 := digest(folder / name))}
    try:
        data = (folder / ADDITIONS).read_bytes()
    except FileNotFoundError:
        if registered is not None:
            yield Problem("missing", ADDITIONS, "the register has one")
        if signs:
            yield from (Problem("unsigned", name, f"there is no {ADDITIONS} that names it") for name in there)
        return
    try:
        kept = decode(data)
    except ValueError as error:
        yield Problem("altered", ADDITIONS, str(error))
        return
    if kept.recording != folder.name:
        yield Problem("swapped", ADDITIONS, f"it is of recording {kept.recording}")
    match signed.check(kept, trusted):
        case Trust.UNKNOWN if kept.key:
            yield Problem("unknown-key", ADDITIONS, f"it names the key {kept.key}, which is not trusted here")
        case Trust.UNKNOWN if signs:
            yield Problem("unsigned", ADDITIONS, "no key has signed it")
        case Trust.BAD:
            yield Problem("altered", ADDITIONS, f"{kept.key} has not signed it")
        case _:
            pass
    if registered is not None:
        number, sha256 = registered
        if kept.number < number:
            yield Problem("altered", ADDITIONS, f"it is change {kept.number}, and the register has change {number}")
        elif kept.number == number and hashlib.sha256(data).hexdigest() != sha256:
            yield Problem("altered", ADDITIONS, "it is not the one that the register has")
    for file in kept.files:
        actual = there.pop(file.name, "")
        if not file.fits(actual):
            kind, said = ("altered", f"its SHA-256 is not that of {ADDITIONS}") if actual else ("missing", "it is gone")
            yield Problem(kind, file.name, said)  # type: ignore[arg-type]
    yield from (Problem("added", name, f"{ADDITIONS} does not know it") for name in there)
