"""How long recordings are kept: classes, which recording is in which, and when that one's time is over."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

DAY_US = 86_400_000_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class RetentionClass(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`days` count from the consultation's end. Then it is disposed of, or with `review` only by name: somebody has to
    look first."""

    name: str
    days: Annotated[float, Meta(ge=0, le=73_000)]
    at_end: Literal["dispose", "review"] = "dispose"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f'"{self.name}" is no name of a class: up to 64 letters, digits, ".", "_", "-"')

    @property
    def length_us(self) -> int:
        return round(self.days * DAY_US)


class RetentionRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"into": "class"}):
    """Recordings of a room that fits the pattern, with a track of the source, are of that class; what is left empty
    fits all."""

    into: str
    room: str = ""
    """A pattern as of a shell: teaching-*."""
    source: str = ""

    def fits(self, room: str, sources: Collection[str]) -> bool:
        return (not self.room or fnmatchcase(room, self.room)) and self.source in ("", *sources)


class Policy(msgspec.Struct, frozen=True):
    """The classes and the rules. Without any, nothing is ever due."""

    classes: tuple[RetentionClass, ...] = ()
    rules: tuple[RetentionRule, ...] = ()
    default: str = ""
    """The class where no rule fits; empty: such recordings are kept until somebody says otherwise."""

    def find(self, name: str) -> RetentionClass | None:
        return next((one for one in self.classes if one.name == name), None)

    def choose(self, room: str, sources: Collection[str]) -> str:
        """The class by the first rule that fits."""
        return next((rule.into for rule in self.rules if rule.fits(room, sources)), self.default)

    def check(self) -> None:
        """Raises ValueError with a sentence."""
        names = [one.name for one in self.classes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'there are two retention classes "{name}"')
        for name in [*(rule.into for rule in self.rules), *([self.default] if self.default else [])]:
            if name not in names:
                raise ValueError(f'there is no retention class "{name}"; there are: {_listed(names)}')

    def need(self, name: str) -> RetentionClass:
        """Raises ValueError with a sentence."""
        found = self.find(name)
        if found is None:
            raise ValueError(
                f'there is no retention class "{name}"; there are: {_listed(c.name for c in self.classes)}'
            )
        return found


NO_POLICY = Policy()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
