"""The archive: consultations on disk, found, verified and exported."""
