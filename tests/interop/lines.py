"""The lines of the laboratory with headless Chromium at both ends, and its figures beside the laboratory's.

    python -m tests.interop.lines --line 2.5m --seconds 60 --json FILE

With `--tunnel` (as root) the viewer's browser stands in a network namespace, and all that it says takes the line.

The cart's page sends ultrasound (a canvas whose frames carry their number), camera and sounds from fake devices over
the relay's door that the server announces, which delays nothing; the viewer's page takes another door for the server,
and behind that is the line. The line's own time starts as the viewer's page is opened.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tests.browser import consultation as c
from tests.browser import framecode
from tests.browser.conftest import Pages, Server, launch
from tests.browser.drivers import CHROMIUM_FLAGS
from tests.interop import gauge
from tests.interop.measured import pictures, rates, sounds
from tests.interop.relay import Address, ShaperProcess, relaying, text_of
from tests.interop.shape import DIRECT, find
from tests.interop.tunnel import OUTSIDE, inside, tunnelling
from tests.sim.consultation import CONSULTATION, SourceSpec
from tests.sim.encoder import Encoding, VideoSpec
from tests.sim.lines import ALL_LINES
from tests.sim.publisher import SoundSpec
from tests.sim.run import run_line

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

NAMESPACE = "doctor"
HOST, ANNOUNCED, DOCTORS = "127.0.0.1", "127.0.0.2", "127.0.0.3"
HEAD_START_S = 8.0
"""What the cart's encoders and its own estimate take to come to their full rate."""
LIVE_S = 60.0
LEAST_BPS = 20_000


class Ends(NamedTuple):
    """Both pages of a run, and the relay between them."""

    cart: Page
    viewer: Page
    relay: ShaperProcess
    door: str
    begin: float
    """ms of the wall clock"""


@contextlib.contextmanager
def consultation(
    browser: Browser, line: str, *, head_start: float = HEAD_START_S, seed: int = 1, simulcast: str = ""
) -> Iterator[Ends]:
    """A cart that sends, and a viewer's page that has just been opened behind the line."""
    port = free_port()
    opened = Pages(browser)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        server = Server(Path(folder), "--announce", ANNOUNCED, udp=f"{HOST}:{port}")
        stack.callback(server.stop)
        stack.callback(opened.close)
        doctors = (DOCTORS, port)
        doors: dict[Address, str] = {(ANNOUNCED, port): DIRECT, doctors: line}
        relay = stack.enter_context(relaying((HOST, port), doors, seed))
        cart = start_cart(opened, server, gauge.script(), line, simulcast)
        yield begin(cart, head_start, opened, server.base, server, gauge.script(doctors), relay, text_of(doctors))


@contextlib.contextmanager
def tunnelled(
    driver: Playwright, line: str, *, head_start: float = HEAD_START_S, seed: int = 1, simulcast: str = ""
) -> Iterator[Ends]:
    """The same with the viewer's browser in a network namespace: signalling and pages take the line too. Needs root."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        relay = stack.enter_context(tunnelling(NAMESPACE, line, seed))
        server = Server(Path(folder), "--announce", OUTSIDE, http=":0", udp=f"0.0.0.0:{port}")
        stack.callback(server.stop)
        http = server.base.rpartition(":")[2]
        # Devices open on pages of this machine alone, or by HTTPS.
        server.base = f"http://{HOST}:{http}"
        near = launch(driver)
        stack.callback(near.close)
        script = stack.enter_context(inside(NAMESPACE, str(shutil.which("chromium"))))
        far = driver.chromium.launch(executable_path=str(script), args=list(CHROMIUM_FLAGS))
        stack.callback(far.close)
        here, there = Pages(near), Pages(far)
        stack.callback(here.close)
        stack.callback(there.close)
        cart = start_cart(here, server, gauge.script(), line, simulcast)
        base = f"http://{OUTSIDE}:{http}"
        yield begin(cart, head_start, there, base, server, gauge.script(), relay, NAMESPACE)


def begin(
    cart: Page,
    head_start: float,
    opened: Pages,
    base: str,
    server: Server,
    script: str,
    relay: ShaperProcess,
    door: str,
) -> Ends:
    """Open the viewer's page, once the cart has had its head start."""
    cart.wait_for_timeout(1000 * head_start)
    gauge.take(cart)
    relay.begin()
    moment = 1000 * time.time()
    address = server.address("viewer", "line", name="Dr. Rivera").replace(server.base, base)
    return Ends(cart, opened.open(address, script=script), relay, door, moment)


