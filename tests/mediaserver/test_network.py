"""Where the server says it is reached, and what it tells of TURN."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mediaserver.clock import Clock
from mediaserver.config import ConfigError, load
from mediaserver.net import StartError
from mediaserver.reach import open_worker
from mediaserver.relays import IceServers
from mediaserver.settings import IceServerSettings, MediaSettings
from mediaserver.sfu.session.ice import candidate_lines
from mediaserver.sfu.wire.sdp import parse_candidate

NOW = 1_800_000_000.0
LOOPBACK = "127.0.0.1"


class Stopped(Clock):
    def wall(self) -> float:
        return NOW


def test_credentials_from_a_secret_are_good_for_a_while() -> None:
    servers = (
        IceServerSettings(urls=["turn:t.example"], secret="shared", ttl_seconds=600),
        IceServerSettings(urls=["turn:u.example"], username="u", credential="c"),
        IceServerSettings(urls=["stun:s.example"]),
    )
    made, fixed, bare = IceServers(servers, Stopped()).for_client("p-1")
    assert made.username == "1800000600:p-1"
    digest = hmac.new(b"shared", made.username.encode(), hashlib.sha1).digest()
    assert base64.b64decode(made.credential) == digest
    assert (fixed.username, fixed.credential) == ("u", "c")
    assert (bare.username, bare.credential) == ("", "")
    assert "shared" not in msgspec.json.encode([made, fixed, bare]).decode()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ('{ urls = ["turn:t"], secret = "s", username = "u" }', "not both"),
        ('{ urls = ["http://t"] }', "turn:HOST"),
        ('{ urls = ["turn:t"], secret = "s", ttl_seconds = 1 }', "ttl_seconds"),
    ],
)
def test_bad_ice_servers_are_told(tmp_path: Path, entry: str, says: str) -> None:
    (tmp_path / "c.toml").write_text(f"[signalling]\nice_servers = [{entry}]\n")
    with pytest.raises(ConfigError, match=says):
        load(tmp_path / "c.toml", {})


def test_tcp_candidates_come_after_all_others() -> None:
    at = [(LOOPBACK, 7000), ("2001:db8::1", 7000)]
    found = [parse_candidate(line) for line in candidate_lines(at, at)]
    assert [(one.transport, one.address) for one in found] == [
        (transport, address) for transport in ("udp", "tcp") for address, _ in at
    ]
    priorities = [one.priority for one in found]
    assert priorities == sorted(priorities, reverse=True)
    assert len(set(priorities)) == len({one.foundation for one in found}) == 4
    assert all(line.endswith("tcptype passive") for line in candidate_lines(at, at)[2:])


@pytest.mark.parametrize(("tcp", "same"), [("same", True), ("off", None), (f"{LOOPBACK}:0", True)])
def test_tcp_is_at_the_number_of_udp(tcp: str, same: bool | None) -> None:
    worker = open_worker(MediaSettings(udp=f"{LOOPBACK}:0", tcp=tcp), 0)
    assert worker.tcp_port == (worker.port if same else None)
    worker.stop()


def test_a_busy_tcp_port_is_told_with_its_flag() -> None:
    taken = open_worker(MediaSettings(udp=f"{LOOPBACK}:0"), 0)
    with pytest.raises(StartError, match=rf"TCP port {LOOPBACK}:{taken.tcp_port} is in use.*--tcp ADDR:PORT"):
        open_worker(MediaSettings(udp=f"{LOOPBACK}:0", tcp=f"{LOOPBACK}:{taken.tcp_port}"), 0)
    taken.stop()


FOLLOWS = """
import asyncio, subprocess, sys
from pathlib import Path
from mediaserver.config import load
from mediaserver.server import MediaServer
from mediaserver.settings import Config, DataSettings, HttpSettings, MediaSettings

async def main():
    settings = Config(
        http=HttpSettings(address="127.0.0.1:0"), media=MediaSettings(udp=":0", workers=1),
        data=DataSettings(dir=sys.argv[1]),
    )
    async with MediaServer(settings) as server:
        [slot] = server.rooms.workers
        def known():
            return {ip for ip, _ in slot.settings.candidates}, {ip for ip, _ in slot.settings.tcp_candidates}
        for change in ("add", "del"):
            subprocess.run(["ip", "address", change, "198.51.100.77/32", "dev", "lo"], check=True)
            async with asyncio.timeout(10):
                while any(("198.51.100.77" in ips) != (change == "add") for ips in known()):
                    await asyncio.sleep(0.01)
        print("followed")

asyncio.run(main())
"""


def test_an_address_that_comes_or_goes_is_in_the_next_answer(tmp_path: Path) -> None:
    """In a network namespace of its own, whose loopback gets another address while the server runs."""
    inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        subprocess.run([*inside, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no network namespace can be made here")
    done = subprocess.run(
        [*inside, sys.executable, "-c", FOLLOWS, str(tmp_path)], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout.splitlines()[-1:] == ["followed"], done.stderr
