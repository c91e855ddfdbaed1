"""Why the archive does not do what it is asked for."""

from __future__ import annotations


class UnknownRecording(LookupError):
    """There is no such recording, track or segment; the message says which."""


class Disposed(UnknownRecording):
    """The recording was disposed of; the message says when, by whom and why."""


class Held(Exception):
    """A hold stands, or may have stood; the message says whose."""


class StillRecording(Exception):
    """The recording is not closed yet."""


class ArchiveInUse(Exception):
    """Another process owns the archive."""


class ArchiveUnusable(Exception):
    """The folder or the catalog can't be used; the message says why, and what can be done."""
