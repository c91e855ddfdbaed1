"""The real server as a process, and real browsers against it. A page that says an error fails its test."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mediaserver.auth import mint
from mediaserver.sfu.session.model import Right, Role
from tests.browser.drivers import CHROMIUM_FLAGS, LoopThread

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

SECRET = "a-secret-of-the-browser-tests-0123456789"
PATIENCE = float(os.environ.get("BROWSER_TESTS_PATIENCE") or max(3.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
"""How many times slower than the budgets this machine may be: the browsers share its cores, and so may others."""
SHOTS = os.environ.get("BROWSER_TESTS_SHOTS", "")
"""A folder in which the tests leave screenshots, when set."""


class Server:
    """`mediaserver serve` as a process; `base` is its address, `log` what it has said so far."""

    def __init__(self, data: Path, *flags: str, http: str = "127.0.0.1:0", udp: str = ":0") -> None:
        command = [sys.executable, "-m", "mediaserver", "serve", "--http", http, "--udp", udp, "--data", str(data)]
        self.process = subprocess.Popen(
            [*command, "--secret", SECRET, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
        )
        self.log: list[str] = []
        self.base = self._read_address()
        self._reader = threading.Thread(target=self._drain)
        self._reader.start()

    def _read_address(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            if found := re.search(r"https?://[^\s/\"']+:\d+", line):
                return found.group()
        self.process.wait()
        self.process.stdout.close()
        raise RuntimeError("the server did not start:\n" + "".join(self.log))

    def _drain(self) -> None:
        assert self.process.stdout is not None
        self.log.extend(self.process.stdout)

    def token(self, room: str, role: str = "doctor", *rights: str, name: str = "", now: float | None = None) -> str:
        import time

        granted = [Right(right) for right in rights] or None
        moment = time.time() if now is None else now
        return mint(SECRET, room=room, role=Role(role), now=moment, rights=granted, name=name)

    def address(self, page: str, room: str, role: str = "doctor", *rights: str, name: str = "") -> str:
        """The address of a page with a room and a token of that role."""
        return f"{self.base}/{page}?room={room}#token={self.token(room, role, *rights, name=name)}"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("data"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver


def launch(playwright: Playwright, *flags: str) -> Browser:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    return playwright.chromium.launch(executable_path=path, args=[*CHROMIUM_FLAGS, *flags])


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    running = launch(playwright)
    yield running
    running.close()


class Pages:
    """Opens pages, each in a context of its own, and gathers what goes wrong in them."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[Any] = []
        self.errors: list[str] = []
        self.expected = ""
        """What an error may say without failing the test: what no page can keep the browser from saying."""

    def open(self, url: str, *, script: str = "", width: int = 1440, height: int = 860, **options: Any) -> Page:
        context = self._browser.new_context(viewport={"width": width, "height": height}, **options)
        self._contexts.append(context)
        page = context.new_page()
        name = url.split("#")[0].rsplit("/", 1)[-1]
        page.on("console", lambda message: self._note(name, message.type, message.text))
        page.on("pageerror", lambda error: self._note(name, "error", str(error)))
        if script:
            page.add_init_script(script)
        page.goto(url)
        return page

    def _note(self, name: str, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not (self.expected and self.expected in text):
            self.errors.append(f"{name}: {text}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    opened = Pages(browser)
    yield opened
    opened.close()
    assert opened.errors == []


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    running = LoopThread()
    yield running
    running.close()


@pytest.fixture
def figures(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Keeps measured figures: in the test report, and on the terminal with `-s`."""

    def keep(**values: object) -> None:
        for name, value in values.items():
            record_property(name, value)
        print(f"\n{request.node.name}: {json.dumps(values, default=str)}")

    return keep


def shot(page: Page, name: str) -> None:
    """Leaves a screenshot where one is wanted."""
    if SHOTS:
        with contextlib.suppress(OSError):
            page.screenshot(path=str(Path(SHOTS, f"{name}.png")))
