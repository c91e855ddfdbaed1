"""A page in a headless browser to evaluate JavaScript in: Chromium by Playwright, Firefox by WebDriver BiDi."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol

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


class Page(Protocol):
    """`evaluate` runs the body of an async function with one `argument` and returns its result, by way of JSON."""

    def evaluate(self, body: str, argument: Any = None) -> Any: ...


class ChromiumPage:
    def __init__(self, page: Any) -> None:
        self._page = page

    def evaluate(self, body: str, argument: Any = None) -> Any:
        return self._page.evaluate(f"async (argument) => {{ {body} }}", argument)


class FirefoxPage:
    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop = loop
        self._socket = socket
        self._last = 0
        self.context = ""

    def evaluate(self, body: str, argument: Any = None) -> Any:
        call = f"(async (argument) => {{ {body} }})({json.dumps(argument)}).then(r => JSON.stringify(r ?? null))"
        target = {"context": self.context}
        result = self.run(self.command("script.evaluate", expression=call, target=target, awaitPromise=True))
        if result["type"] != "success":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return json.loads(result["result"]["value"])

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(work, TIMEOUT_S))

    async def command(self, method: str, **params: Any) -> Any:
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": params})
        while True:
            message = json.loads(await self._socket.receive_str())
            if message.get("id") == self._last:
                if message["type"] == "error":
                    raise RuntimeError(f"{method}: {message['message']}")
                return message["result"]


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
def firefox(url: str = "about:blank") -> Iterator[Page]:
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
            with asyncio.Runner() as runner:
                yield from _firefox_page(runner, address, url)
        finally:
            process.terminate()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


def _firefox_page(runner: asyncio.Runner, address: str, url: str) -> Iterator[Page]:
    async def connect() -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
        session = aiohttp.ClientSession()
        return session, await session.ws_connect(f"{address}/session", max_msg_size=0)

    session, socket = runner.run(connect())
    try:
        page = FirefoxPage(runner.get_loop(), socket)
        page.run(page.command("session.new", capabilities={}))
        page.context = page.run(page.command("browsingContext.getTree"))["contexts"][0]["context"]
        page.run(page.command("browsingContext.navigate", context=page.context, url=url, wait="complete"))
        yield page
    finally:
        runner.run(socket.close())
        runner.run(session.close())
