"""Whose tracks may go into a recording: the rule of a room, and what its participants have said to it.

Pure: commands in, the state out; `Recordings` carries it out. The rule says whose tracks, not when: whether a recording
runs is another question (`[recording] policy`).

- forbidden: nobody's; a recording can't be started
- consent: of those who have agreed, from then on and until they withdraw
- required: of everybody; who refuses may not publish
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Whose = Literal["required", "consent", "forbidden"]
ConsentState = Literal["unasked", "asked", "given", "refused", "withdrawn"]
Sayer = Literal["participant", "application"]
"""Who has said it: the participant to this server, or an application that had asked before or elsewhere."""
Withdrawal = Literal["keep", "erase"]
"""What becomes of what was recorded until then."""

STRICTNESS: tuple[Whose, ...] = ("required", "consent", "forbidden")
CHANGES_AT_MOST = 32
"""How often one participant may change its mind; withdrawing stays possible."""


class ConsentTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a client shows before its user agrees: `text` where the rule is `consent`, `notice` where it is `required`.
    `version` names them. `withdrawal`: what becomes of what was recorded until the user withdraws."""

    version: str
    text: str
    notice: str
    withdrawal: Withdrawal


class TooManyChanges(Exception):
    """A participant that has changed its mind so often is not recorded any more."""


class Said(msgspec.Struct, frozen=True):
    """A consent, a refusal or a withdrawal. `version` names the text that was shown, `witness` who had it said, in the
    application's words. `at_us` is Unix time."""

    participant: str
    state: Literal["given", "refused", "withdrawn"]
    by: Sayer
    version: str
    at_us: int
    witness: str = ""


class _Person:
    __slots__ = ("changes", "publishes", "said", "state")

    def __init__(self, publishes: bool) -> None:
        self.publishes = publishes
        self.state: ConsentState = "unasked"
        self.said: Said | None = None
        self.changes = 0


class Consents:
    """One room's. A participant that is not in it has said nothing, and nothing of it is recorded."""

    def __init__(self, whose: Whose, *, fixed: bool = False) -> None:
        """`whose` holds until a token or the application says otherwise, or, when it is `fixed`, for good."""
        self.whose = whose
        self._fixed = fixed
        self._claimed = False
        self._people: dict[str, _Person] = {}

    def claim(self, whose: Whose | None) -> bool:
        """What a token says of the room; whether that changes the rule. The first token goes before the server's own
        setting, later ones can only be stricter: nobody is recorded who was promised not to be."""
        if whose is None or self._fixed:
            return False
        before = self.whose
        strictest = max(before, whose, key=STRICTNESS.index) if self._claimed else whose
        self._claimed = True
        self.whose = strictest
        return strictest != before

    def decree(self, whose: Whose) -> bool:
        """What the application says of the room, in either direction; whether that changes the rule."""
        before = self.whose
        if not self._fixed:
            self.whose, self._claimed = whose, True
        return before != self.whose

    def join(self, participant: str, publishes: bool) -> None:
        """`publishes`: it has the right to, so that something of it can be recorded."""
        self._people[participant] = _Person(publishes)

    def leave(self, participant: str) -> None:
        self._people.pop(participant, None)

    def state(self, participant: str) -> ConsentState:
        person = self._people.get(participant)
        return person.state if person is not None else "unasked"

    def said(self) -> Iterable[Said]:
        """The last word of each who has said something."""
        return [person.said for person in self._people.values() if person.said is not None]

    def say(self, said: Said) -> Said | None:
        """A participant's yes or no, a no after a yes being a withdrawal; what is to be kept of it, None when it
        changes nothing. Raises `TooManyChanges`, and KeyError when it is not here."""
        person = self._people[said.participant]
        if said.state != "given":
            withdraws = person.state in ("given", "withdrawn")
            said = msgspec.structs.replace(said, state="withdrawn" if withdraws else "refused")
        if said.state == person.state:
            return None
        if said.state == "given" and person.changes >= CHANGES_AT_MOST:
            raise TooManyChanges
        person.state, person.said = said.state, said
        person.changes += 1
        return said

    def ask(self, participant: str) -> bool:
        """Ask it, or ask again; False when it has agreed already or has nothing that could be recorded. Its no stands
        until it answers. Raises KeyError when it is not here."""
        person = self._people[participant]
        if person.state == "unasked" and person.publishes:
            person.state = "asked"
        return person.state != "given" and person.publishes

    def to_ask(self) -> list[str]:
        """Those who are to be asked when a recording runs."""
        if self.whose != "consent":
            return []
        return [name for name, person in self._people.items() if person.publishes and person.state == "unasked"]

    def admits(self, participant: str) -> bool:
        """Whether its tracks go into a recording that runs."""
        state = self.state(participant)
        if self.whose == "consent":
            return state == "given"
        return self.whose == "required" and state not in ("refused", "withdrawn")

    def may_publish(self, participant: str) -> bool:
        """False where everybody is recorded and it has refused."""
        return self.whose != "required" or self.admits(participant)
