"""A recording as a DICOM study: what becomes of each track is settled first, then the objects are written.

Nothing is left out and nothing is encoded again unasked: what DICOM can't take as it is is an error that names the
choices, before anything is written.
"""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import av
import msgspec
import pydicom
from pydicom.dataset import Dataset

from mediaserver.recording.export import media
from mediaserver.recording.export.dicom import clip, objects, timing, waveform
from mediaserver.recording.export.dicom.coding import Coding, Pictures, judge
from mediaserver.recording.export.dicom.deidentify import Pseudonyms, deidentify
from mediaserver.recording.export.dicom.objects import KINDS, PHOTOGRAPHIC, SOUND, Series
from mediaserver.recording.export.dicom.options import DicomOptions, beside, check
from mediaserver.recording.export.dicom.timing import Unit
from mediaserver.recording.export.dicom.uids import uid
from mediaserver.recording.export.progress import ExportError, Progress
from mediaserver.recording.manifest import Manifest, Segment, Track
from mediaserver.recording.sidecars import filled

TRANSCODED_US = 20 * 60 * 1_000_000
"""The longest object of pictures that are encoded again: at the encoder's greatest rate it stays under 4 GiB."""
CAMERA = "camera"
STETHOSCOPE = "stethoscope"


@dataclass
class Work:
    """One file of a track on its way into objects of a series."""

    series: Series
    segment: Segment
    coding: Coding | None = None
    units: list[Unit] = field(default_factory=list)
    parts: list[range] = field(default_factory=list)


@dataclass
class _Study:
    folder: Path
    storage: media.Files
    manifest: Manifest
    out: Path
    options: DicomOptions
    voices: list[Segment]
    """Those that are mixed into the camera's pictures."""
    names: Pseudonyms | None


def export_study(
    folder: Path,
    manifest: Manifest,
    out: Path,
    options: DicomOptions,
    progress: Progress,
    storage: media.Files = media.PLAIN,
) -> None:
    """Write the objects into the folder `out`, which is made where it is not there. `storage` is where the recording's
    files lie.

    Raises `ExportError`, `ExportCancelled` and OSError.
    """
    who = filled(options.identifiers, beside(folder, storage.read))
    check(who)
    options = msgspec.structs.replace(options, identifiers=who)
    tracks = _chosen(manifest, options)
    mixed = _mixed(tracks, options)
    separate = [track for track in tracks if track not in mixed]
    works = list(_works(folder, storage, manifest, separate, options))
    voices = [segment for track in mixed for segment in track.segments]
    _warn(works, voices, options, progress)
    progress.warnings += media.left_out(track for track in manifest.tracks if track.source not in options.drop)
    names = None
    if options.deidentify:
        subject = f"{who.patient_issuer}\0{who.patient_id}" if who.patient_id else manifest.id
        names = Pseudonyms(options.key.encode() or secrets.token_bytes(32), subject)
    study = _Study(folder, storage, manifest, out, options, voices, names)
    out.mkdir(exist_ok=True)
    total = sum(work.segment.bytes for work in works)
    done = 0
    instances: dict[int, int] = {}
    for work in works:
        share = progress.part(done / total, (done + work.segment.bytes) / total)
        first = instances.get(work.series.number, 0) + 1
        write = _write_sound if work.coding is None else _write_video
        instances[work.series.number] = first - 1 + write(study, work, first, share)
        done += work.segment.bytes


def _chosen(manifest: Manifest, options: DicomOptions) -> list[Track]:
    sources = {track.source for track in manifest.tracks}
    named = [*options.drop, *(box.source for box in options.masks if box.source)]
    for name in named:
        if name not in sources:
            raise ExportError(f"the recording has no {name}: its sources are {', '.join(sorted(sources))}")
    found = [msgspec.structs.replace(track, segments=media.playable(track)) for track in manifest.tracks]
    tracks = [track for track in found if track.segments and track.source not in options.drop]
    if not tracks:
        packets = media.left_out(track for track in manifest.tracks if track.source not in options.drop)
        raise ExportError("\n".join([f"recording {manifest.id} holds no media, or all of it is dropped", *packets]))
    return tracks


def _mixed(tracks: list[Track], options: DicomOptions) -> list[Track]:
    """The voices that go into the camera's pictures."""
    found = [track for track in tracks if track.kind == "audio" and track.source != STETHOSCOPE]
    if not found or options.voices == "waveform":
        return []
    name = ", ".join(sorted({track.source for track in found}))
    other = f"write it as waveforms of its own (--voices waveform), or leave it out (--drop {name.replace(' ', '')})"
    if not any(track.source == CAMERA for track in tracks):
        raise ExportError(f"{name}: there is no camera to put the sound to: {other}")
    if not options.transcode:
        raise ExportError(f"{name}: DICOM takes no Opus: have it transcoded to AAC (--transcode), {other}")
    return found


def _works(
    folder: Path, storage: media.Files, manifest: Manifest, tracks: list[Track], options: DicomOptions
) -> Iterator[Work]:
    """Each file with what is to become of it. All that stands in the way is said at once."""
    problems = []
    for number, track in enumerate(tracks, 1):
        kind = SOUND if track.kind == "audio" else KINDS.get(track.source, PHOTOGRAPHIC)
        for segment in track.segments:
            work = Work(Series(manifest, track, number, kind), segment)
            try:
                if track.kind == "video":
                    _plan(folder, storage, work, options)
                yield work
            except ExportError as error:
                problems.append(str(error))
    if problems:
        raise ExportError("\n".join(dict.fromkeys(problems)))


