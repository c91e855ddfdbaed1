"""Whose tracks may go into a recording: the rule of a room, and what its participants have said to it.

Pure: commands in, the state out; `Recordings` carries it out. The rule says whose tracks, not when: whether a recording
runs is another question (`[recording] policy`).

- forbidden: nobody's; a recording can't be started
- consent: of those who have agreed, from then on and until they withdraw
- required: of everybody; who refuses may not publish

Consent is of a participant for sources: for all of them, or for those that it names (the ultrasound, not the room).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from mediaserver.sfu.session.model import Source

Whose = Literal["required", "consent", "forbidden"]
ConsentState = Literal["unasked", "asked", "given", "refused", "withdrawn"]
Sayer = Literal["participant", "application"]
"""Who has said it: the participant to this server, or an application that had asked before or elsewhere."""
Withdrawal = Literal["keep", "erase"]
"""What becomes of what was recorded until then."""

STRICTNESS: tuple[Whose, ...] = ("required", "consent", "forbidden")
CHANGES_AT_MOST = 32
"""How often one participant may change its mind; withdrawing stays possible."""
SOURCES = frozenset(Source)
"""What a word is about that names none."""


class ConsentTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a client shows before its user agrees: `text` where the rule is `consent`, `notice` where it is `required`.
    `version` names them. `withdrawal`: what becomes of what was recorded until the user withdraws."""

    version: str
    text: str
    notice: str
    withdrawal: Withdrawal


class Said(msgspec.Struct, frozen=True):
    """A consent, a refusal or a withdrawal. `version` names the text that was shown, `witness` who had it said, in the
    application's words. `at_us` is Unix time. `sources`: all that is agreed to, or what the no is about."""

    participant: str
    state: Literal["given", "refused", "withdrawn"]
    by: Sayer
    version: str
    at_us: int
    witness: str = ""
    sources: frozenset[Source] = SOURCES

    @property
    def named(self) -> list[Source] | None:
        """Its sources in their order, None for all."""
        return named(self.sources)


class TooManyChanges(Exception):
    """A participant that has changed its mind so often agrees to nothing any more. `kept` is the no in what it said."""

    def __init__(self, kept: list[Said]) -> None:
        super().__init__("a participant has changed its mind too often")
        self.kept = kept


def named(sources: frozenset[Source]) -> list[Source] | None:
    """These sources in the order of `Source`, None for all."""
    return None if sources == SOURCES else [source for source in Source if source in sources]


class _Person:
    """What it agrees to, what it does not want recorded, and the words that come to that; at most `agreed` is recorded
    where consent is needed, and all but `denied` where everybody is."""

    __slots__ = ("agreed", "changes", "denied", "publishes", "refused", "state", "words")

    def __init__(self, publishes: bool) -> None:
        self.publishes = publishes
        self.state: ConsentState = "unasked"
        self.agreed: frozenset[Source] = frozenset()
        self.denied: frozenset[Source] = frozenset()
        self.refused: frozenset[Source] = frozenset()
        """What it has not wanted recorded at some time."""
        self.words: list[Said] = []
        self.changes = 0


