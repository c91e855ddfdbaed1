"""Storing by the DICOM protocol itself: C-STORE (PS3.4, annex B), read from the disk as it is sent."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pynetdicom
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS, code_to_category

from mediaserver.recording.export.dicom.coding import NAMES
from mediaserver.recording.export.dicom.send import Answer, Refused, Unreachable
from mediaserver.recording.export.progress import ExportError

CALLING = "MEDIASERVER"
CONNECT_S, ANSWER_S = 10, 300
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[^:\[\]]+):(?P<port>\d{1,5}):(?P<title>[\x20-\x7e]{1,16})")
_TRANSIENT = 2
"""The result of a rejection that may pass (PS3.8, table 9-21)."""


class CStoreReceiver:
    """An application entity."""

    def __init__(self, host: str, port: int, title: str, calling: str = CALLING, ca: Path | None = None) -> None:
        """With `ca`, a file of certificates, the association goes through TLS."""
        self.name = f"{title} at {host}:{port}"
        self._address = (host, port, title)
        self._calling = calling
        self._tls = ssl.create_default_context(cafile=ca) if ca else None
        self._association: Association | None = None
        self._lost = False
        # The library's switch for sending in pieces instead of from memory.
        pynetdicom._config.STORE_SEND_CHUNKED_DATASET = True

    @classmethod
    def parse(cls, text: str, calling: str = CALLING, ca: Path | None = None) -> CStoreReceiver:
        """From `host:port:AE title`. Raises `ExportError`."""
        found = _ADDRESS.fullmatch(text)
        if found is None or not 0 < int(found["port"]) < 65_536:
            raise ExportError(f"a receiver is host:port:AE-title, not {text!r}")
        return cls(found["host"].strip("[]"), int(found["port"]), found["title"].strip(), calling, ca)

    def open(self, paths: Sequence[Path]) -> None:
        self._lost = False
        entity = AE(ae_title=self._calling)
        entity.connection_timeout = CONNECT_S
        entity.dimse_timeout = entity.network_timeout = entity.acse_timeout = ANSWER_S
        for sop_class, syntax in sorted({_kind(path) for path in paths}):
            entity.add_requested_context(sop_class, syntax)
        host, port, title = self._address
        tls = (self._tls, host) if self._tls else None
        self._association = entity.associate(host, port, ae_title=title, tls_args=tls)
        if self._association.is_established:
            return
        primitive = self._association.acceptor.primitive
        if self._association.is_rejected and primitive is not None:
            said = f"{self.name} rejects the association: {primitive.result_str}, {primitive.reason_str}"
            said += f" (called {title}, calling {self._calling})"
            raise (Unreachable if primitive.result == _TRANSIENT else Refused)(said)
        raise Unreachable(f"{self.name} does not answer")

    def close(self) -> None:
        if self._association is not None and self._association.is_established and not self._lost:
            self._association.release()

    def store(self, path: Path) -> Answer:
        assert self._association is not None
        # The library waits for ever for an association that has gone.
        if self._lost or not self._association.is_established:
            return Answer(False, True, "the association has ended")
        sop_class, syntax = _kind(path)
        try:
            status = self._association.send_c_store(path)
        except ValueError:
            name = NAMES.get(syntax, pydicom.uid.UID(syntax).name)
            return Answer(False, False, f"it doesn't take {pydicom.uid.UID(sop_class).name} as {name} ({syntax})")
        except (RuntimeError, OSError) as error:
            return Answer(False, True, str(error))
        if "Status" not in status:
            self._lost = True
            return Answer(False, True, "it gave no answer, or ended the association")
        return _judge(status.Status, status.get("ErrorComment", ""))


def _judge(status: int, comment: str) -> Answer:
    category = code_to_category(status)
    if category == "Success":
        return Answer(True, False, "")
    described = STORAGE_SERVICE_CLASS_STATUS.get(status, (category, category))[1] or category
    text = f"0x{status:04X} {described}" + (f": {comment}" if comment else "")
    return Answer(category == "Warning", status & 0xFF00 == 0xA700, text)


def _kind(path: Path) -> tuple[str, str]:
    meta = pydicom.filereader.read_file_meta_info(path)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
