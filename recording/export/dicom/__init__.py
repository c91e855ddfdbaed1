"""Recordings as DICOM objects: a study for a consultation, a series for each of its tracks."""
