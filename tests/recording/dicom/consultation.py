"""Short consultations for DICOM: pictures of several profiles, a stethoscope, a voice."""

from __future__ import annotations

import io
import math
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame

from mediaserver.codecs.payload import Codec
from mediaserver.recording.export import avc
from mediaserver.recording.export.dicom.options import DicomOptions
from mediaserver.recording.export.dicom.study import export_study
from mediaserver.recording.export.progress import Progress
from mediaserver.recording.manifest import Manifest, Segment
from tests.codecs import media
from tests.recording import feed
from tests.recording.feed import Source, Studio

FRAMES = 45
HIGH = (("preset", "veryfast"), ("tune", "zerolatency"), ("profile", "high"))
MAIN = (("preset", "veryfast"), ("tune", "zerolatency"), ("profile", "main"))


def h264(options: tuple[tuple[str, str], ...] = (), count: int = FRAMES) -> feed.Coded:
    """Without options as browsers send it: Constrained Baseline."""
    return media.encode(Codec.CODEC_H264, count=count, options=options)


def record(folder: Path, *, voice: bool = True, camera: Codec = Codec.CODEC_H264) -> Studio:
    """A camera in Constrained Baseline (or VP8), an ultrasound in High half a second later, a stethoscope, a voice."""
    studio = Studio(folder)
    studio.track("cam", "video", "camera")
    studio.track("us", "video", "ultrasound")
    studio.track("st", "audio", "stethoscope")
    pictures = h264() if camera == Codec.CODEC_H264 else media.encode(camera, count=FRAMES)
    studio.feed("cam", feed.deliver([Source(camera, pictures, ssrc=1)]))
    studio.feed("us", feed.deliver([Source(Codec.CODEC_H264, h264(HIGH), ssrc=2, start_us=5e5)]))
    studio.feed("st", feed.deliver([Source(Codec.CODEC_OPUS, feed.sound(2), ssrc=3, unit_us=20_000, sequence=1)]))
    if voice:
        studio.track("mic", "audio", "microphone")
        studio.feed("mic", feed.deliver([Source(Codec.CODEC_OPUS, feed.sound(2), ssrc=4, unit_us=20_000, sequence=1)]))
    studio.run()
    studio.stop()
    return studio


def manifest_of(studio: Studio) -> Manifest:
    from mediaserver.recording import manifest

    return manifest.decode((studio.path / manifest.NAME).read_bytes())


def export(studio: Studio, out: Path, options: DicomOptions, progress: Progress | None = None) -> list[Dataset]:
    """The objects, read back, in the order of their series."""
    export_study(studio.path, manifest_of(studio), out, options, progress or Progress())
    assert {path.suffix for path in out.iterdir()} == {".dcm"}
    return [pydicom.dcmread(path) for path in sorted(out.iterdir())]


def movie(found: Dataset) -> bytes:
    """The MP4 in an object."""
    frames = int(found.NumberOfFrames)
    return get_frame(found.PixelData, 0, number_of_frames=1) if frames else b""


def master_nals(studio: Studio, segment: Segment) -> list[list[bytes]]:
    """The NAL units of every sample of a recorded file."""
    return _nals(str(studio.path / segment.file))


def nals(found: Dataset) -> list[list[bytes]]:
    """The NAL units of every sample of an object."""
    return _nals(io.BytesIO(movie(found)))


def _nals(file: object) -> list[list[bytes]]:
    with av.open(file) as container:  # type: ignore[call-overload]
        return [list(avc.units(bytes(packet))) for packet in container.demux(video=0) if packet.size]


def samples(studio: Studio, segment: Segment, rate: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """What FFmpeg makes of a recorded file of sound, at another rate."""
    resampler = av.AudioResampler("s16", "mono", rate)
    with av.open(str(studio.path / segment.file)) as container:
        frames = [piece for frame in container.decode(audio=0) for piece in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])


def apart_db(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], most_lag: int) -> float:
    """How far below the sound its difference to another lies, at the lag at which they fit best."""

    def difference(lag: int) -> float:
        early, late = (one[lag:], other) if lag >= 0 else (one, other[-lag:])
        length = min(len(early), len(late))
        return float(np.mean((early[:length].astype(float) - late[:length]) ** 2))

    least = min(difference(lag) for lag in range(-most_lag, most_lag + 1))
    return 10 * math.log10(float(np.mean(one.astype(float) ** 2)) / max(least, 1e-9))


def complaints(path: Path) -> list[str]:
    """What dciodvfy calls an error."""
    ran = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    lines = (ran.stdout + ran.stderr).splitlines()
    return [line for line in lines if line.startswith("Error")]
