"""A real S3 server for tests: Ceph's RadosGW with one monitor and one OSD in memory, on loopback, in a folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool")
ACCESS_KEY = "archive"
SECRET_KEY = "archive-secret"
READY_SECONDS = 60.0

CONFIG = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon}
mon data avail warn = 0
mon data avail crit = 0
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms bind ipv6 = false
ms bind ipv4 = true
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
log file = {folder}/log/$name.log
pid file = {folder}/run/$name.pid
crash dir = {folder}/crash
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush initial weight = 1
mon allow pool size one = true
mon max pg per osd = 5000
mon warn on pool no redundancy = false
osd objectstore = memstore
memstore device bytes = 2147483648
osd data = {folder}/osd
osd journal = {folder}/osd/journal
osd class load list = *
osd class default list = *
mon data = {folder}/mon
mon cluster log file = {folder}/log/cluster.log
mgr initial modules =
keyring = {folder}/keyring
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{rgw}
rgw thread pool size = 32
rgw enable usage log = false
rgw run sync thread = false
rgw enable quota threads = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw bucket default quota max objects = -1
rgw override bucket index max shards = 1
rgw lc max objs = 1
rgw gc max objs = 1
rgw data log num shards = 1
rgw reshard num logs = 1

[osd]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
"""


def missing() -> list[str]:
    """The programs that are not installed here."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RadosGateway:
    """The server; `close` ends its three processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._port = free_port()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        for name in ("run", "log", "crash", "osd", "mon", "rgw"):
            (folder / name).mkdir(parents=True)
        fsid = str(uuid.uuid4())
        monitor = free_port()
        (folder / "ceph.conf").write_text(CONFIG.format(fsid=fsid, folder=folder, mon=monitor, rgw=self._port))
        try:
            self._start(fsid, monitor)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for process in reversed(self._processes):
            process.kill()
        for process in self._processes:
            process.wait()

    def stop(self) -> None:
        """The gateway alone stops; its data stays."""
        process = self._processes.pop()
        process.kill()
        process.wait()

    def start(self) -> None:
        """The gateway, on the port that it had."""
        self._spawn("radosgw", "-n", "client.rgw", "--no-mon-config")
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"radosgw did not come up; see {self.folder}/log")

    def _start(self, fsid: str, monitor: int) -> None:
        folder = self.folder
        monmap = str(folder / "monmap")
        self._run(
            "monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{monitor}]", monmap
        )
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._spawn("ceph-mon", "-i", "a")
        disk = str(uuid.uuid4())
        self._run("ceph", "osd", "new", disk)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._spawn("ceph-osd", "-i", "0")
        self._wait_for_osd()
        keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
        self._run("radosgw-admin", "user", "create", "--uid", "archive", "--display-name", "archive", *keys)
        self.start()

    def _wait_for_osd(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if json.loads(self._run("ceph", "osd", "stat", "--format", "json"))["num_up_osds"]:
                return
            time.sleep(0.1)
        raise RuntimeError(f"ceph-osd did not come up; see {self.folder}/log")

    def _command(self, arguments: Sequence[str]) -> list[str]:
        program, *rest = arguments
        extra = [] if program == "monmaptool" else ["-c", str(self.folder / "ceph.conf")]
        return [program, *extra, *rest]

    def _spawn(self, *arguments: str) -> None:
        with (self.folder / "log" / f"{arguments[0]}.out").open("ab") as out:
            command = [*self._command(arguments), "-f"]
            self._processes.append(subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder))

    def _run(self, *arguments: str) -> bytes:
        done = subprocess.run(
            self._command(arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=READY_SECONDS,
            cwd=self.folder,
            env=os.environ | {"CEPH_ARGS": ""},
        )
        if done.returncode:
            raise RuntimeError(f"{arguments[0]} failed: {done.stderr.decode(errors='replace')[-2000:]}")
        return done.stdout
