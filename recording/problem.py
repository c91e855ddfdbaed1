"""What a verification finds wrong."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["altered", "missing", "added", "swapped", "unsigned", "unknown-key", "time-stamp", "open"]


class Problem(msgspec.Struct, frozen=True):
    """`name` is the file's, relative to the folder that was verified."""

    kind: Kind
    name: str
    detail: str
