"""What a recording is, in writing: the manifest beside its files.

The manifest is canonical JSON: there is one byte sequence for one content, and `digest` is the SHA-256 of the
manifest with an empty digest. Times are Unix times in µs; RTP timestamps are unwrapped from the first one of their
SSRC. A reader that finds another `version` than its own must not guess.
"""

from __future__ import annotations

import hashlib

import msgspec

from mediaserver.recording.chain import Chain
from mediaserver.recording.timeline import Point

VERSION = 1
NAME = "manifest.json"


class Participant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    name: str
    role: str
    joined_us: int


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something of a track that was not recorded.

    `first` and `last` are the sequence numbers (unwrapped) of the packets around whose loss it is about, `packets` how
    many of them are missing; `skipped` pictures came but could not be decoded without them. `from_us` is when the
    last packet before it arrived, `to_us` when the first that is kept again did.
    """

    cause: str
    """lost: never arrived; overflow: the recorder was too slow; disk: writing failed for too long; muted; files: it
    changed so often that it would have begun too many; consent: its participant had not agreed; withdrawn: it was
    recorded, and erased when consent was withdrawn."""
    ssrc: int
    first: int
    last: int
    packets: int
    skipped: int
    from_us: int
    to_us: int


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The plaintext of an encrypted file."""

    bytes: int
    sha256: str


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a track: one SSRC, one codec, one picture size. `bytes` and `sha256` are those of the file as it is
    stored, `content` those of what is in it when it is encrypted.

    Its media time 0 is RTP timestamp `first_rtp`; `mapping` says which wall-clock time an RTP timestamp stands for
    (`timeline.wall_at`). `first_us` and `last_us` are the first's and the end's.
    """

    file: str
    container: str
    codec: str
    """The encoding name in SDP: H264, VP8, opus."""
    clock_rate: int
    ssrc: int
    width: int
    height: int
    reason: str
    """Why it was begun: start, length, size, codec, parameters, ssrc, timestamps, disk, error, packets, crash, consent.
    """
    bytes: int
    sha256: str
    first_rtp: int
    last_rtp: int
    first_us: int
    last_us: int
    units: int
    """Pictures, or packets of sound."""
    keyframes: int
    mapping: list[Point]
    content: Content | msgspec.UnsetType = msgspec.UNSET


class Track(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    source: str
    kind: str
    codec: str
    label: str
    participant: str
    segments: list[Segment]
    gaps: list[Gap]


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that an archivist should know: what could not be muxed, what a recovery has found."""

    track: str
    at_us: int
    text: str


class ConsentRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose tracks went in from `from_us` on."""

    whose: str
    """forbidden: nobody's; consent: of those who had agreed; required: of everybody who published."""
    withdrawal: str
    """keep or erase: what a withdrawal did to what was recorded until then."""
    version: str
    text: str
    """What participants were shown; `version` names it."""
    from_us: int


class ConsentFact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a participant said. A consent may be older than the recording."""

    participant: str
    state: str
    """given, refused, withdrawn."""
    by: str
    """participant: it told the server itself; application: the one that embeds the server, which had asked."""
    witness: str
    """Who had asked, in the application's words."""
    version: str
    """The text that was shown."""
    at_us: int
    erase: bool
    """What was recorded of it until then was to be erased."""
    sources: list[str] | msgspec.UnsetType = msgspec.UNSET
    """All that is agreed to, or what the no is about; absent for everything that the participant publishes."""

    def covers(self, participant: str, source: str) -> bool:
        """Whether it is about the tracks of that source."""
        return self.participant == participant and (self.sources is msgspec.UNSET or source in self.sources)


class Consents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`erase` are the files that are to be erased as consent was withdrawn; `withdrawn.json` says which have been."""

    rules: list[ConsentRule]
    facts: list[ConsentFact]
    erase: list[str]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    software: str
    id: str
    room: str
    state: str
    """recording, complete, or recovered (closed after a crash)."""
    started_us: int
    ended_us: int
    participants: list[Participant]
    tracks: list[Track]
    notes: list[Note]
    digest: str = ""
    # Recordings from before there were these have neither, and no line in their manifest for it.
    chain: Chain | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType = msgspec.UNSET
    """The id of the key that has signed these bytes; the signature lies beside them (`evidence`)."""
    consent: Consents | msgspec.UnsetType = msgspec.UNSET


def seal(manifest: Manifest) -> Manifest:
    """The manifest with its digest."""
    blank = msgspec.structs.replace(manifest, digest="")
    return msgspec.structs.replace(blank, digest=hashlib.sha256(encode(blank)).hexdigest())


def encode(manifest: Manifest) -> bytes:
    """The one way to write it."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(data: bytes) -> Manifest:
    """Raises ValueError when it is not a manifest of this version."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a manifest: {error}") from error
    if manifest.version != VERSION:
        raise ValueError(f"a manifest of version {manifest.version}, not {VERSION}")
    return manifest


def is_genuine(data: bytes, manifest: Manifest) -> bool:
    """Whether `data`, decoded as `manifest`, is exactly as it was sealed."""
    return encode(seal(manifest)) == data
