"""Retention, erasure and break-glass behind a real server: who may, what it leaves, and what is told."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from mediaserver import archive_command
from mediaserver.archive_schedule import DisposalSchedule
from mediaserver.codecs.payload import Codec
from mediaserver.config import ConfigError, load
from mediaserver.recording.openings import Opened, append
from mediaserver.recording.retention import RetentionClass
from mediaserver.settings import BreakGlassSettings, EncryptionSettings, RetentionSettings
from tests.mediaserver.conftest import Open, Site, run
from tests.mediaserver.test_catalog import ask
from tests.mediaserver.test_server import audit
from tests.recording import feed

CLASSES = RetentionSettings(
    classes=(RetentionClass(name="standard", days=0), RetentionClass(name="long", days=70_000)), default="standard"
)
ENCRYPTED = EncryptionSettings(master="one", keys=(f"one:{base64.b64encode(bytes(32)).decode()}",))
REASON = "unconscious in the emergency room"


async def record(s: Site, room: str = "r") -> str:
    """A second of a camera, straight into the server's archive."""
    server = s.server

    def make() -> str:
        evidence = server.archive._evidence
        studio = feed.Studio(server.archive.folder, server.storage, evidence=evidence, room=room)
        studio.track("camera")
        source = feed.Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 15))
        studio.feed("camera", feed.deliver([source]))
        studio.run()
        studio.stop()
        return studio.recording.id

    name = await asyncio.to_thread(make)
    await server.archive.index(name)
    return name


async def api(s: Site, method: str, path: str, token: dict[str, str], body: Any = None) -> tuple[int, Any]:
    async with s.http.request(method, f"{s.url}/api/archive/{path}", headers=token, json=body) as response:
        is_json = response.content_type.endswith("json")
        return response.status, await response.json(content_type=None) if is_json else None


def test_what_is_due_goes_over_http(site: Open, tmp_path: Path) -> None:
    names: list[str] = []

    async def main() -> None:
        async with site(retention=CLASSES) as s:
            operator, archivist = s.bearer("operator", "*", name="Olga"), s.bearer("archivist", "*", name="Eve")
            goes, stays, held = [await record(s) for _ in range(3)]
            names.extend((goes, stays, held))
            assert (await ask(s, "GET", f"/{stays}/retention", s.bearer()))[1]["class"] == "standard"
            wanted = {"class": "long", "reason": "a rare case"}
            assert (await ask(s, "PUT", f"/{stays}/retention", s.bearer(), wanted))[0] == 403
            assert (await ask(s, "PUT", f"/{stays}/retention", archivist, {**wanted, "class": "x"}))[0] == 422
            status, kept = await ask(s, "PUT", f"/{stays}/retention", archivist, wanted)
            assert (status, kept["class"], kept["by"], kept["reason"]) == (200, "long", "Eve", "a rare case")
            assert (await ask(s, "POST", f"/{held}/holds", archivist, {"reason": "a lawsuit"}))[0] == 201
            assert (await api(s, "GET", "retention", s.bearer("archivist")))[0] == 403, "of one room"
            status, due = await api(s, "GET", "retention", archivist)
            assert {case["recording"]: case["state"] for case in due["due"]} == {goes: "due", held: "kept"}
            order = {"reason": "its time is over", "dry_run": False}
            assert (await api(s, "POST", "disposals", archivist, order))[0] == 403
            assert (await api(s, "POST", "disposals", operator, {}))[0] == 400
            status, report = await api(s, "POST", "disposals", operator, {"reason": "x"})
            assert (status, report["dry_run"], report["counts"]) == (200, True, {"due": 1, "kept": 1})
            status, report = await api(s, "POST", "disposals", operator, order)
            assert report["counts"] == {"disposed": 1, "kept": 1}
            status, problem = await ask(s, "GET", f"/{goes}", archivist)
            assert status == 410
            assert "by Olga: its time is over" in problem["detail"]
            assert (await ask(s, "GET", f"/{goes}", s.bearer(room="other")))[0] == 404
            assert (await ask(s, "POST", f"/{goes}/verify", archivist))[1]["ok"]
            assert (await s.server.archive.verify_register()).ok

    run(main())
    lines = audit(tmp_path)
    (gone,) = [line for line in lines if line["event"] == "archive-delete"]
    assert (gone["recording"], gone["name"], gone["reason"]) == (names[0], "Olga", "its time is over")
    (retained,) = [line for line in lines if line["event"] == "archive-retention"]
    assert (retained["class"], retained["reason"], retained["name"]) == ("long", "a rare case", "Eve")


