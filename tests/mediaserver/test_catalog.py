"""The archive's catalog behind a real server: identifiers by those who may, and recording without the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiortc.mediastreams import VideoStreamTrack

from mediaserver import StartError
from mediaserver.config import ConfigError
from mediaserver.recording.retention import RetentionClass
from mediaserver.recording.sidecars import Identifiers
from mediaserver.settings import CatalogSettings, RecordingSettings, RetentionSettings
from tests.mediaserver.conftest import Open, Site, run
from tests.mediaserver.test_end_to_end import publish
from tests.mediaserver.test_recordings import ended, listed, recording
from tests.mediaserver.test_server import audit
from tests.postgres import Cluster

ANNA = {"patient_id": "MRN-1", "patient_name": "Anna Karenina", "encounter": "V1", "accession": "A1"}


async def ask(s: Site, method: str, path: str, token: dict[str, str], body: Any = None) -> tuple[int, Any]:
    async with s.http.request(method, f"{s.url}/api/archive/recordings{path}", headers=token, json=body) as response:
        is_json = response.content_type.endswith("json")
        return response.status, await response.json(content_type=None) if is_json else None


def test_an_app_says_whom_a_consultation_is_about(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on")) as s:
            cart = await s.doctor("Cart", "cart")
            sender, _ = await publish(cart, {"camera": VideoStreamTrack()})
            name = (await recording(cart, "on"))["recording"]
            path = f"/{name}/identifiers"
            doctor, other, viewer = s.bearer(), s.bearer(room="other"), s.bearer("observer")
            assert (await ask(s, "PUT", path, doctor, ANNA))[0] == 204, "while it goes on"
            assert (await ask(s, "PUT", path, other, ANNA))[0] == 404
            assert (await ask(s, "PUT", path, viewer, ANNA))[0] == 403
            assert (await ask(s, "PUT", path, {}, ANNA))[0] == 401
            for wrong in ({"patient": "x"}, [], {"patient_id": 7}, {"patient_id": "x" * 257}, {"patient_id": "\n"}):
                status, problem = await ask(s, "PUT", path, doctor, wrong)
                assert status == 400, (wrong, problem)
            (found,) = await listed(s, patient="MRN-1", name="kare", encounter="V1", accession="A1")
            assert (found["id"], found["state"]) == (name, "recording")
            assert await listed(s, patient="MRN-2") == []
            await sender.close()
            assert (await cart.ask("leave"))["type"] == "ok"
            s.server.rooms["r"].close()
            await ended(s)
            (found,) = await listed(s, patient="MRN-1", text="anna", held="false")
            assert (found["state"], found["identifiers"]["patient_name"]) == ("complete", "Anna Karenina")
            assert (await ask(s, "GET", path, doctor))[1]["accession"] == "A1"
            assert (await ask(s, "GET", f"/{name}", s.bearer("archivist", "*", name="Eve")))[0] == 200
            (seen, *_) = await s.server.archive.accesses(name)
            assert (seen.who, seen.action, seen.times) == ("Eve", "show", 1)
            assert (await ask(s, "DELETE", path, doctor))[0] == 403
            assert (await ask(s, "DELETE", path, s.bearer("archivist", "*")))[0] == 204
            assert await listed(s, patient="MRN-1") == []
            assert (await ask(s, "GET", "?cursor=x", doctor))[0] == 400
            assert (await ask(s, "GET", "?held=maybe", doctor))[0] == 400
        lines = [line for line in audit(tmp_path) if line.get("recording") == name]
        actions = [line["event"] for line in lines]
        assert "archive-identify" in actions
        assert "archive-erase" in actions
        assert "Karenina" not in (tmp_path / "data" / "audit.log").read_text()

    run(main())


def test_a_token_says_whom_a_consultation_is_about(site: Open, tmp_path: Path) -> None:
    """And what it says is nowhere but in the recording's own files."""
    anna = Identifiers(**ANNA)
    classes = RetentionSettings(classes=(RetentionClass(name="teaching", days=9),))

    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on"), retention=classes) as s:
            cart = await s.doctor("Cart", "cart", identifiers=anna, retention="teaching")
            sender, _ = await publish(cart, {"camera": VideoStreamTrack()})
            name = (await recording(cart, "on"))["recording"]
            added = Identifiers(patient_id="MRN-1", modality="US")
            doctor = await s.doctor("Dr. A", identifiers=added)
            assert "MRN-1" not in str(doctor.joined)
            await s.doctor("Dr. B", identifiers=Identifiers(patient_id="MRN-2", sex="F"))
            await sender.close()
            assert (await cart.ask("leave"))["type"] == "ok"
            s.server.rooms["r"].close()
            await ended(s)
            (found,) = await listed(s, patient="MRN-1", retention="teaching")
            assert found["id"] == name
            assert {key: text for key, text in found["identifiers"].items() if text} == ANNA | {"modality": "US"}
            path = s.server.archive.path(name)
            assert b"MRN-1" not in (path / "manifest.json").read_bytes()
            async with s.http.get(f"{s.url}/metrics") as response:
                assert "MRN" not in await response.text()
            assert (await ask(s, "DELETE", f"/{name}/identifiers", s.bearer("archivist", "*")))[0] == 204
            assert not any(b"MRN-1" in file.read_bytes() for file in path.iterdir())
        lines = audit(tmp_path)
        assert [line["by"] for line in lines if line["event"] == "archive-identify"] == ["token", "token"]
        assert [line["class"] for line in lines if line["event"] == "archive-retention"][:1] == ["teaching"]
        assert len([line for line in lines if line["event"] == "identifiers-refused"]) == 1
        assert "MRN" not in (tmp_path / "data" / "audit.log").read_text()

    run(main())


def test_recording_goes_on_without_the_database(site: Open, postgres: Cluster) -> None:
    url = postgres.database()

    async def record(s: Site) -> str:
        cart = await s.doctor("Cart", "cart")
        sender, _ = await publish(cart, {"camera": VideoStreamTrack()})
        name: str = (await recording(cart, "on"))["recording"]
        await sender.close()
        assert (await cart.ask("leave"))["type"] == "ok"
        s.server.rooms["r"].close()
        await ended(s)
        return name

    async def main() -> None:
        settings = {"catalog": CatalogSettings(url=url), "recording": RecordingSettings(policy="on")}
        async with site(**settings) as s:
            postgres.stop()
            name = await record(s)
            status, problem = await ask(s, "GET", "", s.bearer("archivist", "*"))
            assert status == 503
            assert "does not answer" in problem["detail"]
            assert (await ask(s, "GET", f"/{name}", s.bearer("archivist", "*")))[0] == 200
            async with s.http.get(f"{s.url}/metrics") as response:
                assert "mediaserver_catalog_usable 0.0" in await response.text()
            assert s.server.unready() == []
        async with site(**settings) as s:
            assert s.server.archive.catalog_trouble, "it starts without the database"
            postgres.start()
        async with site(**settings) as s:
            assert [found["id"] for found in await listed(s)] == [name]

    run(main())


def test_a_catalog_that_can_not_be_is_told(site: Open) -> None:
    async def main() -> None:
        async with site(catalog=CatalogSettings(url="mysql://x/y")):
            pass

    with pytest.raises((ConfigError, StartError), match="catalog"):
        run(main())
