"""Where recordings lie: a local folder, which may be encrypted, and an S3 bucket behind it."""

from mediaserver.recording.storage.face import Reader, ReaderFile, Storage, Unreadable
from mediaserver.recording.storage.local import LocalReader, LocalStorage, Lock, StoredFile

__all__ = ["LocalReader", "LocalStorage", "Lock", "Reader", "ReaderFile", "Storage", "StoredFile", "Unreadable"]
