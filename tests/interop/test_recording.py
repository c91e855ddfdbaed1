"""What the server records is what was sent: every picture, in sync, and the archive's commands agree."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.browser.conftest import Server
from tests.interop import consultation as c

SKEW_MS = 80.0
SECONDS = 8.0

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    c.streams()  # encoded before anybody waits for anything
    running = Server(tmp_path, "--record", "request")
    yield running
    running.stop()


def worst(skews: list[float]) -> float:
    assert skews
    return max(skews, key=abs)


async def record(server: Server) -> dict[str, int]:
    """A consultation that a doctor records; how much of each source left while it was recorded."""
    async with c.doctor(server, "exam") as doctor, c.publishing(server, "exam") as cart:
        await cart.until(1.0)
        await doctor.request("record", on=True)
        await c.heard(doctor, "recording", state="on")
        before = cart.sent()
        await cart.until(1.0 + SECONDS)
        after = cart.sent()
        await doctor.request("record", on=False)
        await c.heard(doctor, "recording", state="off")
        return {source: after[source] - before[source] for source in after}


def test_a_consultation_is_kept_as_it_was(
    server: Server, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async def main() -> dict[str, int]:
        async with asyncio.timeout(c.PATIENCE):
            return await record(server)

    sent = asyncio.run(main())

    def complete() -> bool:
        return [recording["state"] for recording in c.listed(tmp_path)] == ["complete"]

    # The command reads beside a server that runs; it is complete a moment after everybody was told of its end.
    asyncio.run(c.until(complete))
    server.stop()
    (recording,) = c.listed(tmp_path)
    name = recording["id"]
    assert {track["source"]: track["codec"] for track in recording["tracks"]} == {
        "camera": "VP8",
        "ultrasound": "H264",
        "microphone": "opus",
    }
    verified = c.command(tmp_path, "verify", name, "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["ok"]

    kept = c.kept(tmp_path, name)
    folder = c.folder_of(tmp_path, name)
    tracks = {track.source: track for track in kept.tracks}
    camera, ultrasound = c.watch(folder, tracks["camera"]), c.watch(folder, tracks["ultrasound"])
    bursts = c.listen(folder, tracks["microphone"])
    for source, shown in (("camera", camera), ("ultrasound", ultrasound)):
        assert [after - before for before, after in pairwise(shown.numbers)] == [1] * (len(shown.numbers) - 1), source
        assert tracks[source].gaps == []
        # From the first keyframe on, which comes within a second.
        assert len(shown.numbers) >= sent[source] - c.RATE
    assert tracks["microphone"].gaps == []
    assert sum(segment.units for segment in tracks["microphone"].segments) >= sent["microphone"]
    assert len(bursts) >= SECONDS - 1
    skews = {
        "ultrasound after camera": worst(c.skews_ms(camera, ultrasound)),
        "sound after camera": worst(c.sound_skews_ms(camera, bursts)),
        "sound after ultrasound": worst(c.sound_skews_ms(ultrasound, bursts)),
    }
    record_property("skew_ms", skews)
    print(f"skew in the files, ms: {skews}")
    assert max(map(abs, skews.values())) <= SKEW_MS

    out = tmp_path / "exam.mkv"
    done = c.command(tmp_path, "export", name, "--out", str(out))
    assert done.returncode == 0, done.stderr
    pictures, sounds = c.exported(out)
    assert set(pictures) | set(sounds) == {"camera", "ultrasound", "microphone"}
    for source, shown in (("camera", camera), ("ultrasound", ultrasound)):
        assert pictures[source].numbers == shown.numbers
    assert len(sounds["microphone"]) == len(bursts)
    skews = {
        "ultrasound after camera": worst(c.skews_ms(pictures["camera"], pictures["ultrasound"])),
        "sound after camera": worst(c.sound_skews_ms(pictures["camera"], sounds["microphone"])),
    }
    record_property("export_skew_ms", skews)
    print(f"skew in the export, ms: {skews}")
    assert max(map(abs, skews.values())) <= SKEW_MS

    refused = c.command(tmp_path, "export", name, "--out", str(tmp_path / "exam.mp4"))
    assert refused.returncode == 2
    assert "MP4 cannot hold VP8" in refused.stderr


def test_the_synthetic_cart_is_kept_until_the_server_stops(tmp_path: Path) -> None:
    """As `make run` does it: a cart as a process, everything recorded, and Ctrl-C in the middle."""
    server = Server(tmp_path, "--record", "on")
    try:
        cart = [sys.executable, "-m", "mediaserver", "cart", "--url", server.base, "--room", "demo"]
        with subprocess.Popen([*cart, "--token", server.token("demo", "cart")], stdout=subprocess.DEVNULL) as process:
            try:
                asyncio.run(c.until(lambda: [r["duration_ms"] > 6000 for r in c.listed(tmp_path)] == [True]))
                server.stop()
            finally:
                process.terminate()
    finally:
        server.stop()
    (recording,) = c.listed(tmp_path)
    assert recording["state"] == "complete"
    tracks = {track["source"]: track for track in recording["tracks"]}
    assert set(tracks) == {"camera", "ultrasound", "microphone", "stethoscope"}
    assert [track["gaps"] for track in tracks.values()] == [0] * 4
    lengths = [track["duration_ms"] for track in tracks.values()]
    assert max(lengths) - min(lengths) < 1500
    verified = c.command(tmp_path, "verify", recording["id"])
    assert verified.returncode == 0, verified.stdout
    out = tmp_path / "demo.mkv"
    assert c.command(tmp_path, "export", recording["id"], "--out", str(out)).returncode == 0
    pictures, sounds = c.exported(out)
    assert len(pictures) == 2
    assert sounds
    for name, shown in pictures.items():
        # The cart's loop leaves a picture out where a keyframe was asked for, and comes back to its beat after it.
        steps = [after - before for before, after in pairwise(shown.numbers)]
        assert min(steps) >= 1, name
        assert sum(step > 1 for step in steps) < len(steps) / 10, name
        assert len(steps) >= 5 * c.RATE