def start_cart(opened: Pages, server: Server, script: str, line: str, simulcast: str) -> Page:
    wanted = find(line).sources
    sources = {one for one in c.SOURCES if not wanted or ("voice" if one == "microphone" else one) in wanted}
    address = server.address("cart", "line", "cart", name="Cart 3")
    address = address.replace("#", f"&simulcast={simulcast}#") if simulcast else address
    page = opened.open(address, script=framecode.FAKE_GRABBER + script)
    page.set_default_timeout(1000 * LIVE_S)
    page.get_by_label("Device for Ultrasound").select_option(label="Test grabber")
    if "stethoscope" in sources:
        page.get_by_label("Device for Stethoscope").select_option(label="Fake Audio Input 1")
    for source in sources:
        page.locator(f".source[data-source={source}] .state", has_text="Ready").wait_for()
    page.get_by_role("button", name="Start consultation").click()
    page.wait_for_function("(count) => document.querySelectorAll('.source.sending').length === count", arg=len(sources))
    page.locator("#connection", has_text="Connected").wait_for()
    return page


def free_port() -> int:
    """A UDP port that is free at every address here."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def watch_frames(ends: Ends) -> None:
    """Begin to read the numbers of the ultrasound's frames as soon as its tile is there."""
    ends.viewer.locator(c.ULTRASOUND).wait_for(timeout=1000 * LIVE_S)
    c.watch(ends.viewer)


def figures(ends: Ends, line: str) -> dict[str, Any]:
    """What the run showed until now. Units as in the laboratory's figures."""
    end = 1000 * time.time()
    told = ends.relay.figures()[ends.door]
    codes = ends.viewer.evaluate("() => window.seen.codes")
    sent = ends.cart.evaluate("() => grabber.sent")
    firsts = ends.viewer.evaluate(c.FIRSTS)
    rows = gauge.take(ends.viewer)
    cart = gauge.take(ends.cart)
    changes = ALL_LINES[line].changes if line in ALL_LINES else ()
    return {
        "line": line,
        "seconds": (end - ends.begin) / 1000,
        "network": told["down"],
        "uplink": told["up"],
        "pictures": pictures(rows, codes, sent, firsts, ends.begin, end, [at / 1e6 for at in changes]),
        "sounds": sounds(rows),
        "publisher": rates(cart),
    }


