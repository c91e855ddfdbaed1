"""How long a viewer's page waits for its first picture by each way through the network: `python -m tests.browser.ways`.

One server, one cart in Chromium, one viewer after another in a fresh browser context, all on the loopback; coturn is
needed. The times are from the page's join to the first frame of ultrasound on the screen.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser import consultation as c
from tests.browser.conftest import Pages, Server, launch
from tests.browser.test_network import NO_UDP, ROUTE, script
from tests.browser.turn import turn_server

URLS = ("turn:127.0.0.1:PORT", "turn:127.0.0.1:PORT?transport=tcp", "turns:127.0.0.1:TLS")
WAYS = {  # the browser that takes it, and the pattern of the TURN URLs that it may use
    "all ways open": ("any", "."),
    "UDP": ("any", ""),
    "TCP": ("no UDP", ""),
    "TURN over UDP": ("any", ":PORT$"),
    "TURN over TCP": ("any", "transport=tcp"),
    "TURN over TLS": ("any", "turns:"),
}


def join(browser: Browser, server: Server, room: str, url: str) -> tuple[float, dict[str, str | None]]:
    """ms to the first picture, and the way it came."""
    pages = Pages(browser)
    try:
        only = f"options.iceServers?.filter(({{ urls }}) => /{url}/.test(urls))" if url else "[]"
        policy = "{ iceServers: " + only + (', iceTransportPolicy: "relay"' if len(url) > 1 else "") + " }"
        page = pages.open(server.address("viewer", room), script=script(policy=policy))
        first = c.firsts(page, {"ultrasound"})["ultrasound"]
        route: dict[str, str | None] = page.evaluate(ROUTE)
        return first, route
    finally:
        pages.close()


def main(rounds: int = 10) -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        certificate, key = Path(folder, "turn.crt"), Path(folder, "turn.key")
        kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        made = ["openssl", "req", *kind, *names, "-keyout", key, "-out", certificate]
        subprocess.run(made, check=True, capture_output=True)
        with turn_server(certificate, key) as turn:
            settings = Path(folder, "server.toml")
            settings.write_text(turn.config(*URLS))
            server = Server(Path(folder, "data"), "--config", str(settings), udp="127.0.0.1:0")
            browsers = {
                "any": launch(driver, "--ignore-certificate-errors"),
                "no UDP": launch(driver, NO_UDP),
            }
            carts = Pages(browsers["any"])
            try:
                c.start_cart(carts, server, "ways")
                found: dict[str, list[float]] = {}
                for _ in range(rounds):
                    for way, (browser, url) in WAYS.items():
                        pattern = url.replace("PORT", str(turn.port))
                        first, route = join(browsers[browser], server, "ways", pattern)
                        found.setdefault(way, []).append(first)
                        print(way, round(first), route, flush=True)
                for way, times in found.items():
                    figures = {"median_ms": statistics.median(times), "least_ms": min(times), "most_ms": max(times)}
                    print(json.dumps({"way": way, "joins": len(times)} | {k: round(v) for k, v in figures.items()}))
            finally:
                carts.close()
                for browser in browsers.values():
                    browser.close()
                server.stop()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
