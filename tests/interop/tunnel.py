"""A network namespace whose only way out is a line of the laboratory: for browsers whose every packet is to take it.

    python -m tests.interop.tunnel --name clinic --line 2.5m

Two TUN devices, one here and one in the namespace, and this process between them. Whoever runs in the namespace
(`ip netns exec clinic ...`) has the address INSIDE and finds this machine at OUTSIDE. Takes the commands of
`tests.interop.relay`, and root.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.interop.relay import BATCH, Shaper, ShaperProcess, now_us, serve
from tests.interop.shape import Shape, find
from tests.sim.network import HEADERS

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
OUTSIDE, INSIDE = "10.73.29.1", "10.73.29.2"
MTU = 1500


def possible() -> bool:
    """Whether namespaces and TUN devices can be made here."""
    return os.geteuid() == 0 and shutil.which("ip") is not None and os.access("/dev/net/tun", os.R_OK | os.W_OK)


def open_tun(name: str) -> int:
    """A TUN device without packet information; it goes when its descriptor is closed. Raises `OSError`."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Tunnel(Shaper):
    """Passes IP packets between this machine and the namespace `name`."""

    def __init__(self, name: str, shape: Shape) -> None:
        super().__init__({name: shape})
        self._name = name
        self._shape = shape
        ip("netns", "add", name)
        self._outside = open_tun(f"{name}-out")
        self._inside = open_tun(f"{name}-in")
        ip("link", "set", f"{name}-in", "netns", name)
        ip("addr", "add", OUTSIDE, "peer", INSIDE, "dev", f"{name}-out")
        ip("link", "set", f"{name}-out", "up", "mtu", str(MTU))
        ip("-n", name, "addr", "add", INSIDE, "peer", OUTSIDE, "dev", f"{name}-in")
        ip("-n", name, "link", "set", f"{name}-in", "up", "mtu", str(MTU))
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "route", "add", "default", "dev", f"{name}-in")
        for fd in (self._outside, self._inside):
            self.watch(fd)

    def close(self) -> None:
        super().close()
        os.close(self._outside)
        os.close(self._inside)
        subprocess.run(["ip", "netns", "delete", self._name], check=False)

    def read(self, fd: int) -> None:
        up = fd == self._inside
        direction = self._shape.up if up else self._shape.down
        out = self._outside if up else self._inside
        for _ in range(BATCH):
            try:
                packet = os.read(fd, MTU + HEADERS)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:
                continue  # what IPv6 says of itself
            # The link counts headers by itself; here they are in the packet.
            self.offer(direction, now_us(), packet[HEADERS:], lambda _, packet=packet: os.write(out, packet))


@contextlib.contextmanager
def tunnelling(name: str, line: str, seed: int = 1) -> Iterator[ShaperProcess]:
    """A namespace behind that line. RuntimeError where it can't be made."""
    process = ShaperProcess("tests.interop.tunnel", "--name", name, "--line", line, "--seed", str(seed))
    try:
        yield process
    finally:
        process.close()


@contextlib.contextmanager
def inside(name: str, program: str) -> Iterator[Path]:
    """A script that runs a program in the namespace."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "inside")
        script.write_text(f'#!/bin/sh\nexec ip netns exec {name} {program} "$@"\n')
        script.chmod(0o755)
        yield script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="of the namespace, 11 letters at most")
    parser.add_argument("--line", required=True)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    serve(Tunnel(given.name, Shape(find(given.line), given.seed, now_us())))


if __name__ == "__main__":
    main()
