"""Objects without the person: the Basic Application Level Confidentiality Profile (PS3.15, table E.1-1).

All attributes that we write are in one table; what is not in it goes. The UIDs, the patient's pseudonym and the days by
which dates are shifted come from a secret key, so that the objects of a patient stay together under the same key and
nobody without it can go back. Pixels and voices are another matter: masks and `drop` are for those.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from datetime import datetime, timedelta
from enum import Enum

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from mediaserver.recording.export.dicom.objects import UTC_FRAME, code

LEAST_DAYS, MOST_DAYS = 365, 3650


class Action(Enum):
    """What is done to an attribute, by the letters of the profile's table."""

    KEEP = "K"
    EMPTY = "Z"
    REPLACE = "D"
    UID = "U"
    SHIFT = "S"
    """Its date becomes an earlier one: Retain Longitudinal Temporal Information with Modified Dates."""
    REMOVE = "X"


K, Z, D, U, S, X = Action.KEEP, Action.EMPTY, Action.REPLACE, Action.UID, Action.SHIFT, Action.REMOVE
ACTIONS = {
    "SpecificCharacterSet": K, "ImageType": K, "SOPClassUID": K, "SOPInstanceUID": U, "StudyDate": S, "SeriesDate": S,
    "ContentDate": S, "AcquisitionDateTime": S, "StudyTime": K, "SeriesTime": K, "ContentTime": K,
    "AccessionNumber": Z, "Modality": K, "Manufacturer": K, "ReferringPhysicianName": Z, "TimezoneOffsetFromUTC": K,
    "StudyDescription": X, "SeriesDescription": D, "ManufacturerModelName": K, "DerivationDescription": K,
    "RecommendedDisplayFrameRate": K, "DerivationCodeSequence": K, "PatientName": D, "PatientID": D,
    "IssuerOfPatientID": X, "PatientBirthDate": Z, "PatientSex": Z, "CineRate": K, "SoftwareVersions": K,
    "FrameTime": K, "FrameTimeVector": K, "SynchronizationTrigger": K, "EffectiveDuration": K,
    "AcquisitionTimeSynchronized": K, "TimeDistributionProtocol": K, "ContributingEquipmentSequence": X,
    "StudyInstanceUID": U, "SeriesInstanceUID": U, "StudyID": D, "SeriesNumber": K, "InstanceNumber": K,
    "PatientOrientation": K, "Laterality": K, "SynchronizationFrameOfReferenceUID": U, "SamplesPerPixel": K,
    "PhotometricInterpretation": K, "PlanarConfiguration": K, "NumberOfFrames": K, "FrameIncrementPointer": K,
    "Rows": K, "Columns": K, "BitsAllocated": K, "BitsStored": K, "HighBit": K, "PixelRepresentation": K,
    "LossyImageCompression": K, "LossyImageCompressionRatio": K, "LossyImageCompressionMethod": K, "AdmissionID": X,
    "DeviceSerialNumber": D, "AcquisitionContextSequence": K, "AnatomicRegionSequence": K, "WaveformSequence": K,
    "PixelData": K,
}  # fmt: skip
"""By keyword. What is kept holds nothing of a person: facts of the pictures, and words of ours."""

PROFILE = ("113100", "Basic Application Confidentiality Profile")
CLEAN_PIXELS = ("113101", "Clean Pixel Data Option")
CLEAN_DESCRIPTORS = ("113105", "Clean Descriptors Option")
MODIFIED_DATES = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")


class Pseudonyms:
    """What replaces what, from a secret."""

    def __init__(self, key: bytes, subject: str) -> None:
        """`subject` is whose objects are to stay together."""
        self._key = key
        self.patient = f"P{self._digest('patient', subject).hex()[:12].upper()}"
        span = MOST_DAYS - LEAST_DAYS + 1
        days = LEAST_DAYS + int.from_bytes(self._digest("days", subject)[:8], "big") % span
        self._shift = timedelta(days=days)

    def uid(self, original: str) -> str:
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', original)[:16], version=5).int}"

    def short(self, original: str) -> str:
        return self._digest("short", original).hex()[:8]

    def date(self, original: str) -> str:
        """A DA or DT, whole days earlier."""
        moved = datetime.strptime(original[:8], "%Y%m%d") - self._shift
        return moved.strftime("%Y%m%d") + original[8:]

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{kind}\0{text}".encode(), hashlib.sha256)


def deidentify(found: Dataset, source: str, masked: bool, names: Pseudonyms) -> None:
    """Take the person out of an object from `source`; `masked` says that its pictures were painted over."""
    for element in list(found):
        match ACTIONS.get(element.keyword, X):
            case Action.REMOVE:
                del found[element.tag]
            case Action.EMPTY:
                element.value = ""
            case Action.UID if element.value != UTC_FRAME:
                element.value = names.uid(str(element.value))
            case Action.SHIFT:
                element.value = names.date(str(element.value))
    found.PatientID = names.patient
    found.PatientName = f"{names.patient}^deidentified"
    found.StudyID = names.short(found.StudyID)
    found.SeriesDescription = source
    if "DeviceSerialNumber" in found:
        found.DeviceSerialNumber = names.short(found.DeviceSerialNumber)
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    _declare(found, source, masked)


def _declare(found: Dataset, source: str, masked: bool) -> None:
    options = [PROFILE, CLEAN_DESCRIPTORS, MODIFIED_DATES, *([CLEAN_PIXELS] if masked else [])]
    found.PatientIdentityRemoved = "YES"
    found.DeidentificationMethod = [meaning for _, meaning in options]
    found.DeidentificationMethodCodeSequence = Sequence([code(value, "DCM", meaning) for value, meaning in options])
    found.LongitudinalTemporalInformationModified = "MODIFIED"
    if masked:
        found.BurnedInAnnotation = "NO"
    if source == "camera":
        found.RecognizableVisualFeatures = "YES"
