"""What a recording is found by: a list of terms, the same for both databases.

A term is a word, or a mark and a value: `·rward·3` is the room ward-3, which no word begins like. Words are
compared without case and accents, by their first characters; whatever is neither a letter nor a digit separates them.
The values of columns lose what separates their words, so whoever asks for one exactly looks at the column too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from mediaserver.recording.manifest import Manifest
from mediaserver.recording.sidecars import Sidecars

LONGEST = 32
"""Words are told apart by so many characters."""
_DOT = "·"
_ASCII_WORD = re.compile("[a-z0-9]+")


def words(text: str) -> list[str]:
    """The words of a text as they are compared."""
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())
    else:
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        kept = (char if char.isalnum() else "" if unicodedata.category(char)[0] == "M" else " " for char in plain)
        found = "".join(kept).split()
    return [word[:LONGEST] for word in found]


def value(mark: str, text: str) -> str:
    """The term of a value: room r, source s, state v, patient p, encounter e, accession a."""
    return f"{_DOT}{mark}{_DOT.join(words(text))}"[:LONGEST]


def flag(mark: str, is_so: bool) -> str:
    """The term of a fact: gaps g, hold h."""
    return f"{_DOT}{mark}{'yes' if is_so else 'no'}"


def word_in(mark: str, word: str) -> str:
    """The term of a word in a place: patient's name n, a participant's name w."""
    return f"{_DOT}{mark}{word}"


def of(manifest: Manifest, sidecars: Sidecars) -> set[str]:
    """All terms of a recording."""
    return set(_terms(manifest, sidecars))


def _terms(manifest: Manifest, sidecars: Sidecars) -> Iterator[str]:
    names = [participant.name for participant in manifest.participants]
    yield from _words([manifest.room, manifest.id, *names, *(track.label for track in manifest.tracks)])
    yield value("r", manifest.room)
    yield value("v", manifest.state)
    yield from (value("s", track.source) for track in manifest.tracks)
    yield from (word_in("w", word) for word in _words(names))
    yield flag("g", any(track.gaps for track in manifest.tracks))
    yield flag("h", sidecars.held)
    known = sidecars.identifiers
    if known is not None:
        yield from _words(known.texts())
        yield from (word_in("n", word) for word in words(known.patient_name))
        for mark, text in (("p", known.patient_id), ("e", known.encounter), ("a", known.accession)):
            if text:
                yield value(mark, text)


def _words(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from words(text)
