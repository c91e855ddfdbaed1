"""The audit trail as FHIR: every event is a valid AuditEvent of R5, and says what the trail says."""

from __future__ import annotations

from typing import Any

import pytest
from fhir.resources import get_fhir_model_class
from fhir.resources.auditevent import AuditEvent

from mediaserver.recording.chained import Line
from mediaserver.recording.export import fhir

TIME = "2026-11-29T12:00:00.000Z"

EVENTS: list[dict[str, Any]] = [
    {"event": "server-started", "url": "http://127.0.0.1:8080", "media_ports": [7000, 7001]},
    {"event": "server-stopped"},
    {"event": "join", "room": "ward-7", "participant": "p1", "name": "Dr. A", "role": "doctor", "via": "websocket"},
    {"event": "leave", "room": "ward-7", "participant": "p1", "reason": "left"},
    {"event": "denied", "via": "whip", "address": "192.0.2.7", "reason": "the token has expired"},
    {"event": "denied", "unwritten": 17},
    {"event": "removed", "room": "ward-7", "participant": "p1", "by": "operator", "address": "2001:db8::7"},
    {"event": "room-closed", "room": "ward-7", "by": "operator", "address": "not an address"},
    {"event": "recording-started", "room": "ward-7", "recording": "r1", "by": "policy"},
    {"event": "recording-stopped", "room": "ward-7", "recording": "r1", "by": "policy"},
    {"event": "recording-alarm", "room": "ward-7", "recording": "r1", "reason": "No space left on device"},
    *(
        {"event": event, "recording": "r1", "address": "192.0.2.7", "by": "archivist", "name": "Ms. B", "room": "*"}
        for event in (
            "archive-list", "archive-show", "archive-play", "archive-verify", "archive-export", "archive-delete",
            "archive-hold", "archive-release", "archive-identify", "archive-erase", "archive-audit", "break-glass",
        )
    ),
    {"event": "trail-cut", "reason": "it was cut"},
    {"event": "trail-torn", "text": '{"seq":'},
    {"event": "trail-lost", "lines": 3},
    {"event": "trail-sealed"},
]  # fmt: skip


def made(number: int, facts: dict[str, Any]) -> dict[str, Any]:
    members = {"seq": number, "prev": "0" * 64, "time": TIME} | facts
    return fhir.audit_event(Line("audit.log", number, members))


@pytest.mark.parametrize("facts", EVENTS, ids=lambda facts: str(facts["event"]))
def test_every_event_is_valid(facts: dict[str, Any]) -> None:
    resource = made(7, facts)
    read = AuditEvent.model_validate(resource)
    assert get_fhir_model_class("AuditEvent") is AuditEvent
    assert read.recorded.isoformat() == "2026-11-29T12:00:00+00:00"
    assert resource["action"] in "CRUDE"
    (own,) = [coding["code"] for coding in resource["code"]["coding"] if coding["system"] == fhir.EVENTS]
    assert own == facts["event"]
    assert all(len(coding["code"]) and " " not in coding["code"] for coding in resource["code"]["coding"])


def test_what_it_says() -> None:
    resource = made(1, EVENTS[4])
    assert resource["outcome"] == {
        "code": {"system": fhir.OUTCOMES, "code": "8"},
        "detail": [{"text": "the token has expired"}],
    }
    assert resource["agent"][0]["networkUri"] == "urn:ipv4:192.0.2.7"
    assert resource["agent"][0]["who"]["display"] == "192.0.2.7"
    export = made(2, next(facts for facts in EVENTS if facts["event"] == "archive-export"))
    assert export["category"][0]["coding"][0]["code"] == "110106"
    assert export["agent"][0]["who"]["display"] == "Ms. B"
    assert export["agent"][0]["role"][0]["text"] == "archivist"
    assert [entity["what"]["display"] for entity in export["entity"]] == ["r1", "*"]
    started = made(3, EVENTS[0])
    assert started["agent"][0]["who"] == {"type": "Device", "display": "mediaserver"}
    assert {detail["type"]["text"] for detail in started["entity"][0]["detail"]} == {"url", "media_ports"}


def test_ids_are_steady_and_apart() -> None:
    ids = [made(number, facts)["id"] for number, facts in enumerate(EVENTS)]
    assert len(set(ids)) == len(EVENTS)
    assert ids == [made(number, facts)["id"] for number, facts in enumerate(EVENTS)]


def test_a_bundle_is_valid() -> None:
    bundle = fhir.bundle(made(number, facts) for number, facts in enumerate(EVENTS))
    read = get_fhir_model_class("Bundle").model_validate(bundle)
    assert len(read.entry) == len(EVENTS)
    assert bundle["entry"][0]["fullUrl"] == f"urn:uuid:{bundle['entry'][0]['resource']['id']}"
