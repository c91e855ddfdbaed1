"""What a PACS may answer: each status has its words, what can help is tried again, nothing is lost on the way."""

from __future__ import annotations

import gc
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UltrasoundMultiFrameImageStorage
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from mediaserver.recording.export.dicom.coding import H264_41, H264_42
from mediaserver.recording.export.dicom.cstore import CStoreReceiver
from mediaserver.recording.export.dicom.send import ATTEMPTS, Answer, Refused, Unreachable, send
from mediaserver.recording.export.dicom.stow import StowReceiver
from mediaserver.recording.export.progress import ExportError


@pytest.fixture
def objects(tmp_path: Path) -> list[Path]:
    """Two small objects, the second with another transfer syntax."""
    paths = []
    for number, syntax in enumerate((H264_41, H264_42)):
        found = Dataset()
        found.SOPClassUID = UltrasoundMultiFrameImageStorage
        found.SOPInstanceUID = f"2.25.{number + 1}"
        found.EncapsulatedDocument = b"x" * 50_000
        found.file_meta = FileMetaDataset()
        found.file_meta.TransferSyntaxUID = syntax
        paths.append(tmp_path / f"{number}.dcm")
        pydicom.dcmwrite(paths[-1], found, enforce_file_format=True)
    return paths


class Scripted:
    """Answers from a list."""

    name = "scripted"

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.opened = 0

    def open(self, paths: Sequence[Path]) -> None:
        self.opened += 1
        if isinstance(self.answers[0], Exception):
            raise self.answers.pop(0)  # type: ignore[misc]

    def store(self, path: Path) -> Answer:
        answer = self.answers.pop(0)
        assert isinstance(answer, Answer)
        return answer

    def close(self) -> None:
        pass


GOOD, BUSY, BAD = Answer(True, False, ""), Answer(False, True, "busy"), Answer(False, False, "bad")


def test_only_what_can_get_better_is_tried_again() -> None:
    paths = [Path("a"), Path("b"), Path("c")]
    slept: list[float] = []
    told: list[float] = []
    receiver = Scripted(Unreachable("down"), BUSY, BAD, GOOD, BUSY, GOOD)
    outcome = send(paths, receiver, told.append, slept.append)
    assert outcome.accepted == [Path("c"), Path("a")]
    assert outcome.refused == [(Path("b"), "bad")]
    assert slept == [1, 2, 4]
    assert told[-1] == pytest.approx(2 / 3)


def test_it_gives_up_and_says_why() -> None:
    outcome = send([Path("a")], Scripted(*[Unreachable("down")] * ATTEMPTS), sleep=lambda seconds: None)
    assert outcome.refused == [(Path("a"), f"down; {ATTEMPTS} tries")]
    receiver = Scripted(Refused("never"))
    assert send([Path("a"), Path("b")], receiver).refused == [(Path("a"), "never"), (Path("b"), "never")]
    assert receiver.opened == 1


