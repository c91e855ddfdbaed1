"""What happens in a room, for those who watch it: what its state machine says (`sfu.session.events`), and these."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from mediaserver import protocol
from mediaserver.consent import Said
from mediaserver.sfu.session import events as ev

if TYPE_CHECKING:
    from mediaserver.live_room import LiveRoom


class RoomOpened(msgspec.Struct, frozen=True):
    """The first participant is about to come in."""


class RoomClosed(msgspec.Struct, frozen=True):
    """The last participant has gone."""


class RecordingChanged(msgspec.Struct, frozen=True):
    """A recording has begun, ended, or is in trouble."""

    state: protocol.RecordingState
    recording: str | None = None
    detail: str = ""
    tracks: tuple[str, ...] = ()
    """Those that go into it."""


class ConsentChanged(msgspec.Struct, frozen=True):
    """A participant has agreed to be recorded, has refused, or has withdrawn."""

    said: Said


RoomEvent = ev.Event | RoomOpened | RoomClosed | RecordingChanged | ConsentChanged
Observer = Callable[["LiveRoom", RoomEvent], None]
