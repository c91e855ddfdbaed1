"""Fixtures of the recording's tests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from aiobotocore.session import get_session

from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.storage.s3 import S3Settings
from tests.recording import feed, radosgw
from tests.recording.bucketed import Driven
from tests.recording.radosgw import RadosGateway

_numbers = itertools.count()


@pytest.fixture(params=["plain", "encrypted"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the archives of a test are kept; the test runs once for each."""
    monkeypatch.setattr(feed, "encrypted", request.param == "encrypted")
    return str(request.param)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RadosGateway]:
    """A real S3 server, started once for all tests that need one."""
    if missing := radosgw.missing():
        pytest.skip(f"Ceph's RadosGW is not installed here ({', '.join(missing)}); .ci/prepare test installs it")
    server = RadosGateway(tmp_path_factory.mktemp("rgw"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def shared_bucket(gateway: RadosGateway) -> S3Settings:
    """A bucket in which objects can be locked."""

    async def make() -> None:
        async with get_session().create_client(
            "s3",
            endpoint_url=gateway.endpoint,
            region_name="us-east-1",
            aws_access_key_id=radosgw.ACCESS_KEY,
            aws_secret_access_key=radosgw.SECRET_KEY,
        ) as client:
            await client.create_bucket(Bucket="archive", ObjectLockEnabledForBucket=True)

    asyncio.run(make())
    return S3Settings(
        bucket="archive",
        endpoint=gateway.endpoint,
        access_key=radosgw.ACCESS_KEY,
        secret_key=radosgw.SECRET_KEY,
    )


@pytest.fixture
def bucket(shared_bucket: S3Settings) -> S3Settings:
    """A place of a test's own in it."""
    return msgspec.structs.replace(shared_bucket, prefix=f"server-{next(_numbers)}")


StorageAt = Callable[[Path], LocalStorage]


@pytest.fixture(params=["local", "local-encrypted", "s3", "s3-encrypted"])
def storage_at(request: pytest.FixtureRequest) -> StorageAt:
    """Makes a storage with its local folder; the test runs once for each kind."""
    masters = feed.MASTERS if "encrypted" in request.param else None
    if "s3" not in request.param:
        return lambda root: LocalStorage(root, masters)
    settings: S3Settings = request.getfixturevalue("bucket")
    return lambda root: Driven(root, settings, masters)
