"""How long a picture stands still when its viewer changes networks: `python -m tests.browser.switch [--tcp]` (as root).

Chromium runs in a network namespace with two lines to the server, as a notebook with a cable and Wi-Fi. The one in use
goes down, and later comes up again while the other goes. Times are between two pictures on the screen. With `--tcp` it
may send no UDP.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser import consultation as c
from tests.browser.conftest import Pages, Server, launch
from tests.browser.drivers import CHROMIUM_FLAGS
from tests.browser.test_network import NO_UDP, ROUTE, count, longest_stop, script, wait_for_picture

SERVER = "10.93.9.1"
LINES = ("10.93.1", "10.93.2")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def two_lines(name: str) -> Iterator[Callable[[int, bool], None]]:
    """A namespace with two lines, the first preferred. What is given takes one down or brings it up."""
    inside = ("-n", name)

    def switch(line: int, up: bool) -> None:
        ip(*inside, "link", "set", f"{name}-{line}i", "up" if up else "down")
        if up:
            ip(*inside, "route", "add", "default", "via", f"{LINES[line]}.1", "metric", str(100 + line))

    ip("netns", "add", name)
    try:
        ip(*inside, "link", "set", "lo", "up")
        ip("address", "add", f"{SERVER}/32", "dev", "lo")
        for line, net in enumerate(LINES):
            ours, theirs = f"{name}-{line}", f"{name}-{line}i"
            ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
            ip("address", "add", f"{net}.1/24", "dev", ours)
            ip("link", "set", ours, "up")
            ip(*inside, "address", "add", f"{net}.2/24", "dev", theirs)
            switch(line, True)
        yield switch
    finally:
        subprocess.run(["ip", "address", "del", f"{SERVER}/32", "dev", "lo"], check=False)
        for line in range(2):
            subprocess.run(["ip", "link", "del", f"{name}-{line}"], check=False)
        subprocess.run(["ip", "netns", "del", name], check=False)


def main(arguments: list[str]) -> None:
    tcp = "--tcp" in arguments
    name = f"ms{os.getpid() % 10000}"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver, two_lines(name) as switch:
        chromium = Path(folder, "chromium")
        chromium.write_text(f'#!/bin/sh\nexec ip netns exec {name} {shutil.which("chromium")} "$@"\n')
        chromium.chmod(chromium.stat().st_mode | stat.S_IXUSR)
        server = Server(Path(folder, "data"), "--workers", "1", "--announce", SERVER, http=f"{SERVER}:0", udp=":0")
        # Devices are given to secure pages alone, and this server has an address.
        near = launch(driver, f"--unsafely-treat-insecure-origin-as-secure={server.base}")
        away = driver.chromium.launch(executable_path=chromium, args=[*CHROMIUM_FLAGS, *([NO_UDP] if tcp else [])])
        carts, pages = Pages(near), Pages(away)
        try:
            c.start_cart(carts, server, "switch")
            viewer = pages.open(server.address("viewer", "switch"), script=script(protocol="tcp" if tcp else "udp"))
            print(json.dumps({"before": wait_for_picture(viewer)}), flush=True)
            for what, change in (
                ("the cable is pulled", lambda: switch(0, False)),
                ("the cable is back", lambda: switch(0, True)),
                ("Wi-Fi is gone", lambda: switch(1, False)),
            ):
                offers = count(server, "offers")
                stop = longest_stop(viewer, change)
                route = viewer.evaluate(ROUTE)
                figures = {"stop_ms": round(stop), "offers": count(server, "offers") - offers}
                print(json.dumps({"what": what} | figures | route), flush=True)
        finally:
            near.close()
            away.close()
            server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
