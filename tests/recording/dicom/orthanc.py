"""A real PACS: Debian's Orthanc with its DICOMweb plugin, with everything of its own in one folder."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TITLE, CALLING = "ORTHANC", "MEDIASERVER"
USER, PASSWORD = "archive", "secret"
START_S = 60


def missing() -> str:
    """Why there is none; empty when there is."""
    if shutil.which("Orthanc") is None or not PLUGIN.exists():
        return "Orthanc with DICOMweb is not installed (packages orthanc, orthanc-dicomweb)"
    return ""


class Orthanc:
    """Answers on the loopback alone: it listens on every address, but talks to no other."""

    def __init__(self, folder: Path) -> None:
        self.port, self.dicom_port = _free(), _free()
        self.authorization = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self.base = f"http://127.0.0.1:{self.port}"
        self.web = f"{self.base}/dicom-web"
        modality = {"AET": CALLING, "Host": "127.0.0.1", "Port": 1, "AllowStore": True}
        (folder / "orthanc.json").write_text(json.dumps({
            "Name": "test", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
            "HttpPort": self.port, "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True, "RegisteredUsers": {USER: PASSWORD},
            "DicomPort": self.dicom_port, "DicomAet": TITLE, "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": False, "DicomAlwaysAllowEcho": False, "DicomCheckModalityHost": True,
            "DicomModalities": {"mediaserver": modality},
            "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }))  # fmt: skip
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=self._log, stderr=self._log)
        try:
            self._wait(folder)
        except BaseException:
            self.stop()
            raise

    def get(self, path: str) -> Any:
        """An answer of its own REST API: parsed when it is JSON, else bytes."""
        request = urllib.request.Request(f"{self.base}{path}", headers={"Authorization": self.authorization})
        with urllib.request.urlopen(request, timeout=30) as response:
            data = response.read()
            return json.loads(data) if "json" in response.headers["Content-Type"] else data

    def instances(self) -> dict[str, str]:
        """Its own ids by SOP Instance UID."""
        return {self.get(f"/instances/{one}")["MainDicomTags"]["SOPInstanceUID"]: one for one in self.get("/instances")}

    def file(self, uid: str) -> bytes:
        found: bytes = self.get(f"/instances/{self.instances()[uid]}/file")
        return found

    def clear(self) -> None:
        for one in self.get("/patients"):
            request = urllib.request.Request(f"{self.base}/patients/{one}", method="DELETE")
            request.add_header("Authorization", self.authorization)
            urllib.request.urlopen(request, timeout=30).close()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def _wait(self, folder: Path) -> None:
        for _ in range(START_S * 10):
            if self.process.poll() is not None:
                break
            try:
                self.get("/system")
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"Orthanc did not start:\n{(folder / 'log').read_text()[-4000:]}")


def _free() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
