"""The keys of a server: the one that signs, and those whose signatures count."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import structlog

from mediaserver import config
from mediaserver.config import ConfigError
from mediaserver.recording import timestamp
from mediaserver.recording.archive import Archive
from mediaserver.recording.keys import (
    SigningKey,
    TrustedKeys,
    own_key,
    read_certificates,
    read_private,
    read_public,
)
from mediaserver.recording.trail import Limits
from mediaserver.settings import EvidenceSettings
from mediaserver.timestamps import TimeStamps

log = structlog.get_logger("mediaserver.evidence")


class Keys(NamedTuple):
    signer: SigningKey
    trusted: TrustedKeys


def time_stamps(settings: EvidenceSettings, archive: Archive, keys: Keys) -> TimeStamps | None:
    """What stamps the recordings, where an authority is configured. Raises `ConfigError`."""
    if not settings.timestamp_url:
        return None
    if find_spec("rfc3161_client") is None:
        raise ConfigError(f"evidence.timestamp_url: {timestamp.MISSING}")
    return TimeStamps(archive, settings.timestamp_url, keys.trusted.authorities, settings.timestamp_retry_seconds)


def audit_limits(settings: EvidenceSettings) -> Limits:
    return Limits(
        part_bytes=int(settings.audit_part_mb * (1 << 20)),
        seal_lines=settings.audit_seal_lines,
        seal_us=int(settings.audit_seal_seconds * 1e6),
    )


def open_keys(settings: EvidenceSettings, folder: Path) -> Keys:
    """The keys by configuration; where none is configured that of `folder`, which is made when it is not there.

    The public keys are laid into `folder` too, for the command line. Raises `ConfigError`.
    """
    try:
        if settings.key:
            signer, trusted = read_private(settings.key, "evidence.key"), TrustedKeys()
        elif settings.key_file:
            name = f"evidence.key_file {settings.key_file}"
            signer, trusted = read_private(config.read_text(settings.key_file), name), TrustedKeys()
        else:
            signer, made = own_key(folder)
            trusted = TrustedKeys.load(folder)
            if made:
                log.warning(
                    "no key for signing recordings is configured, so one was made; keep a copy of it elsewhere",
                    file=str(folder / "signing.key"),
                    key=signer.id,
                )
        trusted.add(signer.public)
        for path in settings.trusted_keys:
            trusted.add(read_public(config.read_text(path), f"evidence.trusted_keys {path}"))
        for path in settings.timestamp_certificates:
            name = f"evidence.timestamp_certificates {path}"
            trusted.authorities += read_certificates(config.read_text(path), name)
        trusted.save(folder)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror or error}") from None
    return Keys(signer, trusted)
