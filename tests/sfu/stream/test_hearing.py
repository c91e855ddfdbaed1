"""What the engine hears of sounds: a clinical one that is altered, and who speaks."""

from __future__ import annotations

import msgspec
import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.policy.untouched import SoundFault
from mediaserver.sfu.stream.params import EventKind, PayloadParams
from mediaserver.sfu.wire import packet
from mediaserver.sfu.wire.packet import ExtKind
from tests.sfu.stream.test_engine import AUDIO, MS, House

CELT, SILK = bytes([31 << 3]) + bytes(319), bytes([9 << 3]) + bytes(319)


class Ward(House):
    """A house with a sound, and what is told of it: kind and value."""

    def __init__(self, codec: Codec = Codec.CODEC_OPUS, **more: object) -> None:
        super().__init__()
        payloads = (PayloadParams(111, Codec.CODEC_OPUS, 48000), PayloadParams(63, Codec.CODEC_RED, 48000))
        self.payload_type = 63 if codec == Codec.CODEC_RED else 111
        self.engine.add_track(101, 1, msgspec.structs.replace(AUDIO, payloads=payloads, **more))
        self.told: list[tuple[EventKind, int]] = []
        self.number = 5

    def hear(self, seconds: float, payload: bytes, *, extensions: bytes = b"") -> None:
        for _ in range(round(seconds * 50)):
            self.number += 1
            data = packet.write_rtp(
                payload_type=self.payload_type,
                marker=False,
                sequence=self.number % 2**16,
                timestamp=self.number * 960 % 2**32,
                ssrc=55,
                payload=payload,
                extensions=extensions,
            )
            self.cart.send(data, self.now)
            self.wait(20 * MS)
            self.told += [
                (e.kind, e.value) for e in self.engine.poll_events() if e.kind in (EventKind.SOUND, EventKind.VOICE)
            ]


def red(payload: bytes) -> bytes:
    """The payload behind a copy of another one (RFC 2198)."""
    return (1 << 31 | 111 << 24 | 960 << 10 | 300).to_bytes(4) + b"\x6f" + bytes(300) + payload


@pytest.mark.parametrize("codec", [Codec.CODEC_OPUS, Codec.CODEC_RED])
def test_an_altered_sound_is_told_once(codec: Codec) -> None:
    wrap = red if codec == Codec.CODEC_RED else bytes
    house = Ward(codec, untouched_bps=64_000)
    house.hear(5, wrap(CELT))
    assert house.told == []
    house.hear(8, wrap(SILK))
    assert house.told == [(EventKind.SOUND, SoundFault.SOUND_SPEECH | SoundFault.SOUND_BANDWIDTH)]
    house.hear(8, wrap(CELT))
    assert house.told[1:] == [(EventKind.SOUND, 0)]


def test_other_sounds_may_come_as_they_like() -> None:
    house = Ward()
    house.hear(10, SILK)
    assert house.told == []


def leveled(level: int) -> bytes:
    """The extension block with an audio level (RFC 6464) in one-byte form, V set."""
    return b"\xbe\xde\x00\x01" + bytes([4 << 4, 0x80 | level, 0, 0])


def test_a_voice_speaks_and_falls_silent() -> None:
    house = Ward(voice=True, extensions=((4, ExtKind.EXT_AUDIO_LEVEL),))
    house.hear(2, CELT, extensions=leveled(90))
    house.hear(2, CELT)  # without a level nothing is known
    assert house.told == []
    house.hear(3, CELT, extensions=leveled(30))
    house.hear(3, CELT, extensions=leveled(90))
    kinds, values = zip(*house.told, strict=True)
    assert set(kinds) == {EventKind.VOICE}
    assert [value >> 8 for value in values] == [1] * (len(values) - 1) + [0]
    assert 8 <= len(values) <= 18
    assert values[5] & 0xFF == 97


def test_a_muted_voice_does_not_speak_nor_does_a_stethoscope() -> None:
    house = Ward(voice=True, extensions=((4, ExtKind.EXT_AUDIO_LEVEL),))
    house.hear(2, CELT, extensions=leveled(30))
    house.engine.mute_track(101, True)
    house.hear(3, CELT, extensions=leveled(30))
    assert house.told[-1][1] >> 8 == 0
    heart = Ward(untouched_bps=64_000, extensions=((4, ExtKind.EXT_AUDIO_LEVEL),))
    heart.hear(5, CELT, extensions=leveled(10))
    assert heart.told == []
