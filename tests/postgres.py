"""A PostgreSQL of our own: a private cluster in a temporary folder, reached by its socket alone."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

READY_SECONDS = 30
SETTINGS = ("listen_addresses=", "fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=40")


def find(program: str) -> str | None:
    """A program of PostgreSQL: Debian keeps those of the server out of the path."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return shutil.which(program, path=os.pathsep.join(map(str, versions))) or shutil.which(program)


def missing() -> str:
    """Why there can be no cluster here; empty when there can."""
    absent = [program for program in ("initdb", "postgres", "psql") if find(program) is None]
    if absent:
        return f"PostgreSQL is not installed ({', '.join(absent)} not found): apt-get install postgresql"
    if os.geteuid() == 0 and _owner() is None:
        return 'PostgreSQL refuses to run as root, and there is no user "postgres" here'
    return ""


class Cluster:
    """Started when made. `stop` and `start` as often as a test likes; `remove` at the end."""

    def __init__(self, settings: tuple[str, ...] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._settings = SETTINGS + settings
        self._server: subprocess.Popen[bytes] | None = None
        self._databases = 0
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        self.folder.chmod(0o755)
        self._run(
            "initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D", self._data
        )
        self.start()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def start(self) -> None:
        """Raises TimeoutError when it does not answer."""
        options = [word for setting in self._settings for word in ("-c", setting)]
        command = [str(find("postgres")), "-D", self._data, "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **_as_owner())
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._server.poll() is None:
            if self._psql("SELECT 1").returncode == 0:
                return
            time.sleep(0.05)
        raise TimeoutError((self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        """Break all connections and end."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(READY_SECONDS)
            self._server = None

    def remove(self) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(READY_SECONDS)
        shutil.rmtree(self.folder)

    def database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        done = self._psql(f"CREATE DATABASE {name}")
        assert done.returncode == 0, done.stderr
        return f"postgresql+asyncpg://postgres@/{name}?host={self.folder}"

    def _psql(self, statement: str) -> subprocess.CompletedProcess[str]:
        command = [str(find("psql")), "-X", "-q", "-h", str(self.folder), "-U", "postgres", "-c", statement]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(find(program)), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **_as_owner())
        assert done.returncode == 0, done.stderr


def _owner() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


def _as_owner() -> dict[str, object]:
    """How a process becomes another user's, where we are root."""
    owner = _owner() if os.geteuid() == 0 else None
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}
