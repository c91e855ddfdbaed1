"""The attributes of the objects, module by module (PS3.3). Nothing is claimed that the recording does not know."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BufferedIOBase
from typing import Any, NamedTuple

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate_buffer
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    GeneralAudioWaveformStorage,
    UltrasoundMultiFrameImageStorage,
    VideoEndoscopicImageStorage,
    VideoPhotographicImageStorage,
)

from mediaserver import __version__
from mediaserver.recording.export.dicom import timing, waveform
from mediaserver.recording.export.dicom.clip import Clip
from mediaserver.recording.export.dicom.coding import METHODS, NAMES, Coding
from mediaserver.recording.export.dicom.options import DicomOptions
from mediaserver.recording.export.dicom.uids import IMPLEMENTATION, uid
from mediaserver.recording.manifest import Manifest, Track

MANUFACTURER = "mediaserver"
UNKNOWN = "unknown"
UTC_FRAME = "1.2.840.10008.15.1.1"
"""The synchronization frame of reference of what is synchronized to UTC (PS3.6, A-1)."""


class Kind(NamedTuple):
    sop_class: UID
    modality: str


PHOTOGRAPHIC = Kind(VideoPhotographicImageStorage, "XC")
KINDS = {
    "ultrasound": Kind(UltrasoundMultiFrameImageStorage, "US"),
    "otoscope": Kind(VideoEndoscopicImageStorage, "ES"),
}
"""By a track's source; all others are `PHOTOGRAPHIC`."""
WHOLE_BODY = ("38266002", "SCT", "Entire body")
REGIONS = {"dermatoscope": ("39937001", "SCT", "Skin"), "otoscope": ("117590005", "SCT", "Ear")}
"""What is looked at, by a track's source; all that is known of others is that it is the patient."""
SOUND = Kind(GeneralAudioWaveformStorage, "AU")


class Series(NamedTuple):
    """A track with its number in the study, from 1."""

    manifest: Manifest
    track: Track
    number: int
    kind: Kind


def common(series: Series, instance: int, sop_uid: str, start_us: int, options: DicomOptions) -> Dataset:
    """Patient, study, series, equipment, synchronization and SOP common."""
    manifest, track, who = series.manifest, series.track, options.identifiers
    at = _datetime(start_us)
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.SOPClassUID = series.kind.sop_class
    found.SOPInstanceUID = sop_uid
    found.InstanceNumber = instance
    found.TimezoneOffsetFromUTC = "+0000"
    found.PatientName = who.patient_name
    found.PatientID = who.patient_id
    if who.patient_issuer:
        found.IssuerOfPatientID = who.patient_issuer
    found.PatientBirthDate = who.birth_date.replace("-", "")
    found.PatientSex = who.sex
    found.StudyInstanceUID = who.study_uid or uid(manifest.id, "study")
    found.StudyDate, found.StudyTime = _date(manifest.started_us), _time(manifest.started_us)
    found.StudyID = manifest.id.rpartition("-")[2][:16]
    found.AccessionNumber = who.accession
    found.ReferringPhysicianName = who.referring
    if who.study_description:
        found.StudyDescription = who.study_description
    if who.encounter:
        found.AdmissionID = who.encounter
    found.Modality = series.kind.modality
    found.SeriesInstanceUID = uid(manifest.id, "series", track.id)
    found.SeriesNumber = series.number
    found.SeriesDescription = (track.label or track.source)[:64]
    began = track.segments[0].first_us
    found.SeriesDate, found.SeriesTime = _date(began), _time(began)
    found.AcquisitionDateTime = at
    found.ContentDate, found.ContentTime = _date(start_us), _time(start_us)
    found.Manufacturer = MANUFACTURER
    found.ManufacturerModelName = "mediaserver archive"
    found.SoftwareVersions = __version__
    found.ContributingEquipmentSequence = Sequence([_acquired(series)])
    _synchronize(found, manifest, options)
    return found


def video(found: Dataset, series: Series, clip: Clip, coding: Coding, data: BufferedIOBase) -> Dataset:
    """A moving picture: what `common` gives, with the image modules and the pixels."""
    found.ImageType = ["DERIVED" if coding.how == "transcode" else "ORIGINAL", "PRIMARY"]
    found.SamplesPerPixel = 3
    found.PhotometricInterpretation = "YBR_PARTIAL_420"
    found.PlanarConfiguration = 0
    found.Rows, found.Columns = clip.height, clip.width
    found.BitsAllocated = found.BitsStored = 8
    found.HighBit = 7
    found.PixelRepresentation = 0
    found.NumberOfFrames = len(clip.times)
    _cine(found, clip)
    found.LossyImageCompression = "01"
    found.LossyImageCompressionMethod = METHODS[coding.syntax]
    raw = clip.width * clip.height * 3 * len(clip.times)
    found.LossyImageCompressionRatio = _decimal(raw / max(1, clip.picture_bytes))
    if coding.how != "copy":
        _describe_change(found, series, coding)
    found.PatientOrientation = None
    region = None
    if series.kind.sop_class != UltrasoundMultiFrameImageStorage:
        region = REGIONS.get(series.track.source, WHOLE_BODY)
        found.AcquisitionContextSequence = Sequence()
        found.AnatomicRegionSequence = Sequence([code(*region)])
    if region != WHOLE_BODY:
        # It may be one of a pair, and nobody has said which.
        found.Laterality = None
    found.file_meta = _meta(found, coding.syntax)
    found.PixelData = encapsulate_buffer([data], has_bot=False)
    found["PixelData"].VR = "OB"
    found["PixelData"].is_undefined_length = True
    return found


