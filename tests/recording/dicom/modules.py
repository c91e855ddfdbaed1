"""Checks an object against the module tables of PS3.3, as highdicom keeps them: an IOD's modules, the attributes of
each and their types. For what dciodvfy does not know. Of conditional attributes (1C, 2C) the tables do not say the
condition: they may be there or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from typing import Any

import highdicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

Path = tuple[str, ...]

ENUMERATED: dict[Path, tuple[Any, ...]] = {
    ("WaveformSequence", "WaveformOriginality"): ("ORIGINAL", "DERIVED"),
    ("WaveformSequence", "WaveformBitsAllocated"): (8, 16, 32, 64),
    ("WaveformSequence", "WaveformSampleInterpretation"): (
        "SB", "UB", "MB", "AB", "SS", "US", "SL", "UL", "SV", "UV",
    ),
    ("SynchronizationTrigger",): ("SOURCE", "EXTERNAL", "PASSTHRU", "NO TRIGGER"),
    ("AcquisitionTimeSynchronized",): ("Y", "N"),
    ("PatientSex",): ("M", "F", "O"),
}  # fmt: skip
"""Enumerated values (PS3.3, C.10.9, C.7.4.2, C.7.1.1)."""


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
    folder = resources.files(highdicom) / "_standard"
    names = ("sop_class_iod_map", "iod_module_map", "module_attribute_map")
    by_class, modules, attributes = (json.loads((folder / f"{name}.json").read_text()) for name in names)
    return by_class, modules, attributes


def complaints(found: Dataset) -> list[str]:
    """What is missing, empty, in no module of the IOD, or of a value that is not allowed."""
    by_class, modules, attributes = _tables()
    iod = by_class[found.SOPClassUID]
    allowed: dict[Path, dict[str, str]] = {}
    problems = []
    here = set(found.dir())
    for module in modules[iod]:
        own_keywords = {one["keyword"] for one in attributes[module["key"]] if not one["path"]}
        needed = module["usage"] == "M" or bool(own_keywords & here)
        for one in attributes[module["key"]]:
            own = allowed.setdefault(tuple(one["path"]), {})
            kind = one["type"] if needed or one["path"] else "3"
            own[one["keyword"]] = min(kind, own.get(one["keyword"], kind))
    for path, item in _items(found, ()):
        problems += _wrong(path, item, allowed.get(path, {}))
    return problems


def _items(item: Dataset, path: Path) -> Iterator[tuple[Path, Dataset]]:
    yield path, item
    for element in item:
        if element.VR == "SQ":
            for inner in element.value:
                yield from _items(inner, (*path, element.keyword))


def _wrong(path: Path, item: Dataset, allowed: dict[str, str]) -> Iterator[str]:
    where = "/".join(path) or "the object"
    for keyword, kind in allowed.items():
        if kind in ("1", "2") and keyword not in item:
            yield f"{where}: {keyword} (type {kind}) is missing"
    for element in item:
        keyword = keyword_for_tag(element.tag)
        kind = allowed.get(keyword, "")
        if not kind:
            yield f"{where}: {keyword or element.tag} is in no module of this object"
        elif element.is_empty and kind.startswith("1"):
            yield f"{where}: {keyword} (type {kind}) is empty"
        values = ENUMERATED.get((*path, keyword))
        if values and not element.is_empty and element.value not in values:
            yield f"{where}: {keyword} is {element.value}, none of {values}"
