"""A time-stamping authority: `openssl ts -reply` behind a small HTTP server, with a root of its own."""

from __future__ import annotations

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

CONFIG = """
[ca]
distinguished_name = name
prompt = no
x509_extensions = ca_extensions
[name]
CN = Test root
[ca_extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[tsa_extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
authorityKeyIdentifier = keyid
[req]
distinguished_name = name
prompt = no
[tsa]
default_tsa = tsa_config
[tsa_config]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ordering = yes
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


class Authority:
    """`with Authority(folder) as authority:` it answers at `authority.url`, and refuses while `broken` says so."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.root = folder / "root.pem"
        self.broken = ""
        self.asked = 0
        self._port = port
        if not self.root.exists():
            self._make()

    def __enter__(self) -> Authority:
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                status, body = authority.answer(self.headers["Content-Type"], query)
                self.send_response(status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/tsa"

    def answer(self, kind: str, query: bytes) -> tuple[int, bytes]:
        """Of the authority, unless it is broken: refusing, talking nonsense, or answering another question."""
        self.asked += 1
        assert kind == "application/timestamp-query"
        if self.broken == "refuses":
            return 503, b""
        if self.broken == "nonsense":
            return 200, b"<html>"
        if self.broken == "other":
            query = self.openssl("ts", "-query", "-sha256", "-cert", "-digest", "00" * 32)
        (self.folder / "query").write_bytes(query)
        reply = ("ts", "-reply", "-config", str(self.folder / "config"), "-queryfile", str(self.folder / "query"))
        return 200, self.openssl(*reply)

    def openssl(self, *arguments: str) -> bytes:
        return subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self.folder).stdout

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "config"
        config.write_text(CONFIG.format(folder=self.folder))
        (self.folder / "serial").write_text("01\n")
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", str(config))
        root = ("-keyout", "root.key", "-out", "root.pem", "-days", "30", "-extensions", "ca_extensions")
        self.openssl("req", "-x509", *key, *root, "-subj", "/CN=Test root")
        self.openssl("req", "-new", *key, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=Test authority")
        signed = ("-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-out", "tsa.pem", "-days", "30")
        extensions = ("-extfile", str(config), "-extensions", "tsa_extensions")
        self.openssl("x509", "-req", "-in", "tsa.csr", *signed, *extensions)
