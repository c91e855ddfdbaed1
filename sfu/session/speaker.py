"""Who speaks in a room: one voice at a time, and none while nobody does. Pure; times are µs.

What comes in is each track's own state, smoothed where its packets arrive (`sfu.policy.voice`): whether somebody
speaks, and how loud over the last second. Whoever speaks keeps the floor until silent, or until another has been
clearly louder for a while: a cough, an echo or a door takes it from nobody.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final, NamedTuple

MARGIN_DB: Final = 6
CHALLENGE_US: Final = 600_000
"""For so long another has to be louder by `MARGIN_DB`."""
HOLD_US: Final = 1_000_000
"""The least time between two speakers."""
FORGOTTEN_US: Final = 1_500_000
"""Who speaks is told every 0.3 s; of whom nothing came for so long it is not known any more."""


class _Voice(NamedTuple):
    loudness: int
    heard: int


class ActiveSpeaker:
    """`current` is the track that is spoken on, None while nobody speaks."""

    def __init__(self) -> None:
        self.current: str | None = None
        self._voices: dict[str, _Voice] = {}
        self._since = -HOLD_US
        self._challenger: tuple[str, int] | None = None

    def note(self, track: str, *, speaking: bool, loudness: int, now: int) -> bool:
        """What came of a track; whether the speaker is another than before."""
        if speaking:
            self._voices[track] = _Voice(loudness, now)
        else:
            self._voices.pop(track, None)
        return self._settle(now)

    def remove(self, track: str, now: int) -> bool:
        """The track is gone, muted or stale; whether the speaker is another than before."""
        self._voices.pop(track, None)
        return self._settle(now)

    def keep(self, tracks: Container[str]) -> None:
        """Only these are still there."""
        self._voices = {name: voice for name, voice in self._voices.items() if name in tracks}

    def _settle(self, now: int) -> bool:
        self._voices = {name: voice for name, voice in self._voices.items() if now - voice.heard < FORGOTTEN_US}
        before = self.current
        loudest = max(self._voices, key=lambda name: (self._voices[name].loudness, name == before), default=None)
        if before not in self._voices:
            # Its end is told at once; the next speaker waits, so that two who fall silent in turns do not flicker.
            self.current = loudest if now - self._since >= HOLD_US else None
            self._challenger = None
        elif loudest is not None and self._outdone(loudest, now):
            self.current = loudest
            self._challenger = None
        if self.current not in (before, None):
            self._since = now
        return self.current != before

    def _outdone(self, loudest: str, now: int) -> bool:
        """Whether the current speaker has been drowned by this one for long enough."""
        assert self.current is not None
        ahead = self._voices[loudest].loudness - self._voices[self.current].loudness
        if loudest == self.current or ahead < MARGIN_DB:
            self._challenger = None
            return False
        if self._challenger is None or self._challenger[0] != loudest:
            self._challenger = (loudest, now)
        return now - self._challenger[1] >= CHALLENGE_US and now - self._since >= HOLD_US
