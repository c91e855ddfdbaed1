"""A recording that goes on in a room, as the server's parts share it."""

from __future__ import annotations

import asyncio

from mediaserver.consent import Said, Whose
from mediaserver.live_room import LiveRoom
from mediaserver.recording.recorder import Recording
from mediaserver.sfu.session.model import Source

REFUSED = "refused-recording"
"""Why a participant left that publishes where everybody is recorded, and has refused."""


class RecordingRefused(Exception):
    """What was asked about recording can't be; the message says why."""


class Active:
    """A room's recording with its taps: track -> plane id of the tap, which of the tracks are muted, and which are left
    out as their participants have not agreed. `recorded` are the participants, and their sources, of which something
    was recorded."""

    def __init__(self, live: LiveRoom, recording: Recording) -> None:
        self.live = live
        self.recording = recording
        self.taps: dict[str, int] = {}
        self.muted: set[str] = set()
        self.withheld: set[str] = set()
        self.recorded: set[tuple[str, Source]] = set()
        self.whose: Whose | None = None
        self.settle: asyncio.TimerHandle | None = None

    def recorded_of(self, said: Said) -> bool:
        """Whether something was recorded of what this is about."""
        return any((said.participant, source) in self.recorded for source in said.sources)
