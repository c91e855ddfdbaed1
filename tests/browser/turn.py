"""coturn on the loopback, configured as docs/network.md says."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SECRET = "what-the-turn-server-and-ours-share"
REALM = "clinic.example"


class Turn(NamedTuple):
    """Where it listens: for UDP and TCP, and for TLS when it has a certificate (0: it has none)."""

    port: int
    tls_port: int

    def config(self, *urls: str) -> str:
        """The server's configuration with these URLs, each as a server; PORT and TLS stand for the ports."""
        named = (url.replace("PORT", str(self.port)).replace("TLS", str(self.tls_port)) for url in urls)
        servers = (f'{{ urls = ["{url}"], secret = "{SECRET}" }}' for url in named)
        return f"[signalling]\nice_servers = [{', '.join(servers)}]\n"


def free_port() -> int:
    """A number that is free for UDP and TCP at the moment."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        port: int = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        return port


@contextlib.contextmanager
def turn_server(certificate: Path | None = None, key: Path | None = None) -> Iterator[Turn]:
    """A coturn that asks for credentials made from `SECRET`. Skips the test where coturn is not installed."""
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("coturn is not installed")
    with tempfile.TemporaryDirectory() as folder:
        where = Turn(free_port(), free_port() if certificate else 0)
        lines = [
            "listening-ip=127.0.0.1",
            "relay-ip=127.0.0.1",
            f"listening-port={where.port}",
            "use-auth-secret",
            f"static-auth-secret={SECRET}",
            f"realm={REALM}",
            "fingerprint",
            "no-cli",
            "no-tcp-relay",
            "no-multicast-peers",
            "allow-loopback-peers",  # the media server is on this machine; never elsewhere
            "simple-log",
            f"log-file={folder}/turn.log",
            f"pidfile={folder}/turn.pid",
            *(
                [f"tls-listening-port={where.tls_port}", f"cert={certificate}", f"pkey={key}"]
                if certificate
                else ["no-tls"]
            ),
            "no-dtls",
        ]
        Path(folder, "turn.conf").write_text("\n".join(lines) + "\n")
        process = subprocess.Popen(
            [program, "-c", f"{folder}/turn.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
        )
        try:
            wait_for_port(process, where.port, Path(folder, "turn.log"))
            yield where
        finally:
            process.terminate()
            process.wait()


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(0.02)
            raise RuntimeError(f"coturn ended with {code}: {log.read_text() if log.exists() else ''}")
