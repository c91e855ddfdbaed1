"""A page in a headless browser to evaluate JavaScript in: Chromium by Playwright, Firefox by WebDriver BiDi."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp

CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream=fps=30",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
)
FIREFOX_PREFERENCES = {
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.autoplay.default": 0,
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    "media.peerconnection.ice.loopback": True,
    "network.captive-portal-service.enabled": False,
    "permissions.default.camera": 1,
    "permissions.default.microphone": 1,
    "remote.active-protocols": 1,
    "toolkit.telemetry.enabled": False,
}
TIMEOUT_S = 30

T = TypeVar("T")


class Page(Protocol):
    """`evaluate` runs the body of an async function with one `argument` and returns its result, by way of JSON."""

    def evaluate(self, body: str, argument: Any = None) -> Any: ...


class ChromiumPage:
    def __init__(self, page: Any) -> None:
        self._page = page

    def evaluate(self, body: str, argument: Any = None) -> Any:
        return self._page.evaluate(f"async (argument) => {{ {body} }}", argument)


class LoopThread:
    """An event loop in a thread of its own, for synchronous tests; Playwright keeps the main thread's."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-loop")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = TIMEOUT_S) -> T:
        """Waits for the coroutine's result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def close(self) -> None:
        async def cancel_rest() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            await self._loop.shutdown_asyncgens()

        self.run(cancel_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class FirefoxPage:
    """A tab driven by WebDriver BiDi. `errors` gathers what the page's console and its exceptions say."""

    def __init__(self, loop: LoopThread, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop = loop
        self._socket = socket
        self._last = 0
        self.context = ""
        self.errors: list[str] = []

    def evaluate(self, body: str, argument: Any = None) -> Any:
        call = f"(async (argument) => {{ {body} }})({json.dumps(argument)}).then(r => JSON.stringify(r ?? null))"
        target = {"context": self.context}
        result = self.call("script.evaluate", expression=call, target=target, awaitPromise=True)
        if result["type"] != "success":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return json.loads(result["result"]["value"])

    def goto(self, url: str) -> None:
        self.call("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("browsingContext.captureScreenshot", context=self.context)["data"])

    def call(self, method: str, **params: Any) -> Any:
        return self._loop.run(self._command(method, **params))

    async def _command(self, method: str, **params: Any) -> Any:
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": params})
        while True:
            message = json.loads(await self._socket.receive_str())
            if message.get("id") == self._last:
                if message["type"] == "error":
                    raise RuntimeError(f"{method}: {message['message']}")
                return message["result"]
            if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                self.errors.append(str(message["params"]["text"]))


@contextlib.contextmanager
def chromium(url: str = "about:blank") -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(CHROMIUM_FLAGS))
        try:
            page = browser.new_page()
            page.goto(url)
            yield ChromiumPage(page)
        finally:
            browser.close()


@contextlib.contextmanager
def firefox(url: str = "about:blank") -> Iterator[FirefoxPage]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in FIREFOX_PREFERENCES.items()]
        Path(profile, "user.js").write_text("\n".join(lines))
        process = subprocess.Popen(
            ["firefox-esr", "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "HOME": profile},
        )
        try:
            assert process.stderr is not None
            address = next(line.split()[-1] for line in process.stderr if "BiDi listening on" in line)
            loop = LoopThread()
            try:
                yield from _firefox_page(loop, address, url)
            finally:
                loop.close()
        finally:
            process.terminate()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


def _firefox_page(loop: LoopThread, address: str, url: str) -> Iterator[FirefoxPage]:
    async def connect() -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
        session = aiohttp.ClientSession()
        return session, await session.ws_connect(f"{address}/session", max_msg_size=0)

    session, socket = loop.run(connect())
    try:
        page = FirefoxPage(loop, socket)
        page.call("session.new", capabilities={})
        page.call("session.subscribe", events=["log.entryAdded"])
        page.context = page.call("browsingContext.getTree")["contexts"][0]["context"]
        page.goto(url)
        yield page
    finally:
        loop.run(socket.close())
        loop.run(session.close())
