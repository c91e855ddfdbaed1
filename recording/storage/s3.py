"""A bucket of an S3 server: objects in and out by obstore. What obstore lacks, versions and locks, is in `locks`.

Everything blocks and raises OSError with a sentence; FileNotFoundError for an object that is not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

PART_BYTES = 8 << 20
PARTS_AT_ONCE = 4
CONNECT_SECONDS = 5
REQUEST_SECONDS = 60
"""For one request; 8 MiB in it is little more than 1 Mbit/s."""
RETRIES = 2
RETRY_SECONDS = 10

LEAST_AHEAD = 64 << 10
MOST_AHEAD = 4 << 20


class S3Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bucket is, and what protects the objects in it. Without keys the usual sources of AWS are asked: its
    environment variables, a web identity, the machine's role."""

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    """Empty: Amazon's."""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = ""
    retention_days: int = 0
    """How long nobody may delete or change an object; 0: the bucket's own default counts."""
    retention_mode: str = "governance"
    legal_hold: bool = False


class Bucket:
    """The objects below the settings' prefix; keys are relative to it."""

    def __init__(self, settings: S3Settings) -> None:
        self._prefix = f"{settings.prefix.strip('/')}/" if settings.prefix.strip("/") else ""
        given: dict[str, Any] = {}
        if settings.endpoint:
            given["endpoint"] = settings.endpoint
        if settings.access_key:
            given |= {"access_key_id": settings.access_key, "secret_access_key": settings.secret_key}
        self._store = S3Store(
            settings.bucket,
            region=settings.region,
            client_options={
                "allow_http": settings.endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "timeout": timedelta(seconds=REQUEST_SECONDS),
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
            **given,
        )

    def key(self, name: str) -> str:
        """The whole key of an object."""
        return self._prefix + name

    def size(self, name: str) -> int | None:
        """None when there is no such object."""
        try:
            with _told():
                return int(obstore.head(self._store, self.key(name))["size"])
        except FileNotFoundError:
            return None

    def put(self, name: str, source: Path | bytes) -> None:
        with _told():
            obstore.put(self._store, self.key(name), source, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)

    def read(self, name: str, size: int, offset: int) -> bytes:
        with _told():
            return bytes(obstore.get_range(self._store, self.key(name), start=offset, length=size))

    def chunks(self, name: str) -> Iterator[bytes]:
        """The whole object, piece by piece."""
        with _told():
            for chunk in obstore.get(self._store, self.key(name)).stream(min_chunk_size=1 << 20):
                yield bytes(chunk)

    def sha256(self, name: str) -> str:
        """Of what the server gives back."""
        digest = hashlib.sha256()
        for chunk in self.chunks(name):
            digest.update(chunk)
        return digest.hexdigest()

    def names(self, under: str = "") -> Iterator[str]:
        """All objects whose name begins with `under`, a folder."""
        with _told():
            for page in obstore.list(self._store, self.key(under) or None, chunk_size=1000):
                for entry in page:
                    yield entry["path"].removeprefix(self._prefix)


class BucketReader:
    """An object to read by ranges. Who reads on and on is given more at a time."""

    def __init__(self, bucket: Bucket, name: str, size: int) -> None:
        self.size = size
        self._bucket = bucket
        self._name = name
        self._buffer = b""
        self._start = 0
        self._ahead = LEAST_AHEAD

    def read(self, size: int, offset: int) -> bytes:
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        end = self._start + len(self._buffer)
        if not (self._start <= offset and offset + size <= end):
            self._ahead = min(self._ahead * 2, MOST_AHEAD) if self._start <= offset <= end else LEAST_AHEAD
            kept = self._buffer[offset - self._start :] if self._start <= offset < end else b""
            wanted = min(max(size, self._ahead), self.size - offset) - len(kept)
            self._buffer = kept + self._bucket.read(self._name, wanted, offset + len(kept))
            self._start = offset
        return self._buffer[offset - self._start : offset - self._start + size]

    def close(self) -> None:
        self._buffer = b""


@contextmanager
def _told() -> Iterator[None]:
    """The library's errors as OSError, without its debugging text."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(_first(error)) from None
    except BaseError as error:
        raise OSError(f"S3: {_first(error)}") from None


def _first(error: BaseException) -> str:
    return str(error).split("\n\nDebug source", 1)[0].strip()