def test_by_the_clock(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(retention=CLASSES) as s:
            name = await record(s)
            await DisposalSchedule(s.server.archive, s.server.audit, s.server.clock, 1).dispose()
            assert (await ask(s, "GET", f"/{name}", s.bearer("archivist", "*")))[0] == 410

    run(main())
    (gone,) = [line for line in audit(tmp_path) if line["event"] == "archive-delete"]
    assert (gone["by"], gone["class"]) == ("schedule", "standard")


def test_a_key_is_destroyed_while_the_server_runs(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(encryption=ENCRYPTED) as s:
            operator, archivist = s.bearer("operator", "*", name="Olga"), s.bearer("archivist", "*")
            name = await record(s)
            order = {"reason": "the patient has asked for it"}
            assert (await ask(s, "POST", f"/{name}/erasure", archivist, order))[0] == 403
            assert (await ask(s, "POST", f"/{name}/erasure", operator, {"reason": " "}))[0] == 400
            _, hold = await ask(s, "POST", f"/{name}/holds", archivist, {"reason": "a lawsuit"})
            status, problem = await ask(s, "POST", f"/{name}/erasure", operator, order)
            assert (status, "a lawsuit" in problem["detail"]) == (409, True)
            media = f"/{name}/tracks/camera/media"
            assert (await ask(s, "GET", media, archivist))[0] == 200
            assert (await ask(s, "DELETE", f"/{name}/holds/{hold['id']}", archivist))[0] == 204
            assert (await ask(s, "POST", f"/{name}/erasure", operator, order))[0] == 204
            status, problem = await ask(s, "GET", media, archivist)
            assert (status, "the patient has asked" in problem["detail"]) == (410, True)
        async with site() as s:
            plain = await record(s)
            operator = s.bearer("operator", "*", name="Olga")
            assert (await ask(s, "POST", f"/{plain}/erasure", operator, order))[0] == 422, "it has no key"

    run(main())
    lines = [line for line in audit(tmp_path) if line["event"] == "archive-erase"]
    assert ["failed" in line for line in lines] == [False, True, False, False, True]
    assert lines[2]["reason"] == "the patient has asked for it"


@asynccontextmanager
async def pager(answers: list[int]) -> AsyncIterator[tuple[str, asyncio.Queue[Any]]]:
    """What takes alerts: it answers with these statuses, then with 204."""
    taken: asyncio.Queue[Any] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        status = answers.pop(0) if answers else 204
        if status == 204:
            taken.put_nowait(await request.json())
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/alert", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/alert", taken
    finally:
        await runner.cleanup()


def test_breaking_the_glass(site: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediaserver.desk.break_glass.FIRST_RETRY_SECONDS", 0.01)
    names: list[str] = []

    async def main() -> None:
        async with pager([500]) as (url, taken):
            settings = BreakGlassSettings(roles=("doctor",), webhook=url)
            async with site(breakglass=settings) as s:
                name, other = await record(s), await record(s)
                names.append(name)
                doctor = s.bearer(room="elsewhere", name="Dr. No")
                assert (await ask(s, "GET", f"/{name}", doctor))[0] == 404
                path = f"/{name}/break-glass"
                for token, status in (
                    (s.bearer(room="elsewhere"), 403),  # nobody's name
                    (s.bearer("observer", "elsewhere", name="X"), 403),
                    (s.bearer("archivist", "*", name="Eve"), 403),
                    ({}, 401),
                ):
                    assert (await ask(s, "POST", path, token, {"reason": REASON}))[0] == status
                assert (await ask(s, "POST", path, doctor, {"reason": "because"}))[0] == 422
                assert (await ask(s, "POST", path, doctor, {}))[0] == 400
                assert (await ask(s, "POST", "/20260921-000000-no/break-glass", doctor, {"reason": REASON}))[0] == 404
                assert taken.empty()
                status, opened = await ask(s, "POST", path, doctor, {"reason": REASON})
                assert (status, opened["who"], opened["recording"]) == (201, "Dr. No", name)
                alert = await taken.get()
                assert (alert["event"], alert["name"], alert["reason"]) == ("break-glass", "Dr. No", REASON)
                assert (await ask(s, "GET", f"/{name}", doctor))[0] == 200
                assert (await ask(s, "GET", f"/{name}/tracks/camera/media", doctor))[0] == 200
                assert (await ask(s, "POST", f"/{name}/exports", doctor, {"kind": "mkv"}))[0] == 404, "not to take out"
                assert (await ask(s, "PUT", f"/{name}/identifiers", doctor, {}))[0] == 404
                assert (await ask(s, "GET", f"/{other}", doctor))[0] == 404
                again = s.bearer(room="elsewhere", name="Dr. No", ttl=77)
                assert (await ask(s, "GET", f"/{name}", again))[0] == 404, "of that token alone"
                async with s.http.get(f"{s.url}/metrics") as response:
                    figures = await response.text()
                assert "mediaserver_break_glass_total 1.0" in figures
                assert "mediaserver_break_glass_unreviewed 1.0" in figures
                s.server._break_glass._clock.wall_us = lambda: 1 << 60  # type: ignore[method-assign]
                assert (await ask(s, "GET", f"/{name}", doctor))[0] == 404, "its time is over"
        async with site(breakglass=BreakGlassSettings(roles=("doctor",))) as s:
            eve = s.bearer("archivist", "*", name="Eve")
            assert (await api(s, "GET", "break-glass", s.bearer(room="elsewhere", name="Dr. No")))[0] == 403
            (one,) = (await api(s, "GET", "break-glass", eve))[1]["opened"]
            assert (one["who"], one["reason"], one["reviewed"]) == ("Dr. No", REASON, None)
            path = f"break-glass/{one['id']}/review"
            assert (await api(s, "POST", path, s.bearer("archivist", "*", name="Dr. No"), {}))[0] == 409
            status, reviewed = await api(s, "POST", path, eve, {"note": "asked him"})
            assert (status, reviewed["reviewed_by"], reviewed["note"]) == (200, "Eve", "asked him")
            assert (await api(s, "POST", path, eve, {}))[0] == 409
            assert s.server._break_glass.unreviewed == 0

    run(main())
    lines = [line for line in audit(tmp_path) if line.get("recording") == names[0]]
    (broken,) = [line for line in lines if line["event"] == "break-glass"]
    assert (broken["name"], broken["reason"], broken["by"]) == ("Dr. No", REASON, "doctor")
    assert [line["event"] for line in lines if line.get("via") == "break-glass"] == ["archive-show", "archive-play"]
    assert [line["name"] for line in lines if line["event"] == "break-glass-reviewed"] == ["Eve"]
    listed = CliRunner().invoke(archive_command.app, ["--data", str(tmp_path / "data"), "glass", "--json"])
    (one,) = json.loads(listed.output)
    assert (one["opened"]["who"], one["reviewed"]["by"], one["alerted"]) == ("Dr. No", "Eve", True)
    assert b"eyJ" not in (tmp_path / "data" / "break-glass.jsonl").read_bytes(), "no token is kept"


def test_a_review_by_command(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "archive").mkdir(parents=True)
    opened = {"recording": "20260921-x", "who": "Dr. No", "role": "doctor", "reason": REASON, "address": "::1"}
    append(data / "break-glass.jsonl", Opened(id="a1", at_us=1, until_us=2, token="", **opened))
    with (data / "break-glass.jsonl").open("ab") as stream:
        stream.write(b'{"what":"opened","id":"torn')

    def called(*arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(archive_command.app, ["--data", str(data), "glass", *arguments])
        assert done.exit_code == status, done.output
        return done.output

    assert "Dr. No" in called()
    assert "no opening a2" in called("--review", "a2", status=2)
    assert "opened himself" in called("--review", "a1", "--by", "Dr. No", status=2)
    assert "asked him" in called("--review", "a1", "--by", "Eve", "--note", "asked him")
    assert "Eve has reviewed it" in called("--review", "a1", "--by", "Max", status=2)
    (line,) = [line for line in audit(tmp_path) if line["event"] == "break-glass-reviewed"]
    assert (line["by"], line["opening"]) == ("Eve", "a1")


async def found_by(s: Site, token: dict[str, str], query: str) -> tuple[int, int]:
    """How many a search says that there are, and shows; it goes on nowhere."""
    found = (await ask(s, "GET", f"?{query}&limit=1", token))[1]
    assert (found["at_least"], found["cursor"]) == (False, "")
    return found["total"], len(found["recordings"])


def test_a_restricted_room(site: Open) -> None:
    async def main() -> None:
        settings = BreakGlassSettings(roles=("archivist",), restricted=("psy-*",))
        async with site(breakglass=settings) as s:
            name = await record(s, "psy-1")
            room = s.bearer(room="psy-1")
            assert (await ask(s, "PUT", f"/{name}/identifiers", room, {"patient_id": "MRN-1"}))[0] == 204
            for token, shown in ((room, True), (s.bearer("archivist", "*"), False)):
                (found,) = (await ask(s, "GET", "", token))[1]["recordings"]
                assert (found["id"], found["identifiers"] is not None) == (name, shown)
            assert (await found_by(s, room, "patient=MRN-1")) == (1, 1)
            # Who may not know whom it is about must not learn it by asking: as little as of a patient that is nobody.
            everywhere = s.bearer("archivist", "*")
            for asked in ("patient=MRN-1", "patient=MRN-2", "text=MRN", "text=psy", "name=x", "participant=cart"):
                assert (await found_by(s, everywhere, asked)) == (0, 0), asked
            assert (await found_by(s, everywhere, "room=psy-1")) == (1, 1)
            eve = s.bearer("archivist", "*", name="Eve")
            status, problem = await ask(s, "GET", f"/{name}", eve)
            assert (status, "break the glass" in problem["detail"]) == (403, True)
            assert (await ask(s, "GET", f"/{name}/tracks/camera/media", s.bearer("operator", "*")))[0] == 403
            assert (await ask(s, "GET", f"/{name}", room))[0] == 200
            assert (await ask(s, "POST", f"/{name}/break-glass", eve, {"reason": REASON}))[0] == 201
            assert (await ask(s, "GET", f"/{name}", eve))[0] == 200
            assert (await ask(s, "POST", f"/{name}/exports", eve, {"kind": "mkv"}))[0] == 403

    run(main())


def test_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        '[retention]\ndefault = "a"\n[[retention.classes]]\nname = "a"\ndays = 1.5\nat_end = "review"\n'
        '[[retention.rules]]\nclass = "a"\nroom = "x-*"\n'
    )
    settings = load(path, {"MEDIASERVER_BREAKGLASS_ROLES": "doctor,archivist"})
    assert settings.retention.policy.choose("y", ()) == "a"
    assert settings.breakglass.roles == ("doctor", "archivist")
    for text, said in (
        ('default = "b"', 'no retention class "b"'),
        ('classes = [{ name = "a b", days = 1 }]', "no name of a class"),
        ('classes = [{ name = "a", days = -1 }]', "retention.classes"),
        ('rules = [{ into = "a" }]', "retention.rules"),
    ):
        path.write_text(f"[retention]\n{text}\n")
        with pytest.raises(ConfigError, match=said):
            load(path, {})
