"""A recording that goes on in a room, as the server's parts share it."""

from __future__ import annotations

import asyncio

from mediaserver.consent import Whose
from mediaserver.recording.recorder import Recording
from mediaserver.rooms import LiveRoom

REFUSED = "refused-recording"
"""Why a participant left that publishes where everybody is recorded, and has refused."""


class RecordingRefused(Exception):
    """What was asked about recording can't be; the message says why."""


class Active:
    """A room's recording with its taps: track -> plane id of the tap, which of the tracks are muted, and which are left
    out as their participants have not agreed. `recorded` are the participants of whom something was recorded."""

    def __init__(self, live: LiveRoom, recording: Recording) -> None:
        self.live = live
        self.recording = recording
        self.taps: dict[str, int] = {}
        self.muted: set[str] = set()
        self.withheld: set[str] = set()
        self.recorded: set[str] = set()
        self.whose: Whose | None = None
        self.settle: asyncio.TimerHandle | None = None