class Server:
    """Answers every POST as it is told; keeps what came."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.bodies: list[bytes] = []
        self.headers: list[Any] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.headers.append(self.headers)
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, body = outer.answers.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/rs/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def answer(stored: int = 0, failed: Sequence[int] = (), warning: int = 0) -> bytes:
    """The body of STOW-RS, in JSON."""
    item = {"00081155": {"vr": "UI", "Value": ["2.25.1"]}}
    warned = {**item, "00081196": {"vr": "US", "Value": [warning]}} if warning else item
    body: dict[str, Any] = {}
    if stored:
        body["00081199"] = {"vr": "SQ", "Value": [warned] * stored}
    if failed:
        body["00081198"] = {
            "vr": "SQ",
            "Value": [{**item, "00081197": {"vr": "US", "Value": [code]}} for code in failed],
        }
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("status", "body", "accepted", "again", "words"),
    [
        (200, answer(1), True, False, ""),
        (200, b"not JSON", True, False, ""),
        (202, answer(1, warning=0xB000), True, False, r"it changed attributes \(0xB000\)"),
        (202, b"", False, False, "HTTP 202"),
        (202, answer(failed=[0xC000]), False, False, r"can't understand the object \(0xC000\)"),
        (409, answer(failed=[0x0122]), False, False, r"doesn't take this SOP class \(0x0122\)"),
        (409, answer(failed=[0xC122]), False, False, r"doesn't take this transfer syntax \(0xC122\)"),
        (409, answer(failed=[0xA700]), False, True, r"out of resources \(0xA700\)"),
        (409, answer(failed=[0xA900]), False, False, "does not match its SOP class"),
        (409, answer(failed=[0x0110]), False, False, "processing failed"),
        (409, b"", False, False, "it took none of the instances"),
        (400, b"", False, False, "can't read the request"),
        (401, b"", False, False, r"wants credentials \(--auth\)"),
        (403, b"", False, False, "may not store"),
        (404, b"", False, False, "no STOW-RS at this address"),
        (413, b"", False, False, "larger than it allows"),
        (415, b"", False, False, "media type or transfer syntax"),
        (500, b"", False, True, "HTTP 500"),
        (503, b"", False, True, "out of resources"),
        (302, b"", False, False, "it has moved to /there"),
    ],
)
def test_stow_statuses(
    server: Server, objects: list[Path], status: int, body: bytes, accepted: bool, again: bool, words: str
) -> None:
    import re

    server.answers.append((status, {"Location": "/there"} if status == 302 else {}, body))
    receiver = StowReceiver(server.url, "Bearer x")
    receiver.open(objects)
    said = receiver.store(objects[0])
    receiver.close()
    assert (said.accepted, said.again) == (accepted, again)
    assert re.search(words, said.text)
    assert server.headers[0]["Authorization"] == "Bearer x"
    assert objects[0].read_bytes() in server.bodies[0]
    boundary = server.headers[0].get_param("boundary")
    assert server.bodies[0].startswith(f"--{boundary}\r\n".encode())
    assert server.bodies[0].endswith(f"\r\n--{boundary}--\r\n".encode())


def test_stow_without_a_server(objects: list[Path]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    receiver = StowReceiver(url)
    receiver.open(objects)
    assert receiver.store(objects[0]) == Answer(False, True, "no connection (ConnectionError)")
    receiver.close()
    receiver = StowReceiver("nonsense")
    receiver.open(objects)
    assert not receiver.store(objects[0]).again
    receiver.close()


@pytest.fixture
def provider() -> Iterator[Callable[..., CStoreReceiver]]:
    """Starts a storage provider with these statuses and transfer syntaxes."""
    running = []

    def start(
        statuses: list[int | None], syntaxes: Sequence[str] = (H264_41, H264_42), **options: Any
    ) -> CStoreReceiver:
        def handle(event: evt.Event) -> int:
            status = statuses.pop(0)
            if status is None:
                event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
                return 0xC000
            return status

        entity = AE(ae_title="PACS")
        for name, value in options.items():
            setattr(entity, name, value)
        contexts = [build_context(UltrasoundMultiFrameImageStorage, list(syntaxes))]
        made = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)], contexts=contexts
        )
        running.append(made)
        return CStoreReceiver("127.0.0.1", made.server_address[1], "PACS")  # type: ignore[union-attr]

    yield start
    for made in running:
        made.shutdown()


def test_c_store_statuses(provider: Callable[..., CStoreReceiver], objects: list[Path]) -> None:
    receiver = provider([0xA700, 0xC000, 0xB000])
    outcome = send(objects, receiver, sleep=lambda seconds: None)
    assert outcome.accepted == [objects[0]]
    assert [text for _, text in outcome.warnings] == ["0xB000 Coercion of Data Elements"]
    ((path, text),) = outcome.refused
    assert path == objects[1]
    assert text.startswith("0xC000 ")


def test_c_store_tries_again_after_an_abort(provider: Callable[..., CStoreReceiver], objects: list[Path]) -> None:
    outcome = send(objects, provider([None, 0, 0]), sleep=lambda seconds: None)
    assert sorted(outcome.accepted) == objects
    assert outcome.refused == []


def test_c_store_without_the_transfer_syntax(provider: Callable[..., CStoreReceiver], objects: list[Path]) -> None:
    outcome = send(objects, provider([0], [H264_41]))
    assert outcome.accepted == [objects[0]]
    ((_, text),) = outcome.refused
    assert text == (
        f"it doesn't take Ultrasound Multi-frame Image Storage as H.264 High Profile / Level 4.2 ({H264_42})"
    )


# pynetdicom leaves the sockets of refused connections to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_c_store_to_somebody_else(provider: Callable[..., CStoreReceiver], objects: list[Path]) -> None:
    receiver = provider([], require_called_aet=True)
    other = CStoreReceiver("127.0.0.1", receiver._address[1], "OTHER")
    outcome = send(objects, other)
    assert all("Called AE title not recognised" in text for _, text in outcome.refused)
    nowhere = CStoreReceiver("127.0.0.1", 1, "PACS")
    outcome = send(objects, nowhere, sleep=lambda seconds: None)
    assert [text for _, text in outcome.refused] == [f"PACS at 127.0.0.1:1 does not answer; {ATTEMPTS} tries"] * 2
    del outcome, nowhere, other, receiver
    gc.collect()


def test_addresses() -> None:
    assert CStoreReceiver.parse("[::1]:104:A PACS")._address == ("::1", 104, "A PACS")
    for wrong in ("host:104", "host:0:X", "host:99999:X", "host:104:" + "x" * 17, ""):
        with pytest.raises(ExportError, match="a receiver is host:port:AE-title"):
            CStoreReceiver.parse(wrong)
