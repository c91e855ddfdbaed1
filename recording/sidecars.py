"""What people add to a recording: files beside its manifest, which stays as it was signed.

Each is canonical JSON, replaced as a whole, and may be missing. Times are Unix times in µs. The catalog repeats what is
in them; where the two differ, the files are right.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from mediaserver.recording.storage import LocalStorage

VERSION = 1
LONGEST = 256
"""Characters of an identifier, a name, a reason."""


class Identifiers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom and what a recording is about, in the words of other systems. Raises ValueError for what no form would
    hold: more than 256 characters, or one that can't be printed."""

    patient_id: str = ""
    patient_issuer: str = ""
    """Who gave out the patient's identifier."""
    patient_name: str = ""
    birth_date: str = ""
    """YYYY-MM-DD."""
    sex: str = ""
    encounter: str = ""
    accession: str = ""
    study_uid: str = ""
    modality: str = ""
    study_description: str = ""
    referring: str = ""
    """The referring physician."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            _check(name, getattr(self, name))

    def texts(self) -> list[str]:
        """What free text finds it by."""
        known = (self.patient_id, self.patient_name, self.encounter, self.accession, self.study_uid, self.modality)
        return [text for text in (*known, self.study_description, self.referring) if text]


def filled(given: Identifiers, others: Identifiers) -> Identifiers:
    """`given`, and what it leaves open from the others."""
    names = Identifiers.__struct_fields__
    return Identifiers(**{name: getattr(given, name) or getattr(others, name) for name in names})


def contradicts(given: Identifiers, known: Identifiers) -> bool:
    """Both say something of the same, and not the same."""
    pairs = ((getattr(given, name), getattr(known, name)) for name in Identifiers.__struct_fields__)
    return any(one and other and one != other for one, other in pairs)


class Bookmark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A moment of a recording; `track` is empty where it is about all of them."""

    id: str
    at_us: int
    track: str = ""
    text: str = ""
    by: str
    made_us: int

    def __post_init__(self) -> None:
        _check("text", self.text)


class Consent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `subject` allowed (or refused, or took back: the last one of a scope counts), and who wrote it down."""

    id: str
    scope: str
    """What for: recording, teaching, research."""
    given: bool
    subject: str
    by: str
    at_us: int
    note: str = ""
    sources: list[str] = []
    """What of the subject's it is about; empty: everything."""

    def __post_init__(self) -> None:
        for name in ("scope", "subject", "note"):
            _check(name, getattr(self, name))


class Hold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """While a hold stands, nothing of the recording may be disposed of."""

    id: str
    reason: str
    by: str
    placed_us: int
    lifted_by: str = ""
    lifted_us: int | None = None

    def __post_init__(self) -> None:
        _check("reason", self.reason)


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"into": "class"}):
    """Which class of retention the recording is in (`retention`), and who said so: a policy or a person."""

    into: str
    by: str
    reason: str = ""
    set_us: int

    def __post_init__(self) -> None:
        _check("class", self.into)
        _check("reason", self.reason)


class _Identifiers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    identifiers: Identifiers
    salt: str = ""


class _Bookmarks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    bookmarks: list[Bookmark]
    salt: str = ""


class _Consents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    consents: list[Consent]
    salt: str = ""


class _Holds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    holds: list[Hold]
    salt: str = ""


class _Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    retention: Retention
    salt: str = ""


class Keeper(Protocol):
    """Who writes the files, such as `evidence.Evidence`, which signs them."""

    @property
    def signs(self) -> bool:
        """Their hashes are kept, so each has a salt: of what was erased none must tell what it was."""

    def check(self, folder: Path, name: str) -> None:
        """Raises ValueError when the file is not as it was left here, and OSError."""

    def keep(self, storage: LocalStorage, folder: Path, name: str, stored: bytes | None) -> None:
        """Put the file there, or take it away. Raises OSError."""


class Sidecars(msgspec.Struct, frozen=True):
    """All that was added to a recording."""

    identifiers: Identifiers | None = None
    bookmarks: list[Bookmark] = []
    consents: list[Consent] = []
    holds: list[Hold] = []
    retention: Retention | None = None

    @property
    def held(self) -> bool:
        return any(hold.lifted_us is None for hold in self.holds)