def run(line: str, seconds: float, *, tunnel: bool = False, seed: int = 1, simulcast: str = "") -> dict[str, Any]:
    """The figures of one run; `tunnel`: as `tunnelled`; `simulcast`: as the cart's page takes it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver, contextlib.ExitStack() as stack:
        if tunnel:
            ends = stack.enter_context(tunnelled(driver, line, seed=seed, simulcast=simulcast))
        else:
            browser = launch(driver)
            stack.callback(browser.close)
            ends = stack.enter_context(consultation(browser, line, seed=seed, simulcast=simulcast))
        watch_frames(ends)
        ends.viewer.wait_for_timeout(max(0.0, ends.begin + 1000 * seconds - 1000 * time.time()))
        return figures(ends, line)


# ---- beside the laboratory

COMPARED = (
    ("use of the line", ("network", "use")),
    ("queue p95 ms", ("network", "queue_p95_ms")),
    ("overflow", ("network", "overflow")),
    ("lost", ("network", "lost")),
    ("ultrasound kbit/s", ("pictures", "ultrasound", "kbps")),
    ("ultrasound frames/s", ("pictures", "ultrasound", "frames_per_s")),
    ("ultrasound freezes", ("pictures", "ultrasound", "freezes")),
    ("ultrasound frozen s", ("pictures", "ultrasound", "freeze_s")),
    ("ultrasound longest freeze ms", ("pictures", "ultrasound", "longest_freeze_ms")),
    ("ultrasound under floor", ("pictures", "ultrasound", "under_floor")),
    ("ultrasound delay p50 ms", ("pictures", "ultrasound", "delay_p50_ms")),
    ("ultrasound delay p95 ms", ("pictures", "ultrasound", "delay_p95_ms")),
    ("ultrasound first frame ms", ("pictures", "ultrasound", "first_frame_ms")),
    ("camera kbit/s", ("pictures", "camera", "kbps")),
    ("camera frames/s", ("pictures", "camera", "frames_per_s")),
    ("camera paused s", ("pictures", "camera", "paused_s")),
    ("voice lost", ("sounds", "microphone", "lost")),
    ("stethoscope lost", ("sounds", "stethoscope", "lost")),
)


def as_sent(publisher: dict[str, Any]) -> list[SourceSpec]:
    """The laboratory's consultation with what the page's cart sent: encodings of that size, rate and frames."""
    # The page plays none of its own sounds, by which they would be named: the stethoscope's has the higher rate.
    unnamed = sorted((row["kbps"], name) for name, row in publisher.items() if name.startswith("audio"))
    names = dict(zip((name for _, name in unnamed), ("voice", "stethoscope"), strict=False))
    found = []
    for spec in CONSULTATION:
        rows = {name: row for name, row in publisher.items() if names.get(name, name).partition("/")[0] == spec.source}
        if not rows:
            continue
        own = spec.medium
        medium: VideoSpec | SoundSpec
        if isinstance(own, VideoSpec):
            frames = max(1, round(max(row["frames_per_s"] for row in rows.values())))
            encodings = sorted((encoding(name, row, frames) for name, row in rows.items()), key=lambda one: one.most)
            medium = msgspec.structs.replace(own, encodings=tuple(encodings), frames=frames, temporal=1)
        else:
            bps = round(1000 * sum(row["kbps"] for row in rows.values()))
            medium = msgspec.structs.replace(own, bps=bps // 2 if own.red else bps)
        found.append(msgspec.structs.replace(spec, medium=medium))
    return found


def encoding(name: str, row: dict[str, Any], frames: int) -> Encoding:
    """One of those of a picture that has so many frames a second."""
    width, height = (int(one) for one in row["size"].split("x"))
    rid = name.partition("/")[2]
    every = max(1, round(frames / max(1.0, row["frames_per_s"])))
    layers = 2 if rid and every == 1 else 1
    return Encoding(width, height, LEAST_BPS, max(LEAST_BPS, round(1000 * row["kbps"])), rid, every, layers)


def laboratory(line: str, seconds: float, seed: int, publisher: dict[str, Any]) -> dict[str, Any]:
    """The same line in virtual time, for a cart that sends the same."""
    own = msgspec.structs.replace(ALL_LINES[line], sources=())
    run = run_line(own, seconds=round(seconds), seed=seed, consultation=as_sent(publisher))
    told: dict[str, Any] = msgspec.to_builtins(run.figures)
    told["sounds"]["microphone"] = told["sounds"].pop("voice")
    return told


def look_up(told: Any, path: Sequence[str]) -> float | None:
    for name in path:
        told = told.get(name) if isinstance(told, dict) else None
    return None if told is None else float(told)


def table(real: dict[str, Any], virtual: dict[str, Any] | None) -> str:
    """The compared figures, a line each."""
    rows = [f"{real['line']}, {real['seconds']:.0f} s{'':<24}Chromium  laboratory"]
    for name, path in COMPARED:
        values = [look_up(told, path) for told in (real, virtual or {})]
        rows.append(f"{name:<34}" + "".join(f"{'-' if value is None else f'{value:,.3f}':>12}" for value in values))
    late = real["network"]
    rows.append(f"the relay was late by {late['late_p50_ms']:.2f} ms (p50), {late['late_p99_ms']:.2f} ms (p99)")
    return "\n".join(rows)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interop.lines", description=__doc__)
    parser.add_argument("--line", action="append", required=True, choices=[DIRECT, *ALL_LINES])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tunnel", action="store_true", help="the viewer in a network namespace; needs root")
    parser.add_argument("--simulcast", default="", help="sources that the cart sends in several encodings; 1: all")
    parser.add_argument("--alone", action="store_true", help="without the laboratory's figures")
    parser.add_argument("--json", type=Path, help="write both there")
    options = parser.parse_args(arguments)
    both = []
    for line in options.line:
        real = run(line, options.seconds, tunnel=options.tunnel, seed=options.seed, simulcast=options.simulcast)
        virtual = None
        if not options.alone and line in ALL_LINES:
            virtual = laboratory(line, options.seconds, options.seed, real["publisher"])
        both.append({"chromium": real, "laboratory": virtual})
        print(table(real, virtual), end="\n\n", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(both, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
