"""What `mediaserver archive audit` prints: the audit trail for people, for programs, and as FHIR."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import typer

from mediaserver.recording.chained import Line
from mediaserver.recording.keys import TrustedKeys
from mediaserver.recording.trail import Reading
from mediaserver.recording.views import from_iso

Fhir = Literal["ndjson", "bundle"]


def print_trail(
    data: Path,
    trusted: TrustedKeys,
    *,
    since: str = "",
    recording: str = "",
    fhir: Fhir | None = None,
    as_json: bool = False,
) -> None:
    """To the standard output. Raises OSError, and ValueError for a time that is none."""
    lines = _chosen(Reading(data, trusted).lines(), from_iso(since) if since else None, recording)
    if fhir is not None:
        _print_fhir(lines, fhir)
        return
    for line in lines:
        if as_json:
            _put(line.facts)
        else:
            typer.echo(_told(line))


def _chosen(lines: Iterable[Line], since_us: int | None, recording: str) -> Iterator[Line]:
    for line in lines:
        if recording and line.facts.get("recording") != recording:
            continue
        if since_us is not None and _time(line) < since_us:
            continue
        yield line


def _time(line: Line) -> int:
    try:
        return from_iso(str(line.facts.get("time")))
    except ValueError:
        return 0


def _told(line: Line) -> str:
    """For people: time, event, and what else is said."""
    hidden = ("seq", "prev", "time", "event", "key", "signature", "register")
    rest = " ".join(f"{name}={_shown(value)}" for name, value in line.facts.items() if name not in hidden)
    return f"{line.facts.get('time')}  {line.seq:>8}  {line.facts.get('event'):<18} {rest}".rstrip()


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, int | float) else msgspec.json.encode(value).decode()
    bare = text[1:-1] if text.startswith('"') else text
    return bare if bare and not any(mark in bare for mark in ' "\\=') else text


def _print_fhir(lines: Iterable[Line], form: Fhir) -> None:
    from mediaserver.recording.export import fhir

    if form == "bundle":
        _put(fhir.bundle(fhir.audit_events(lines)))
    else:
        for resource in fhir.audit_events(lines):
            _put(resource)


def _put(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