NAMES = ("identifiers.json", "bookmarks.json", "consents.json", "holds.json", "retention.json")
ADDITIONS = "additions.json"
"""Names them with their SHA-256 where the archive signs (`additions`)."""
_FILES: dict[str, type] = dict(zip(NAMES, (_Identifiers, _Bookmarks, _Consents, _Holds, _Retention), strict=True))
UNREADABLE = "the file holds.json can't be read, so what it said still counts"


def load(folder: Path, read: Callable[[Path], bytes] = Path.read_bytes) -> Sidecars:
    """What was added, for a catalog or a list: what can't be read is left out, save that its holds still count.
    `read` gives a file in the clear."""
    found = Sidecars()
    for name in NAMES:
        try:
            found = _with(found, name, _read(folder / name, read))
        except (OSError, ValueError):
            if name == "holds.json":
                unknown = Hold(id="unreadable", reason=UNREADABLE, by="", placed_us=0)
                found = msgspec.structs.replace(found, holds=[unknown])
    return found


def read_identifiers(folder: Path, read: Callable[[Path], bytes] = Path.read_bytes) -> Identifiers:
    """Those of a recording, where there are any. Raises OSError, and ValueError for a file that can't be read."""
    return _with(Sidecars(), "identifiers.json", _read(folder / "identifiers.json", read)).identifiers or Identifiers()


def change(
    storage: LocalStorage, folder: Path, name: str, how: Callable[[Sidecars], Sidecars], keeper: Keeper
) -> Sidecars:
    """Replace the file `name` by what `how` makes of it, one process at a time; gives all that there is then.

    Raises OSError, and ValueError for a file that can't be read or is not as it was left: nothing of it is thrown away.
    """
    with alone(folder):
        if storage.is_leaving(folder):
            raise ValueError(f"recording {folder.name} is being disposed of")
        keeper.check(folder, name)
        was = _with(Sidecars(), name, _read(folder / name, storage.read))
        changed = how(was)
        if changed != was:
            keeper.keep(storage, folder, name, _stored(storage, folder, name, _content(changed, name), keeper.signs))
    return load(folder, storage.read)


def erase(storage: LocalStorage, folder: Path, name: str, keeper: Keeper) -> None:
    """Remove the file `name`, readable or not. Raises OSError, and ValueError when the recording goes altogether."""
    with alone(folder):
        if storage.is_leaving(folder):
            raise ValueError(f"recording {folder.name} is being disposed of")
        (folder / f".{name}.new").unlink(missing_ok=True)
        keeper.keep(storage, folder, name, None)


def _stored(storage: LocalStorage, folder: Path, name: str, content: object, salted: bool) -> bytes | None:
    """The bytes of a file as they are to be stored; None where it says nothing."""
    if not content:
        return None
    members = {"version": VERSION, name.removesuffix(".json"): content} | ({"salt": token_hex(16)} if salted else {})
    return storage.encode(folder / name, msgspec.json.format(msgspec.json.encode(members), indent=1) + b"\n")


def _check(name: str, text: str) -> None:
    if len(text) > LONGEST:
        raise ValueError(f"{name} is longer than {LONGEST} characters")
    if not text.isprintable():
        raise ValueError(f"{name} has a character that can't be printed")


def _read(path: Path, read: Callable[[Path], bytes]) -> msgspec.Struct | None:
    try:
        found: Any = msgspec.json.decode(read(path), type=_FILES[path.name])
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name} can't be read: {error}") from error
    if found.version != VERSION:
        raise ValueError(f"{path.name} is of version {found.version}, not {VERSION}")
    assert isinstance(found, msgspec.Struct)
    return found


def _with(base: Sidecars, name: str, read: msgspec.Struct | None) -> Sidecars:
    if read is None:
        return base
    field = name.removesuffix(".json")
    return msgspec.structs.replace(base, **{field: getattr(read, field)})


def _content(sidecars: Sidecars, name: str) -> object:
    return getattr(sidecars, name.removesuffix(".json"))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the server and a command may both change something."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
