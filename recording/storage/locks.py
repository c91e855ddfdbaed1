"""What S3 can do beside objects: retention, legal hold, versions, and uploads that were never finished."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from mediaserver.recording.storage.s3 import CONNECT_SECONDS, REQUEST_SECONDS, S3Settings

ResultT = TypeVar("ResultT")
Work = Callable[[Any], Coroutine[Any, Any, ResultT]]
_UNLOCKED = ("NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest")
_GONE = ("NoSuchKey", "NoSuchVersion", "404")


class Locks:
    """Its calls block; they are carried out one after the other on a thread with a loop. Errors are OSError."""

    def __init__(self, settings: S3Settings, wall_us: Callable[[], int]) -> None:
        """`wall_us` gives Unix time, from which a retention counts."""
        self._settings = settings
        self._wall_us = wall_us
        self._turn = threading.Lock()
        self._session = get_session()

    @property
    def wanted(self) -> bool:
        """Objects are to be locked."""
        return bool(self._settings.retention_days) or self._settings.legal_hold

    def lock(self, key: str) -> None:
        """Put retention and legal hold, as they are set, on the newest version of an object."""
        settings = self._settings

        async def work(client: Any) -> None:
            target = {"Bucket": settings.bucket, "Key": key}
            if settings.retention_days:
                until = datetime.fromtimestamp(self._wall_us() // 1_000_000, UTC) + timedelta(
                    days=settings.retention_days
                )
                retention = {"Mode": settings.retention_mode.upper(), "RetainUntilDate": until}
                await client.put_object_retention(**target, Retention=retention)
            if settings.legal_hold:
                await client.put_object_legal_hold(**target, LegalHold={"Status": "ON"})

        self._call(work)

    def delete_all(self, key: str) -> None:
        """Every version of an object. Raises PermissionError when one is locked."""
        bucket = self._settings.bucket

        async def work(client: Any) -> None:
            found = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
            async for page in found:
                for version in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    if version["Key"] == key:
                        await client.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])

        self._call(work)

    def delete_below(self, prefix: str) -> None:
        """Every version of all objects below a prefix, a folder. Raises PermissionError when one is locked."""
        bucket = self._settings.bucket

        async def work(client: Any) -> None:
            async for version in _versions(client, bucket, prefix, "Versions", "DeleteMarkers"):
                await client.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])

        self._call(work)

    def kept_by(self, prefix: str) -> str:
        """What keeps objects below a prefix from being deleted now, in words; empty when nothing does."""
        bucket, now = self._settings.bucket, datetime.fromtimestamp(self._wall_us() // 1_000_000, UTC)

        async def work(client: Any) -> str:
            until: tuple[datetime, str] | None = None
            async for version in _versions(client, bucket, prefix, "Versions"):
                target = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
                found = await _asked(client.get_object_legal_hold(**target))
                if found.get("LegalHold", {}).get("Status") == "ON":
                    return f"the bucket has a legal hold on {version['Key'].removeprefix(prefix)}"
                kept = (await _asked(client.get_object_retention(**target))).get("Retention", {})
                if kept.get("RetainUntilDate") and kept["RetainUntilDate"] > now:
                    until = max(until or (now, ""), (kept["RetainUntilDate"], str(kept.get("Mode", "")).lower()))
            return f"the bucket keeps it until {until[0]:%Y-%m-%d %H:%M} UTC ({until[1]} retention)" if until else ""

        return self._call(work)

    def hide(self, prefix: str) -> None:
        """Put a delete marker over every object below a prefix, where the bucket keeps versions: it is found by its
        name no longer, and so not locked either. Without versions there are no locks, and nothing happens."""
        bucket = self._settings.bucket

        async def work(client: Any) -> None:
            if (await client.get_bucket_versioning(Bucket=bucket)).get("Status") != "Enabled":
                return
            async for version in _versions(client, bucket, prefix, "Versions"):
                if version["IsLatest"]:
                    await client.delete_object(Bucket=bucket, Key=version["Key"])

        self._call(work)

    def show(self, prefix: str) -> None:
        """Take the delete markers over the objects below a prefix away."""
        bucket = self._settings.bucket

        async def work(client: Any) -> None:
            async for marker in _versions(client, bucket, prefix, "DeleteMarkers"):
                if marker["IsLatest"]:
                    await client.delete_object(Bucket=bucket, Key=marker["Key"], VersionId=marker["VersionId"])

        self._call(work)

    def abort_unfinished(self, prefix: str) -> int:
        """Drop the parts of uploads that a crash has interrupted; gives how many uploads there were."""
        bucket = self._settings.bucket

        async def work(client: Any) -> int:
            count = 0
            found = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
            async for page in found:
                for upload in page.get("Uploads", []):
                    await client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                    count += 1
            return count

        return self._call(work)

    def _call(self, work: Work[ResultT]) -> ResultT:
        """On a loop of this call's own: these calls are few, and a thread that has a loop may not run another."""
        result: list[ResultT] = []
        errors: list[BaseException] = []

        async def run() -> None:
            settings = self._settings
            given = {"aws_access_key_id": settings.access_key, "aws_secret_access_key": settings.secret_key}
            async with self._session.create_client(
                "s3",
                region_name=settings.region,
                endpoint_url=settings.endpoint or None,
                config=AioConfig(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=REQUEST_SECONDS,
                    retries={"total_max_attempts": 3},
                    s3={"addressing_style": "path"} if settings.endpoint else {},
                ),
                **(given if settings.access_key else {}),
            ) as client:
                result.append(await work(client))

        def thread() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:
                errors.append(error)

        with self._turn:
            runner = threading.Thread(target=thread, name="s3-locks")
            runner.start()
            runner.join()
        for error in errors:
            if isinstance(error, ClientError):
                code = error.response.get("Error", {}).get("Code", "")
                kind = FileNotFoundError if code in _GONE else PermissionError if code == "AccessDenied" else OSError
                raise kind(f"S3: {error}") from None
            if isinstance(error, BotoCoreError):
                raise OSError(f"S3: {error}") from None
            raise error
        return result[0]


async def _versions(client: Any, bucket: str, prefix: str, *kinds: str) -> AsyncIterator[dict[str, Any]]:
    """A list that was made before the first is given, so that they can be deleted meanwhile."""
    found = []
    async for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        found += [version for kind in kinds for version in page.get(kind, [])]
    for version in found:
        yield version


async def _asked(answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """What is said of a lock; nothing where the object or the bucket has none."""
    try:
        return await answer
    except ClientError as error:
        if error.response.get("Error", {}).get("Code", "") in _UNLOCKED:
            return {}
        raise
