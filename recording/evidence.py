"""What makes a recording provable: its manifest's signature, its supplement, and its entries in the register.

The recorder, the recovery and the archive are given one `Evidence`; without a key nothing is signed and there is no
register. `verify` reads what is written here.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from mediaserver.recording import additions, manifest, signed, supplement, withdrawn
from mediaserver.recording import register as registers
from mediaserver.recording.additions import Additions
from mediaserver.recording.chained import Walk
from mediaserver.recording.keys import SIGNATURE_BYTES, SigningKey, Trust, TrustedKeys
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.register import Entry, Event, Register, look_up
from mediaserver.recording.sidecars import ADDITIONS, NAMES
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.supplement import Supplement

SIGNATURE = "manifest.sig"
"""The Ed25519 signature of manifest.json's bytes: 64 bytes."""
TIME_STAMP = "manifest.tsr"
"""The time stamp (RFC 3161) of manifest.json's bytes: a TimeStampResp in DER."""
_PENDING = ".pending"
_AMENDED = ".amended"
"""A folder of empty files by the names of recordings whose additions the register lacks."""


class Evidence:
    """Signs and registers. From any thread; raises OSError where the disk refuses."""

    def __init__(
        self,
        trusted: TrustedKeys,
        signer: SigningKey | None = None,
        register: Register | None = None,
        wall_us: Callable[[], int] = lambda: 0,
    ) -> None:
        """`wall_us` is needed where something is supplemented."""
        self.trusted = trusted
        self.signer = signer
        self.register = register
        self._wall_us = wall_us
        self._lock = threading.Lock()

    def note(self, event: Event, recording: str, **facts: str) -> None:
        """Enter it in the register."""
        if self.register is not None:
            self.register.append(event, recording, **facts)

    def close(self, storage: LocalStorage, folder: Path, kept: Manifest) -> Manifest:
        """Seal, sign and write the manifest, and register it. Interrupted, it can be done again."""
        key = self.signer.id if self.signer else msgspec.UNSET
        sealed = manifest.seal(msgspec.structs.replace(kept, key=key))
        data = manifest.encode(sealed)
        if self.signer is not None:
            storage.write_atomic(folder / SIGNATURE, self.signer.sign(data))
        storage.write_atomic(folder / manifest.NAME, data)
        self.registered(folder.name, data)
        return sealed

    def entry(self, recording: str) -> Entry | None:
        """What the register has of it. Raises OSError."""
        if self.register is None:
            return None
        return look_up(self.register.path.parent, recording, self.trusted)[0]

    def entries(self, root: Path) -> dict[str, Entry]:
        """What the register of the archive at `root` has of each; nothing where there is none. Raises OSError."""
        if not (root / registers.NAME).exists():
            return {}
        return registers.read_all(root, Walk(self.trusted, every=False))[0]

    def has_begun(self, recording: str) -> bool:
        """Whether the register has seen it begin; true where there is none."""
        if self.register is None:
            return True
        entry = self.entry(recording)
        return entry is not None and bool(entry.begun)

    def registered(self, recording: str, data: bytes) -> None:
        """The manifest with these bytes stands."""
        self.note("recording-closed", recording, sha256=hashlib.sha256(data).hexdigest())

    def supplement(self, storage: LocalStorage, folder: Path, name: str, data: bytes) -> None:
        """Lay a file beside the manifest, in place of an earlier one, and sign that it belongs there.

        After an interruption `resume` does the rest.
        """
        pending = storage.root / _PENDING
        pending.mkdir(exist_ok=True)
        with self._lock:
            path = pending / f"{folder.name}+{name}"
            # What is signed is what lies there, encrypted or not; what tells nothing needs no key.
            stored = data if name in (TIME_STAMP, withdrawn.NAME) else storage.encode(folder / name, data)
            storage.write_atomic(path, self._seal_pending(path.name, stored))
            self._supplement(storage, folder, name, stored)
            path.unlink()

    # What people add (`sidecars.Keeper`)

    @property
    def signs(self) -> bool:
        return self.signer is not None

    def check(self, folder: Path, name: str) -> None:
        """Nothing is changed that is not as it was left: that would be to sign what somebody else has written."""
        if not self.trusted.ids:
            return
        self._need_signer()
        wrong = [one for one in additions.problems(folder, self.trusted, signs=True) if one.name in (name, ADDITIONS)]
        if wrong:
            raise ValueError(f"{wrong[0].name} of recording {folder.name} is {wrong[0].kind}: {wrong[0].detail}")

    def keep(self, storage: LocalStorage, folder: Path, name: str, stored: bytes | None) -> None:
        """Write or remove a sidecar, and sign that it is so; the caller holds the folder's lock. Without the key it
        raises ValueError."""
        self._need_signer()
        before = self._additions(folder)
        sha256 = hashlib.sha256(stored).hexdigest() if stored is not None else ""
        if self.signer is not None:
            before = additions.begun(additions.settled(folder, before), name, sha256)
            storage.replace(folder / ADDITIONS, signed.encode(signed.sign(before, self.signer)))
        if stored is not None:
            storage.replace(folder / name, stored)
        else:
            storage.remove(folder / name)
        if self.signer is not None:
            self._settle(storage, folder, before)

    def _need_signer(self) -> None:
        if self.trusted.ids and self.signer is None:
            raise ValueError("the key that signs is not here: give the server's settings (--config)")

    def settle(self, storage: LocalStorage, folder: Path) -> None:
        """After a crash: what was being changed is as the disk has it. Raises OSError."""
        kept = self._additions(folder)
        if self.signer is not None and not kept.is_settled:
            self._settle(storage, folder, kept)

    def adopt(self, storage: LocalStorage) -> None:
        """Sign what people have added to an archive that is older than its keys. Raises OSError."""
        for folder in storage.folders() if self.signer is not None else ():
            there = [additions.Listed(name, sha) for name in NAMES if (sha := additions.digest(folder / name))]
            if there and not (folder / ADDITIONS).exists():
                self._settle(storage, folder, Additions(additions.VERSION, folder.name, 1, there))

    def _additions(self, folder: Path) -> Additions:
        """What was signed here; of anything else only nothing counts."""
        empty = Additions(additions.VERSION, folder.name, 0, [])
        try:
            kept = additions.decode((folder / ADDITIONS).read_bytes())
        except (FileNotFoundError, ValueError):
            return empty
        genuine = self.signer is None or signed.check(kept, self.trusted) is Trust.GOOD
        return kept if genuine and kept.recording == folder.name else empty

    def _settle(self, storage: LocalStorage, folder: Path, kept: Additions) -> None:
        data = signed.encode(signed.sign(additions.settled(folder, kept), self.signer))
        storage.replace(folder / ADDITIONS, data)
        if self.register is not None and self.register.is_open:
            self._amended(folder, kept.number, data)
        elif self.register is not None:  # a server owns it, and enters it when it starts
            marks = storage.root / _AMENDED
            marks.mkdir(exist_ok=True)
            (marks / folder.name).touch()

    def _amended(self, folder: Path, number: int, data: bytes) -> None:
        self.note("recording-amended", folder.name, number=str(number), sha256=hashlib.sha256(data).hexdigest())

    def _enter_amended(self, storage: LocalStorage) -> list[str]:
        """What commands have changed while the register was another's."""
        failures = []
        for mark in sorted((storage.root / _AMENDED).glob("[!.]*")):
            folder = storage.find(mark.name)
            try:
                if folder is not None and (folder / ADDITIONS).exists():
                    data = (folder / ADDITIONS).read_bytes()
                    kept = additions.decode(data)
                    if kept.recording != mark.name or signed.check(kept, self.trusted) is not Trust.GOOD:
                        raise ValueError("it is not what this server has signed")
                    self._amended(folder, kept.number, data)
                mark.unlink()
            except (OSError, ValueError) as error:
                failures.append(f"{ADDITIONS} of recording {mark.name} could not be registered: {error}")
        return failures

    def resume(self, storage: LocalStorage) -> list[str]:
        """Carry out what an earlier run was interrupted in; gives in words what can't be."""
        failures = self._enter_amended(storage) if self.signer is not None else []
        for path in sorted((storage.root / _PENDING).glob("[!.]*+*")):
            recording, _, name = path.name.partition("+")
            folder = storage.find(recording)
            try:
                data = self._open_pending(path.name, path.read_bytes())
                if folder is not None and not storage.is_leaving(folder):
                    self._supplement(storage, folder, name, data)
                path.unlink()
            except (OSError, ValueError) as error:
                failures.append(f"{name} could not be laid beside recording {recording}: {error}")
        return failures

    def shut(self) -> None:
        """Nothing more will come; what is being supplemented is finished first."""
        with self._lock:
            if self.register is not None:
                self.register.close()

    def _seal_pending(self, name: str, data: bytes) -> bytes:
        """Signed on the way too: what lies there when a server starts must be its own, or it would sign anything."""
        return self.signer.sign(f"{name}\n".encode() + data) + data if self.signer else data

    def _open_pending(self, name: str, sealed: bytes) -> bytes:
        """Raises ValueError."""
        if self.signer is None:
            return sealed
        signature, data = sealed[:SIGNATURE_BYTES], sealed[SIGNATURE_BYTES:]
        if not self.trusted.has_signed(signature, f"{name}\n".encode() + data):
            raise ValueError("it was not this server that left it in .pending")
        return data

    def _supplement(self, storage: LocalStorage, folder: Path, name: str, data: bytes) -> None:
        before = _read(folder)
        plain = storage.decode(folder / name, data)
        extended = supplement.extend(
            before, name, data, self._wall_us(), self.signer, plain if plain is not data else None
        )
        text = supplement.encode(extended)
        storage.replace(folder / name, data)
        storage.replace(folder / supplement.NAME, text)
        self.note("recording-supplemented", folder.name, sha256=hashlib.sha256(text).hexdigest())


NOTHING = Evidence(TrustedKeys())
"""Signs nothing and trusts nobody."""


def _read(folder: Path) -> Supplement:
    """The supplement as it stands, or an empty one."""
    try:
        return supplement.decode((folder / supplement.NAME).read_bytes())
    except FileNotFoundError:
        digest = manifest.decode((folder / manifest.NAME).read_bytes()).digest
        return Supplement(supplement.VERSION, folder.name, digest, [])
