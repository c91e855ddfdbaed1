"""UIDs that come out the same each time: from a UUID (PS3.5, B.2) that is derived from names (RFC 9562, 5.5)."""

from __future__ import annotations

import uuid

NAMESPACE = uuid.UUID("6f1f4f2c-5b0e-4c56-9a53-0b8d6c9a7d11")


def uid(*names: str) -> str:
    """The UID of what these names name."""
    return f"2.25.{uuid.uuid5(NAMESPACE, chr(0).join(names)).int}"


IMPLEMENTATION = uid("implementation")
"""Of the software that writes the files."""