def sound(found: Dataset, series: Series, count: int, data: BufferedIOBase) -> Dataset:
    """Sound: what `common` gives, with the waveform modules and the samples."""
    channel = Dataset()
    source = ("109115", "Physiological audio signal") if series.track.source == "stethoscope" else ("109110", "Voice")
    channel.ChannelSourceSequence = Sequence([code(source[0], "DCM", source[1])])
    channel.WaveformBitsStored = 16
    # The equipment is this archive, which is told from others by its key; the stethoscope's own number is not known.
    found.DeviceSerialNumber = series.manifest.key or UNKNOWN
    found.AcquisitionContextSequence = Sequence()
    group = Dataset()
    group.WaveformOriginality = "ORIGINAL"
    group.NumberOfWaveformChannels = 1
    group.NumberOfWaveformSamples = count
    group.SamplingFrequency = str(waveform.RATE)
    group.ChannelDefinitionSequence = Sequence([channel])
    group.WaveformBitsAllocated = 16
    group.WaveformSampleInterpretation = "SS"
    group.add_new("WaveformPaddingValue", "OW", np.int16(waveform.PADDING).tobytes())
    group.add_new("WaveformData", "OW", data)
    found.WaveformSequence = Sequence([group])
    found.file_meta = _meta(found, ExplicitVRLittleEndian)
    return found


def _cine(found: Dataset, clip: Clip) -> None:
    if timing.is_regular(clip.times):
        step = timing.frame_time_ms(clip.times)
        found.FrameIncrementPointer = 0x00181063
        found.FrameTime = _decimal(step)
    else:
        vector = timing.frame_time_vector(clip.times)
        found.FrameIncrementPointer = 0x00181065
        found.FrameTimeVector = vector
    seconds = (clip.times.max() - clip.times.min()) / 1e6
    shown = round((len(clip.times) - 1) / seconds) if seconds else 1
    found.CineRate = found.RecommendedDisplayFrameRate = max(1, shown)
    found.EffectiveDuration = _decimal(float(seconds))


def _describe_change(found: Dataset, series: Series, coding: Coding) -> None:
    if coding.how == "transcode":
        said = f"Encoded again by x264 to {NAMES[coding.syntax]} from what the device sent"
        found.DerivationCodeSequence = Sequence([code("113040", "DCM", "Lossy Compression")])
    else:
        said = f"The stream's sequence parameter set names {NAMES[coding.syntax]}; its slices are as they were sent"
    found.DerivationDescription = said
    item = _equipment("109103", "Modifying Equipment")
    item.Manufacturer = MANUFACTURER
    item.SoftwareVersions = __version__
    item.ContributionDescription = said
    found.ContributingEquipmentSequence.append(item)


def _acquired(series: Series) -> Dataset:
    """The equipment that took the pictures, as far as the recording knows it."""
    item = _equipment("109101", "Acquisition Equipment")
    item.Manufacturer = UNKNOWN
    item.ManufacturerModelName = (series.track.label or series.track.source)[:64]
    item.ContributionDescription = f"Sent as {series.track.source} by WebRTC"
    return item


def _equipment(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = Sequence([code(value, "DCM", meaning)])
    return item


def _synchronize(found: Dataset, manifest: Manifest, options: DicomOptions) -> None:
    """One frame of reference for all objects of the recording: their times are of one clock.

    Whether that clock was right only who runs it can say.
    """
    found.SynchronizationTrigger = "NO TRIGGER"
    if options.time_source:
        found.SynchronizationFrameOfReferenceUID = UTC_FRAME
        found.AcquisitionTimeSynchronized = "Y"
        found.TimeDistributionProtocol = options.time_source
    else:
        found.SynchronizationFrameOfReferenceUID = uid(manifest.id, "synchronization")
        found.AcquisitionTimeSynchronized = "N"


def _meta(found: Dataset, syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = found.SOPClassUID
    meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION)
    meta.ImplementationVersionName = f"MEDIASERVER{__version__}"[:16]
    return meta


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _decimal(value: float) -> str:
    """A DS: at most 16 characters."""
    return f"{value:.6f}"[:16]


def _moment(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).replace(microsecond=time_us % 1_000_000)


def _datetime(time_us: int) -> str:
    return _moment(time_us).strftime("%Y%m%d%H%M%S.%f+0000")


def _date(time_us: int) -> str:
    return _moment(time_us).strftime("%Y%m%d")


def _time(time_us: int) -> Any:
    return _moment(time_us).strftime("%H%M%S.%f")
