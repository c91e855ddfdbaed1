"""Time stamps by a real authority: got in the background, over failures and restarts, and checked years later."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from mediaserver import Config, ConfigError, MediaServer
from mediaserver.config import load
from mediaserver.evidence import open_keys
from mediaserver.recording.archive import Archive
from mediaserver.recording.evidence import TIME_STAMP, Evidence
from mediaserver.recording.keys import TrustedKeys, make_key
from mediaserver.recording.manifest import NAME as MANIFEST
from mediaserver.recording.verify import Report
from mediaserver.settings import DataSettings, EvidenceSettings, HttpSettings, MediaSettings
from mediaserver.timestamps import TimeStamps
from tests.mediaserver.authority import Authority
from tests.mediaserver.conftest import SECONDS
from tests.recording.test_evidence import Kept, named, verified

RETRY = 0.05


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with Authority(tmp_path_factory.mktemp("authority")) as one:
        yield one


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A data folder as a server has left it, with two recordings and no time stamps."""
    data = tmp_path_factory.mktemp("data")
    (data / "keys").mkdir()
    key = open_keys(EvidenceSettings(), data / "keys").signer
    kept = Kept(data / "archive", key)
    asyncio.run(kept.fill())
    return kept


@pytest.fixture
def kept(original: Kept, tmp_path: Path) -> Kept:
    shutil.copytree(original.root.parent, tmp_path / "data")
    copy = Kept(tmp_path / "data" / "archive", original.evidence.signer or make_key())
    copy.ids = original.ids
    return copy


def trusting(kept: Kept, authority: Authority) -> Evidence:
    keys = open_keys(EvidenceSettings(timestamp_certificates=(str(authority.root),)), kept.root.parent / "keys")
    return Evidence(keys.trusted, keys.signer, kept.evidence.register, lambda: 0)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until_stamped(kept: Kept, *numbers: int) -> None:
    await until(lambda: all((kept.folder(number) / TIME_STAMP).exists() for number in numbers))


async def stamp(kept: Kept, authority: Authority, url: str = "") -> int:
    """As a server does it until all is stamped; gives the failures meanwhile."""
    evidence = trusting(kept, authority)
    archive = Archive(kept.root, evidence=evidence)
    await archive.open()
    stamps = TimeStamps(archive, url or authority.url, evidence.trusted.authorities, RETRY)
    stamps.start()
    try:
        await until(lambda: stamps.failures >= 2 or not authority.broken)
        authority.broken = ""
        await until_stamped(kept, 0, 1)
        await until(lambda: not stamps.pending)
    finally:
        await stamps.close()
        await archive.close()
    return stamps.failures


def report(kept: Kept, authority: Authority, number: int = 0) -> Report:
    return verified(kept.root, trusting(kept, authority), kept.ids[number])


def test_a_server_stamps_what_an_earlier_run_has_left(kept: Kept, authority: Authority) -> None:
    evidence = EvidenceSettings(timestamp_url=authority.url, timestamp_certificates=(str(authority.root),))
    config = Config(
        http=HttpSettings(address="127.0.0.1:0"),
        media=MediaSettings(udp=":0", workers=1),
        data=DataSettings(dir=str(kept.root.parent)),
        evidence=evidence,
    )

    async def main() -> None:
        async with MediaServer(config) as server:
            await until_stamped(kept, 0, 1)
            assert b"mediaserver_time_stamps_pending" in server.metrics.text()

    asyncio.run(main())
    for number in (0, 1):
        found = report(kept, authority, number)
        assert found.ok, found
        assert found.time_stamp.endswith("Z")
    # With no word of this software:
    files = ("-data", str(kept.folder() / MANIFEST), "-in", str(kept.folder() / TIME_STAMP))
    assert authority.openssl("ts", "-verify", *files, "-CAfile", str(authority.root)).strip()[:0] == b""


@pytest.mark.parametrize("broken", ["refuses", "nonsense", "other"])
def test_an_authority_that_fails_is_asked_again(kept: Kept, authority: Authority, broken: str) -> None:
    authority.broken = broken
    assert asyncio.run(stamp(kept, authority)) >= 2
    assert report(kept, authority).ok
    assert report(kept, authority, 1).ok


