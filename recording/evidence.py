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

from mediaserver.recording import manifest, supplement
from mediaserver.recording.keys import SIGNATURE_BYTES, SigningKey, TrustedKeys
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.register import Entry, Event, Register, look_up
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.supplement import Supplement

SIGNATURE = "manifest.sig"
"""The Ed25519 signature of manifest.json's bytes: 64 bytes."""
TIME_STAMP = "manifest.tsr"
"""The time stamp (RFC 3161) of manifest.json's bytes: a TimeStampResp in DER."""
_PENDING = ".pending"


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
            # What is signed is what lies there, encrypted or not; a time stamp tells nothing and needs no key.
            stored = data if name == TIME_STAMP else storage.encode(folder / name, data)
            storage.write_atomic(path, self._seal_pending(path.name, stored))
            self._supplement(storage, folder, name, stored)
            path.unlink()

    def resume(self, storage: LocalStorage) -> list[str]:
        """Carry out what an earlier run was interrupted in; gives in words what can't be."""
        failures = []
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
