"""Storing by HTTP: STOW-RS of DICOMweb (PS3.18, 10.5). An object is a request, read from the disk as it is sent."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import requests
from pydicom.dataset import Dataset

from mediaserver.recording.export.dicom.send import Answer

CONNECT_S, READ_S = 10, 300
PIECE = 1 << 18
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_STATUS = {
    400: "it can't read the request",
    401: "it wants credentials (--auth)",
    403: "these credentials may not store there",
    404: "there is no STOW-RS at this address: it ends before /studies",
    405: "there is no STOW-RS at this address: it ends before /studies",
    406: "it can't answer in JSON",
    409: "it took none of the instances",
    413: "the object is larger than it allows",
    415: "it doesn't take this media type or transfer syntax",
    429: "it is asked too often",
    503: "it is out of resources",
}
# PS3.18, table I.2-2, and the codes of C-STORE that servers pass on (PS3.4, table B.2-1).
_REASONS = (
    (0x0110, 0xFFFF, "processing failed"),
    (0x0122, 0xFFFF, "it doesn't take this SOP class"),
    (0x0124, 0xFFFF, "not authorized"),
    (0x0131, 0xFFFF, "it takes no such study"),
    (0xA700, 0xFF00, "out of resources"),
    (0xA900, 0xFF00, "the object does not match its SOP class"),
    (0xC122, 0xFFFF, "it doesn't take this transfer syntax"),
    (0xC000, 0xF000, "it can't understand the object"),
)
_WARNINGS = {
    0xB000: "it changed attributes",
    0xB006: "it discarded attributes",
    0xB007: "the object does not match its SOP class",
}


class _Body:
    """One part of multipart/related around a file, as `requests` takes a stream: by its length and piece by piece."""

    def __init__(self, path: Path, boundary: str) -> None:
        self._head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._path = path

    def __len__(self) -> int:
        return len(self._head) + self._path.stat().st_size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self._path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
        yield self._tail


class StowReceiver:
    """`url` is that of the DICOMweb service; "/studies" follows it."""

    def __init__(self, url: str, authorization: str = "", ca: Path | None = None) -> None:
        """`authorization` is the value of that header; `ca` a file of certificates to trust instead of the system's."""
        self.name = url
        self._url = url.rstrip("/") + "/studies"
        self._headers = {"Accept": "application/dicom+json"}
        if authorization:
            self._headers["Authorization"] = authorization
        self._ca = str(ca) if ca else True
        self._session: requests.Session | None = None

    def open(self, paths: Sequence[Path]) -> None:
        self._session = requests.Session()
        # A proxy or a password of the environment is none of the PACS's.
        self._session.trust_env = False

    def close(self) -> None:
        if self._session:
            self._session.close()

    def store(self, path: Path) -> Answer:
        assert self._session is not None
        boundary = secrets.token_hex(16)
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        try:
            response = self._session.post(
                self._url, data=_Body(path, boundary), headers={**self._headers, "Content-Type": kind},
                timeout=(CONNECT_S, READ_S), allow_redirects=False, verify=self._ca,
            )  # fmt: skip
        except requests.exceptions.SSLError as error:
            return Answer(False, False, f"TLS: {error}")
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
            return Answer(False, False, str(error))
        except requests.exceptions.RequestException as error:
            return Answer(False, True, f"no connection ({type(error).__name__})")
        return _judge(response)


def _judge(response: requests.Response) -> Answer:
    status = response.status_code
    named = f"HTTP {status} {response.reason or ''}".rstrip()
    reasons, warnings, stored = _parse(response)
    if reasons:
        text = "; ".join(_reason(code) for code in reasons)
        return Answer(False, all(code & 0xFF00 == 0xA700 for code in reasons), f"{named}: {text}")
    if status in (200, 201, 202) and (stored or status != 202):
        return Answer(True, False, "; ".join(_warning(code) for code in warnings))
    if 300 <= status < 400:
        return Answer(False, False, f"{named}: it has moved to {response.headers.get('Location', 'elsewhere')}")
    said = _STATUS.get(status, "")
    return Answer(False, status in _AGAIN, f"{named}: {said}" if said else named)


def _parse(response: requests.Response) -> tuple[list[int], list[int], bool]:
    """The codes of failures, those of warnings, and whether an instance is named as stored (PS3.18, 10.5.3)."""
    try:
        found = Dataset.from_json(response.json())
    except Exception:  # whatever a server sends instead of the answer that was asked for
        return [], [], False
    failed = [int(item.get("FailureReason") or 0x0110) for item in found.get("FailedSOPSequence") or []]
    stored = list(found.get("ReferencedSOPSequence") or [])
    return failed, [int(item.WarningReason) for item in stored if item.get("WarningReason")], bool(stored)


def _reason(code: int) -> str:
    said = next((text for value, mask, text in _REASONS if code & mask == value), "refused")
    return f"{said} (0x{code:04X})"


def _warning(code: int) -> str:
    return f"{_WARNINGS.get(code, 'accepted with a warning')} (0x{code:04X})"
