"""The chain over a recording's files: each link is the SHA-256 of the link before it and of the next file's facts.

The links stand in the journal while the recording grows; the last one, the head, in the manifest. A shell follows it::

    printf '%s %s %s %s\\n' LINK-BEFORE SHA256 BYTES NAME | sha256sum
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec


class Chain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`files` in the order in which they were completed, and the last link."""

    files: list[str]
    head: str


def origin(recording: str) -> str:
    """What the first link follows."""
    return hashlib.sha256(f"{recording}\n".encode()).hexdigest()


def link(before: str, file: str, size: int, sha256: str) -> str:
    return hashlib.sha256(f"{before} {sha256} {size} {file}\n".encode()).hexdigest()


def follow(recording: str, files: Iterable[tuple[str, int, str]]) -> str:
    """The head over files given as name, size and SHA-256, in their order."""
    head = origin(recording)
    for file, size, sha256 in files:
        head = link(head, file, size, sha256)
    return head