class Consents:
    """One room's. A participant that is not in it has said nothing, and nothing of it is recorded."""

    def __init__(self, whose: Whose, *, fixed: bool = False) -> None:
        """`whose` holds until a token or the application says otherwise, or, when it is `fixed`, for good."""
        self.whose = whose
        self._fixed = fixed
        self._claimed = False
        self._promised = whose != "required"
        """There was a time at which what somebody sent was not to be recorded."""
        self._people: dict[str, _Person] = {}

    def claim(self, whose: Whose | None) -> bool:
        """What a token says of the room; whether that changes the rule. The first token goes before the server's own
        setting, later ones can only be stricter: nobody is recorded who was promised not to be."""
        if whose is None or self._fixed:
            return False
        before = self.whose
        strictest = max(before, whose, key=STRICTNESS.index) if self._claimed else whose
        self._claimed = True
        self._rule(strictest)
        return strictest != before

    def decree(self, whose: Whose) -> bool:
        """What the application says of the room, in either direction; whether that changes the rule."""
        before = self.whose
        if not self._fixed:
            self._claimed = True
            self._rule(whose)
        return before != self.whose

    def _rule(self, whose: Whose) -> None:
        self.whose = whose
        self._promised = whose != "required" or (self._promised and bool(self._people))

    def join(self, participant: str, publishes: bool) -> None:
        """`publishes`: it has the right to, so that something of it can be recorded."""
        self._people[participant] = _Person(publishes)

    def leave(self, participant: str) -> None:
        self._people.pop(participant, None)

    def state(self, participant: str) -> ConsentState:
        person = self._people.get(participant)
        return person.state if person is not None else "unasked"

    def agreed(self, participant: str) -> frozenset[Source]:
        """The sources that it agrees to have recorded."""
        person = self._people.get(participant)
        return person.agreed if person is not None else frozenset()

    def said(self) -> Iterable[Said]:
        """What counts of the words of each who has said something, in their order."""
        return [word for person in self._people.values() for word in person.words]

    def say(self, said: Said) -> list[Said]:
        """A participant's yes to `said.sources`, and so a no to all others, or its no to these; what is to be kept of
        it, nothing when it changes nothing. A no after a yes is a withdrawal. Raises `TooManyChanges`, and KeyError
        when it is not here."""
        person = self._people[said.participant]
        if said.state == "given" and said.sources:
            return self._agree(person, said)
        return self._decline(person, said if said.sources else msgspec.structs.replace(said, sources=SOURCES))

    def _agree(self, person: _Person, said: Said) -> list[Said]:
        late = person.changes >= CHANGES_AT_MOST and not said.sources <= person.agreed
        wanted = said.sources & person.agreed if late else said.sources
        before = frozenset(source for source in SOURCES if self._admits(person, source)) | person.agreed
        kept = []
        if ended := before - wanted:
            word: Literal["withdrawn", "refused"] = "withdrawn" if ended & person.agreed else "refused"
            kept.append(msgspec.structs.replace(said, state=word, sources=ended))
        if not wanted <= person.agreed:
            kept.append(msgspec.structs.replace(said, sources=wanted))
            person.words = kept[-1:]
        elif kept:
            person.words = [*_narrowed(person.words, wanted), kept[0]]
        if kept:
            person.changes += 1
            person.agreed, person.denied = wanted, SOURCES - wanted
            person.refused |= person.denied
            person.state = "given" if wanted else "withdrawn"
        if late:
            raise TooManyChanges(kept)
        return kept

    @staticmethod
    def _decline(person: _Person, said: Said) -> list[Said]:
        fresh = said.sources - person.denied
        if not fresh:
            return []
        withdraws = bool(fresh & person.agreed)
        sources = said.sources if said.sources == SOURCES else fresh
        kept = msgspec.structs.replace(said, state="withdrawn" if withdraws else "refused", sources=sources)
        person.agreed -= fresh
        person.denied |= fresh
        person.refused |= fresh
        person.changes += 1
        person.words = [*_narrowed(person.words, person.agreed), kept]
        if not person.agreed and (withdraws or person.denied == SOURCES):
            person.state = kept.state
            person.words = [msgspec.structs.replace(kept, sources=person.denied)]
        return [kept]

    def ask(self, participant: str) -> bool:
        """Ask it, or ask again; False when it has agreed to all already or has nothing that could be recorded. Its no
        stands until it answers. Raises KeyError when it is not here."""
        person = self._people[participant]
        if person.state == "unasked" and person.publishes:
            person.state = "asked"
        return person.agreed != SOURCES and person.publishes

    def to_ask(self) -> list[str]:
        """Those who are to be asked when a recording runs."""
        if self.whose != "consent":
            return []
        return [name for name, person in self._people.items() if person.publishes and person.state == "unasked"]

    def admits(self, participant: str, source: Source) -> bool:
        """Whether its tracks of that source go into a recording that runs."""
        person = self._people.get(participant)
        return self.whose == "required" if person is None else self._admits(person, source)

    def reserved(self, participant: str, source: Source) -> bool:
        """Whether some of what it has sent from that source so far may have to stay out of any recording: not where
        everybody has been recorded from the beginning, and it has never refused."""
        person = self._people.get(participant)
        return self._promised or (person is not None and source in person.refused)

    def _admits(self, person: _Person, source: Source) -> bool:
        if self.whose == "consent":
            return source in person.agreed
        return self.whose == "required" and source not in person.denied

    def may_publish(self, participant: str, source: Source) -> bool:
        """False where everybody is recorded and it has refused that source."""
        return self.whose != "required" or self.admits(participant, source)


def _narrowed(words: list[Said], agreed: frozenset[Source]) -> list[Said]:
    """The words so far, when no more than these sources is agreed to any more."""
    return [msgspec.structs.replace(one, sources=agreed) if one.state == "given" else one for one in words]
