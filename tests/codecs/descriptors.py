"""A writer of dependency descriptors (AV1 RTP specification, appendix A), independent of the parser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

ABSENT, DISCARDABLE, SWITCH, REQUIRED = range(4)


class BitWriter:
    def __init__(self) -> None:
        self.bits: list[int] = []

    def put(self, value: int, count: int) -> None:
        self.bits += [(value >> i) & 1 for i in reversed(range(count))]

    def put_below(self, value: int, count: int) -> None:
        """ns(n)"""
        width = count.bit_length()
        short = (1 << width) - count
        if value < short:
            self.put(value, width - 1)
        else:
            self.put((value + short) >> 1, width - 1)
            self.put((value + short) & 1, 1)

    def data(self) -> bytes:
        bits = self.bits + [0] * (-len(self.bits) % 8)
        return bytes(int("".join(map(str, bits[i : i + 8])), 2) for i in range(0, len(bits), 8))


@dataclass
class Template:
    spatial: int
    temporal: int
    indications: Sequence[int]
    differences: Sequence[int] = ()
    chains: Sequence[int] = ()


@dataclass
class Structure:
    """Templates in order of spatial, then temporal layer."""

    templates: Sequence[Template]
    first: int = 0
    protected_by: Sequence[int] = ()
    chains: int = 0
    sizes: Sequence[tuple[int, int]] = ()

    @property
    def targets(self) -> int:
        return len(self.templates[0].indications)

    def write(self, out: BitWriter) -> None:
        out.put(self.first, 6)
        out.put(self.targets - 1, 5)
        for at, template in enumerate(self.templates):
            following = self.templates[at + 1] if at + 1 < len(self.templates) else None
            if following is None:
                out.put(3, 2)
            elif following.spatial > template.spatial:
                out.put(2, 2)
            else:
                out.put(following.temporal - template.temporal, 2)
        for template in self.templates:
            for indication in template.indications:
                out.put(indication, 2)
        for template in self.templates:
            for difference in template.differences:
                out.put(1, 1)
                out.put(difference - 1, 4)
            out.put(0, 1)
        out.put_below(self.chains, self.targets + 1)
        if self.chains:
            for chain in self.protected_by:
                out.put_below(chain, self.chains)
            for template in self.templates:
                for difference in template.chains:
                    out.put(difference, 4)
        out.put(1 if self.sizes else 0, 1)
        for width, height in self.sizes:
            out.put(width - 1, 16)
            out.put(height - 1, 16)


@dataclass
class Descriptor:
    start: bool
    end: bool
    template: int
    number: int
    structure: Structure | None = None
    active: int | None = None
    indications: Sequence[int] | None = None
    differences: Sequence[int] | None = None
    chains: Sequence[int] | None = None
    targets: int = field(default=0)

    def data(self) -> bytes:
        out = BitWriter()
        out.put(self.start, 1)
        out.put(self.end, 1)
        out.put(self.template, 6)
        out.put(self.number & 0xFFFF, 16)
        custom = (self.indications, self.differences, self.chains)
        if self.structure is None and self.active is None and custom == (None, None, None):
            return out.data()
        out.put(self.structure is not None, 1)
        out.put(self.active is not None, 1)
        for one in custom:
            out.put(one is not None, 1)
        if self.structure is not None:
            self.structure.write(out)
        if self.active is not None:
            out.put(self.active, self.structure.targets if self.structure else self.targets)
        for indication in self.indications or ():
            out.put(indication, 2)
        if self.differences is not None:
            for difference in self.differences:
                size = 1 if difference <= 16 else 2 if difference <= 256 else 3
                out.put(size, 2)
                out.put(difference - 1, 4 * size)
            out.put(0, 2)
        for difference in self.chains or ():
            out.put(difference, 8)
        return out.data()
