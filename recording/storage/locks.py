"""What S3 can do beside objects: retention, legal hold, versions, and uploads that were never finished."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from mediaserver.recording.storage.s3 import CONNECT_SECONDS, REQUEST_SECONDS, S3Settings

ResultT = TypeVar("ResultT")
Work = Callable[[Any], Coroutine[Any, Any, ResultT]]
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