def test_an_authority_that_is_not_there_at_first(kept: Kept, tmp_path: Path) -> None:
    """What could not be stamped before a restart is stamped after it."""
    with Authority(tmp_path / "authority") as gone:
        url = gone.url
    evidence = trusting(kept, gone)

    async def in_vain() -> None:
        archive = Archive(kept.root, evidence=evidence)
        await archive.open()
        stamps = TimeStamps(archive, url, evidence.trusted.authorities, RETRY)
        stamps.start()
        await until(lambda: stamps.failures >= 2)
        assert stamps.pending == 2
        await stamps.close()
        await archive.close()

    asyncio.run(in_vain())
    with Authority(tmp_path / "authority") as back:
        assert asyncio.run(stamp(kept, back)) == 0
    assert report(kept, back).ok


def test_stamps_that_fail(kept: Kept, authority: Authority, tmp_path: Path) -> None:
    asyncio.run(stamp(kept, authority))
    strangers = Evidence(TrustedKeys([kept.evidence.signer.public] if kept.evidence.signer else []))
    assert named(verified(kept.root, strangers, kept.ids[0])) == [("time-stamp", TIME_STAMP)]
    other = Authority(tmp_path / "other")
    strangers.trusted.authorities += trusting_only(other)
    assert named(verified(kept.root, strangers, kept.ids[0])) == [("time-stamp", TIME_STAMP)]
    genuine = (kept.folder() / TIME_STAMP).read_bytes()
    shutil.copy(kept.folder(1) / TIME_STAMP, kept.folder() / TIME_STAMP)
    assert named(report(kept, authority)) == [("altered", TIME_STAMP), ("time-stamp", TIME_STAMP)]
    (kept.folder() / TIME_STAMP).unlink()
    assert named(report(kept, authority)) == [("missing", TIME_STAMP)]
    for position in range(0, len(genuine), len(genuine) // 20):
        spoilt = bytearray(genuine)
        spoilt[position] ^= 1
        (kept.folder() / TIME_STAMP).write_bytes(spoilt)
        assert ("altered", TIME_STAMP) in named(report(kept, authority))


def trusting_only(authority: Authority) -> list:  # type: ignore[type-arg]
    from mediaserver.recording.keys import read_certificates

    return read_certificates(authority.root.read_text(), "root")


def test_settings(tmp_path: Path) -> None:
    key = make_key()
    (tmp_path / "key.pem").write_bytes(key.pem())
    environ = {"MEDIASERVER_EVIDENCE_KEY": key.pem().decode()}
    keys = open_keys(load(None, environ).evidence, tmp_path)
    assert keys.signer.id == key.id
    assert (tmp_path / f"{key.id}.pem").exists()
    assert not (tmp_path / "signing.key").exists()
    by_file = open_keys(EvidenceSettings(key_file=str(tmp_path / "key.pem")), tmp_path)
    assert by_file.signer.id == key.id
    for settings, words in (
        (EvidenceSettings(key="rubbish"), "evidence.key is neither"),
        (EvidenceSettings(key_file=str(tmp_path / "none")), "none"),
        (EvidenceSettings(key_file=str(tmp_path / f"{key.id}.pem")), "holds no private key"),
        (EvidenceSettings(trusted_keys=(str(tmp_path / "key.pem"),)), "holds no public key"),
    ):
        with pytest.raises(ConfigError, match=words):
            open_keys(settings, tmp_path)
    for fields in ({"key": "a", "key_file": "b"}, {"timestamp_url": "ftp://x"}, {"timestamp_url": "http://x"}):
        with pytest.raises((ValueError, msgspec.ValidationError)):
            EvidenceSettings(**fields)


def test_a_key_is_made_once_and_kept_to_oneself(tmp_path: Path) -> None:
    first = open_keys(EvidenceSettings(), tmp_path).signer.id
    assert (tmp_path / "signing.key").stat().st_mode & 0o777 == 0o600
    assert open_keys(EvidenceSettings(), tmp_path).signer.id == first
    (tmp_path / "signing.key").unlink()
    again = open_keys(EvidenceSettings(), tmp_path)
    assert again.signer.id != first
    assert first in again.trusted.ids, "what was signed before still verifies"