def _plan(folder: Path, storage: media.Files, work: Work, options: DicomOptions) -> None:
    with media.opened(folder, work.segment, storage) as container:
        extradata = container.streams.video[0].codec_context.extradata or b""
        try:
            work.units = clip.scan(work.segment, container)
        except av.FFmpegError as error:
            raise ExportError(f"{work.segment.file} cannot be read: {error}") from error
    if not work.units:
        raise ExportError(f"{work.segment.file} holds no pictures")
    pictures = Pictures(extradata, timing.rate(work.units))
    work.coding = judge(work.series.track, work.segment, pictures, options)
    transcoded = work.coding.how == "transcode"
    work.parts = timing.cut(work.units, TRANSCODED_US if transcoded else None)


def _warn(works: list[Work], voices: list[Segment], options: DicomOptions, progress: Progress) -> None:
    seen = [work.segment for work in works if work.series.track.source == CAMERA]
    outside = sum(
        _uncovered(voice, seen) for voice in voices
    )  # fmt: skip
    if outside > 1_000_000:
        progress.warnings.append(
            f"{outside / 1e6:.0f} s of voices lie where the camera shows nothing and are left out: "
            "--voices waveform keeps them"
        )
    if options.deidentify:
        shown = sorted({work.series.track.source for work in works} & {CAMERA, "microphone", "screen"})
        told = [*shown, *(["the voices"] if voices else [])]
        if told:
            progress.warnings.append(
                f"{', '.join(told)} can tell who the patient is: --drop leaves them out, --mask paints over pictures"
            )
    elif not options.identifiers.patient_id:
        progress.warnings.append("the objects carry no patient id (--patient-id): a PACS may refuse them")


def _uncovered(voice: Segment, seen: list[Segment]) -> int:
    """How much of a voice lies outside the pictures, µs."""
    at, rest = voice.first_us, 0
    for segment in sorted(seen, key=lambda segment: segment.first_us):
        rest += max(0, min(segment.first_us, voice.last_us) - at)
        at = max(at, segment.last_us)
    return rest + max(0, voice.last_us - at)


def _write_video(study: _Study, work: Work, first: int, progress: Callable[[float], None]) -> int:
    """The objects of a file of pictures; gives how many."""
    coding, segment, options = work.coding, work.segment, study.options
    assert coding is not None
    masks = options.masks_of(work.series.track.source)
    with_voices = study.voices if work.series.track.source == CAMERA else []
    recipe = repr((coding, masks, [voice.sha256 for voice in with_voices], options.deidentify))
    length = max(1, segment.last_us - segment.first_us)

    def tell(time_us: int) -> None:
        progress((time_us - segment.first_us) / length)

    with media.opened(study.folder, segment, study.storage) as container:
        copier = transcoder = None
        if coding.how == "transcode":
            transcoder = clip.Transcoder(segment, container, coding, masks)
        else:
            copier = clip.Copier(segment, container, coding, options.deidentify)
        for number, part in enumerate(work.parts):
            last = number + 1 == len(work.parts)
            end_us = segment.last_us + 1 if last else work.units[part.stop].time_us
            prepare = (
                partial(transcoder.part, end_us if not last else 1 << 62)
                if transcoder
                else partial(copier.part, len(part))  # type: ignore[union-attr]
            )
            sound = clip.voice_between(study.folder, with_voices, end_us, study.storage) if with_voices else None
            with tempfile.TemporaryDirectory(dir=study.out) as temporary:
                file = Path(temporary, "pictures.mp4")
                try:
                    made = clip.write(file, prepare, sound, tell)
                except av.FFmpegError as error:
                    raise ExportError(f"{segment.file}: FFmpeg: {error}") from error
                instance = first + number
                name = uid(study.manifest.id, "object", segment.file, segment.sha256, str(number), recipe)
                start_us = int(made.times.min())
                found = objects.common(work.series, instance, name, start_us, options)
                with file.open("rb") as data:
                    objects.video(found, work.series, made, coding, data)
                    _keep(study, work, instance, found, masked=bool(masks))
    return len(work.parts)


def _write_sound(study: _Study, work: Work, first: int, progress: Callable[[float], None]) -> int:
    """The object of a file of sound."""
    segment = work.segment
    length = max(1, segment.last_us - segment.first_us)
    with tempfile.TemporaryFile(dir=study.out) as data:
        count = waveform.write(
            study.folder, study.storage, segment, data, lambda time_us: progress((time_us - segment.first_us) / length)
        )  # fmt: skip
        name = uid(study.manifest.id, "object", segment.file, segment.sha256, "sound")
        found = objects.common(work.series, first, name, segment.first_us, study.options)
        data.seek(0)
        objects.sound(found, work.series, count, data)
        _keep(study, work, first, found, masked=False)
    return 1


def _keep(study: _Study, work: Work, instance: int, found: Dataset, masked: bool) -> None:
    source = work.series.track.source
    if study.names is not None:
        deidentify(found, source, masked, study.names)
    # The UID keeps the objects of several recordings apart in one folder.
    name = f"{work.series.number:02}-{re.sub('[^a-z]', '', source)}-{instance:03}-{found.SOPInstanceUID}.dcm"
    pydicom.dcmwrite(study.out / name, found, enforce_file_format=True)
