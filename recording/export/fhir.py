"""The audit trail as FHIR R5 AuditEvent resources (https://hl7.org/fhir/R5/auditevent.html).

Categories and codes are those of DICOM (PS3.16, CID 400 and 401) and of ISO 21089 record life cycles; the trail's own
event is a further coding of `code`, in the system `EVENTS`. An event's id is made of its number in the trail.
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from mediaserver.recording.chained import Line

EVENTS = "urn:mediaserver:audit-event"
DETAILS = "urn:mediaserver:audit-detail"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
OUTCOMES = "http://terminology.hl7.org/CodeSystem/audit-event-outcome"
SOURCES = "http://terminology.hl7.org/CodeSystem/security-source-type"
ROLES = "http://terminology.hl7.org/CodeSystem/object-role"
OWN_ROLES = "urn:mediaserver:role"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, EVENTS)

Json = dict[str, Any]

_DISPLAY = {
    "110100": "Application Activity",
    "110101": "Audit Log Used",
    "110106": "Export",
    "110110": "Patient Record",
    "110112": "Query",
    "110113": "Security Alert",
    "110114": "User Authentication",
    "110120": "Application Start",
    "110121": "Application Stop",
    "110122": "Login",
    "110123": "Logout",
    "110127": "Emergency Override Started",
    "110150": "Application",
}


class _Kind(NamedTuple):
    """`category` is a DICOM code, `code` one of DICOM or of the life cycle; `action` C, R, U, D or E."""

    category: str
    code: str
    action: str
    severity: str = "informational"
    outcome: str = "0"


_KINDS = {
    "server-started": _Kind("110100", "110120", "E"),
    "server-stopped": _Kind("110100", "110121", "E"),
    "join": _Kind("110114", "110122", "E"),
    "leave": _Kind("110114", "110123", "E"),
    "denied": _Kind("110114", "110122", "E", "warning", "8"),
    "removed": _Kind("110114", "110123", "E", "notice"),
    "room-closed": _Kind("110100", "110123", "E", "notice"),
    "recording-started": _Kind("110110", "originate", "C"),
    "recording-stopped": _Kind("110110", "originate", "U"),
    "recording-alarm": _Kind("110110", "originate", "U", "error", "8"),
    "consent-asked": _Kind("110110", "originate", "E"),
    "consent-given": _Kind("110110", "originate", "U", "notice"),
    "consent-refused": _Kind("110110", "originate", "U", "notice"),
    "consent-withdrawn": _Kind("110110", "originate", "U", "notice"),
    "consent-erased": _Kind("110110", "destroy", "D", "notice"),
    "archive-list": _Kind("110112", "access", "E"),
    "archive-show": _Kind("110110", "access", "R"),
    "archive-play": _Kind("110110", "access", "R"),
    "archive-verify": _Kind("110110", "verify", "R"),
    "archive-export": _Kind("110106", "disclose", "R", "notice"),
    "archive-delete": _Kind("110110", "destroy", "D", "notice"),
    "archive-hold": _Kind("110110", "hold", "U", "notice"),
    "archive-release": _Kind("110110", "unhold", "U", "notice"),
    "archive-hold-lifted": _Kind("110110", "unhold", "U", "notice"),
    "archive-retention": _Kind("110110", "amend", "U", "notice"),
    "archive-due": _Kind("110112", "access", "E"),
    "archive-identify": _Kind("110110", "amend", "U", "notice"),
    "identifiers-refused": _Kind("110110", "amend", "U", "warning", "8"),
    "archive-erase": _Kind("110110", "deidentify", "U", "notice"),
    "archive-audit": _Kind("110101", "access", "R"),
    "break-glass": _Kind("110113", "110127", "E", "alert"),
    "break-glass-reviewed": _Kind("110113", "110101", "E", "notice"),
    "archive-broken-glass": _Kind("110101", "access", "R"),
    "trail-cut": _Kind("110113", "110101", "E", "critical", "12"),
    "trail-lost": _Kind("110113", "110101", "E", "error", "8"),
    "trail-torn": _Kind("110113", "110101", "E", "warning", "4"),
}
_OTHER = _Kind("110101", "110101", "E")
"""What the trail says of itself: sealed, rotated, adopted."""

# What stands in fields of its own, and so not in the details.
_CHAIN = {"seq", "prev", "key", "signature", "register"}
_PLACED = _CHAIN | {"time", "event", "recording", "room", "participant", "address", "name", "role", "by", "reason"}


def audit_events(lines: Iterable[Line]) -> Iterator[Json]:
    """One AuditEvent a line of the trail."""
    for line in lines:
        yield audit_event(line)


def audit_event(line: Line) -> Json:
    facts = line.facts
    event = str(facts.get("event"))
    kind = _KINDS.get(event, _OTHER)
    outcome: Json = {"code": {"system": OUTCOMES, "code": kind.outcome}}
    if facts.get("reason"):
        outcome["detail"] = [{"text": str(facts["reason"])}]
    resource: Json = {
        "resourceType": "AuditEvent",
        "id": str(uuid.uuid5(_NAMESPACE, f"{line.seq} {facts.get('prev')}")),
        "category": [{"coding": [_coding(kind.category)]}],
        "code": {"coding": [_coding(kind.code), {"system": EVENTS, "code": event}]},
        "action": kind.action,
        "severity": kind.severity,
        "recorded": str(facts.get("time")),
        "outcome": outcome,
        "agent": [_agent(facts)],
        "source": {
            "observer": {"type": "Device", "display": "mediaserver"},
            "type": [{"coding": [{"system": SOURCES, "code": "4", "display": "Application Server"}]}],
        },
    }
    entities = list(_entities(facts))
    if entities:
        resource["entity"] = entities
    return resource


def bundle(resources: Iterable[Json]) -> Json:
    """All in one Bundle of the type collection."""
    entries = [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _coding(code: str) -> Json:
    if not code.isdigit():
        return {"system": LIFECYCLE, "code": code}
    return {"system": DICOM, "code": code, "display": _DISPLAY[code]}


def _agent(facts: Json) -> Json:
    """Who did it: a person by name, role and address, else the server itself."""
    role = str(facts.get("role") or facts.get("by") or "")
    name, participant, address = facts.get("name"), facts.get("participant"), facts.get("address")
    if not (role or name or participant or address):
        return {
            "type": {"coding": [_coding("110150")]},
            "who": {"type": "Device", "display": "mediaserver"},
            "requestor": False,
        }
    who: Json = {"display": str(name or role or participant or address)}
    if participant:
        who["identifier"] = {"system": "urn:mediaserver:participant", "value": str(participant)}
    agent: Json = {"who": who, "requestor": True}
    if role:
        agent["role"] = [{"coding": [{"system": OWN_ROLES, "code": role.replace(" ", "-")}], "text": role}]
    if address:
        agent |= _network(str(address))
    return agent


def _network(address: str) -> Json:
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return {"networkString": address}
    return {"networkUri": f"urn:ipv{version}:{address}"}


def _entities(facts: Json) -> Iterator[Json]:
    if facts.get("recording"):
        yield _entity("recording", str(facts["recording"]), "3", "Report")
    if facts.get("room"):
        yield _entity("room", str(facts["room"]), "4", "Domain Resource")
    details = [
        {"type": {"coding": [{"system": DETAILS, "code": name}], "text": name}, "valueString": str(value)}
        for name, value in facts.items()
        if name not in _PLACED and value not in (None, "", [])
    ]
    if details:
        yield {"detail": details}


def _entity(name: str, value: str, role: str, display: str) -> Json:
    return {
        "what": {"identifier": {"system": f"urn:mediaserver:{name}", "value": value}, "display": value},
        "role": {"coding": [{"system": ROLES, "code": role, "display": display}]},
    }
