"""`mediaserver archive` with the settings and the audit trail of the server whose recordings they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mediaserver.audit import Action, Audit
from mediaserver.clock import Clock
from mediaserver.config import ConfigError, load, read_text
from mediaserver.recording import trail
from mediaserver.recording.cli import app
from mediaserver.recording.commands import common
from mediaserver.recording.commands.common import Stores
from mediaserver.recording.keys import SigningKey, read_private
from mediaserver.settings import Config, EvidenceSettings

__all__ = ["app"]


def _stores(file: Path | None, data: Path | None) -> Stores:
    from mediaserver.archive_storage import make_storage

    settings = _settings(file, data)
    try:
        signer = _signer(settings.evidence)
        return Stores(make_storage(settings, Clock()), settings.catalog.url, settings.retention.policy, signer)
    except ValueError as error:
        raise common.BadSettings(str(error)) from None


def _signer(settings: EvidenceSettings) -> SigningKey | None:
    """The key that the settings name; none is made here. Raises ValueError."""
    if settings.key:
        return read_private(settings.key, "evidence.key")
    if settings.key_file:
        return read_private(read_text(settings.key_file), f"evidence.key_file {settings.key_file}")
    return None


def _settings(file: Path | None, data: Path | None) -> Config:
    try:
        return load(file, flags={"data": {"dir": None if data is None else str(data)}})
    except ConfigError as error:
        raise common.BadSettings(str(error)) from None


def _audit(file: Path | None, data: Path | None, action: Action, facts: Mapping[str, str]) -> None:
    """One line of the trail, chained and signed as the server's own are. It must not run meanwhile."""
    from mediaserver.evidence import audit_limits, open_keys  # which brings the archive and its libraries with it

    settings = _settings(file, data)
    folder = Path(settings.data.dir)
    (folder / "keys").mkdir(parents=True, exist_ok=True)
    try:
        keys = open_keys(settings.evidence, folder / "keys")
    except ConfigError as error:
        raise common.BadSettings(str(error)) from None
    audit = Audit(folder / trail.NAME, Clock(), keys.signer, audit_limits(settings.evidence))
    audit.write(action, **({"by": "command"} | dict(facts)))
    audit.close()


common.stores_of = _stores
common.write_audit = _audit
