"""Encoded loops in the user's cache folder: what took seconds to draw and to encode is read in a moment next time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import msgspec

from mediaserver.loadtest.loops import Loop

VERSION = 1
"""Goes up when the same words would be drawn or encoded otherwise."""


def folder() -> Path:
    """After the XDG Base Directory Specification."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "mediaserver" / "loadtest"


def cached(words: str, make: Callable[[], Loop]) -> Loop:
    """The loop that `words` describe, from the cache or else made and kept. A cache that can't be used is none."""
    name = hashlib.sha256(f"{VERSION} {av.__version__} {words}".encode()).hexdigest()[:32]
    path = folder() / f"{name}.loop"
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Loop)
    except (OSError, msgspec.DecodeError):
        made = make()
    with contextlib.suppress(OSError):
        _keep(path, msgspec.msgpack.encode(made))
    return made


def _keep(path: Path, data: bytes) -> None:
    # Several processes may make the same at a time: each puts a whole file in place.
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    Path(unfinished).replace(path)
