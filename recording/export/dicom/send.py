"""Objects on their way to a PACS: one by one, tried again where that can help, kept until they were accepted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

ATTEMPTS = 4
FIRST_DELAY_S = 1.0
"""Before the second try; each later one waits twice as long."""


class Answer(NamedTuple):
    """What the PACS said of an object. `again`: another try may go better. `text` names the status."""

    accepted: bool
    again: bool
    text: str


class Receiver(Protocol):
    """A PACS. `name` is how a person would call it."""

    name: str

    def open(self, paths: Sequence[Path]) -> None:
        """Get ready for these files. Raises `Unreachable` and `Refused`."""

    def store(self, path: Path) -> Answer: ...

    def close(self) -> None: ...


class Unreachable(Exception):
    """There is no connection now; there may be one later."""


class Refused(Exception):
    """The PACS wants no connection; trying again changes nothing."""


class Outcome(NamedTuple):
    """`warnings` are of objects that were accepted, `refused` of those that were not, with the reasons."""

    accepted: list[Path]
    refused: list[tuple[Path, str]]
    warnings: list[tuple[Path, str]]


def send(
    paths: Sequence[Path],
    receiver: Receiver,
    progress: Callable[[float], None] = lambda share: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Store every file. One that is refused for good does not keep the others back."""
    outcome = Outcome([], [], [])
    rest = list(paths)
    reasons: dict[Path, str] = {}
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(FIRST_DELAY_S * 2 ** (attempt - 1))
        rest = _round(rest, receiver, outcome, reasons, lambda done: progress(done / len(paths)))
        if not rest:
            break
    outcome.refused.extend((path, f"{reasons[path]}; {ATTEMPTS} tries") for path in rest)
    return outcome


def _round(
    paths: list[Path],
    receiver: Receiver,
    outcome: Outcome,
    reasons: dict[Path, str],
    progress: Callable[[int], None],
) -> list[Path]:
    """Try each of them once; gives those that are worth another try."""
    again: list[Path] = []
    try:
        receiver.open(paths)
    except Unreachable as error:
        reasons.update((path, str(error)) for path in paths)
        return paths
    except Refused as error:
        outcome.refused.extend((path, str(error)) for path in paths)
        return []
    try:
        for path in paths:
            answer = receiver.store(path)
            if answer.accepted:
                outcome.accepted.append(path)
                if answer.text:
                    outcome.warnings.append((path, answer.text))
                progress(len(outcome.accepted))
            elif answer.again:
                reasons[path] = answer.text
                again.append(path)
            else:
                outcome.refused.append((path, answer.text))
    finally:
        receiver.close()
    return again
