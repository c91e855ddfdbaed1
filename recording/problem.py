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


class Verdict(msgspec.Struct, frozen=True):
    """What a verification of a chained log has found: the audit trail, or the archive's register."""

    ok: bool
    entries: int
    sealed: int
    """The number of the last sealed entry; no signature covers those after it yet."""
    problems: list[Problem]
    notes: list[str] = []

    def joined(self, more: list[Problem] | None) -> Verdict:
        """With what else was found."""
        return msgspec.structs.replace(self, ok=False, problems=self.problems + more) if more else self
