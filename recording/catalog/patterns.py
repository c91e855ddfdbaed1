"""Patterns of rooms (`fnmatch`) as regular expressions that Python, SQLite (by Python) and PostgreSQL read alike."""

from __future__ import annotations

from collections.abc import Iterator

_ANY = r"(?:.|\n)"
_NEVER = "$."
"""Nothing stands behind the end."""


def regex(pattern: str) -> str:
    """What `fnmatch.fnmatchcase` takes, all of the text and in its case."""
    return rf"\A{''.join(_parts(pattern))}\Z"


def _parts(pattern: str) -> Iterator[str]:
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        end = _end_of_class(pattern, at) if char == "[" else -1
        if char == "*":
            yield f"{_ANY}*"
        elif char == "?":
            yield _ANY
        elif end >= 0:
            yield _class(pattern[at:end])
            at = end + 1
        else:
            yield _literal(char)


def _end_of_class(pattern: str, start: int) -> int:
    """Where the bracket that closes it stands; -1 where none does."""
    first = start + (pattern[start : start + 1] == "!")
    return pattern.find("]", first + (pattern[first : first + 1] == "]"))


def _class(inside: str) -> str:
    negated = inside.startswith("!")
    ranges = list(_ranges(inside[1:] if negated else inside))
    if not ranges:
        return _ANY if negated else _NEVER
    text = "".join(_literal(low) if low == high else f"{_literal(low)}-{_literal(high)}" for low, high in ranges)
    return f"[{'^' * negated}{text}]"


def _ranges(inside: str) -> Iterator[tuple[str, str]]:
    """Of one character each where no hyphen stands between two; empty ones are left out."""
    at = 0
    while at < len(inside):
        low = high = inside[at]
        at += 1
        if inside[at : at + 1] == "-" and at + 1 < len(inside):
            high = inside[at + 1]
            at += 2
        if low <= high:
            yield low, high


def _literal(char: str) -> str:
    return char if char.isalnum() or not char.isascii() else "\\" + char
