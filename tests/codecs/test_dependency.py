"""Dependency descriptors: what an independent writer wrote is what is read, and nothing malformed does harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.codecs.dependency import Dependency
from tests.codecs.descriptors import ABSENT, REQUIRED, SWITCH, BitWriter, Descriptor, Structure, Template
from tests.sfu.policy.recordings import NAMES, recorded

S, D, R, N = SWITCH, 1, REQUIRED, ABSENT
# L2T2 as libwebrtc writes it: a template for each layer, and those of the key picture.
L2T2 = Structure(
    [
        Template(0, 0, [S, S, S, S], (), [0, 0]),
        Template(0, 0, [S, S, R, R], (4,), [4, 3]),
        Template(0, 1, [N, D, N, R], (2,), [2, 1]),
        Template(1, 0, [N, N, S, S], (1,), [1, 1]),
        Template(1, 0, [N, N, S, S], (4, 1), [1, 1]),
        Template(1, 1, [N, N, N, D], (2, 1), [3, 2]),
    ],
    first=60,
    protected_by=[0, 0, 1, 1],
    chains=2,
    sizes=[(320, 180), (640, 360)],
)


def bits(indications: list[int], *wanted: int) -> int:
    return sum(1 << i for i, indication in enumerate(indications) if indication in wanted)


def test_structure_and_templates() -> None:
    dependency = Dependency()
    first = dependency.read(Descriptor(True, True, 60, 7, L2T2).data())
    assert first == (True, True, 7, 3, 0, 0, 0b1111, 0b1111, 0, 2, 640, 360)
    assert dependency.targets == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert dependency.contains == [0b0001, 0b0011, 0b0101, 0b1111]
    assert dependency.active == 0b1111
    written = BitWriter()
    L2T2.write(written)
    assert dependency.structure == written.data()
    # Ids go on beyond 63 at 0.
    upper = dependency.read(Descriptor(True, True, 1, 8).data())
    assert upper[2:9] == (8, 3, 1, 1, 0b1000, 0, 0b11)


def test_what_a_frame_has_of_its_own() -> None:
    dependency = Dependency()
    dependency.read(Descriptor(True, True, 60, 7, L2T2).data())
    own = Descriptor(True, False, 61, 8, indications=[N, R, S, D], differences=[1, 32], chains=[1, 255]).data()
    assert dependency.read(own)[:9] == (True, False, 8, 3, 0, 0, 0b1110, 0b0100, 1 << 31 | 1)
    far = dependency.read(Descriptor(True, True, 61, 9, differences=[3, 33]).data())
    assert (far.described, far.depends) == (7, 4)


def test_active_targets() -> None:
    dependency = Dependency()
    dependency.read(Descriptor(True, True, 60, 7, L2T2, active=0b0011).data())
    assert dependency.active == 0b0011
    dependency.read(Descriptor(True, True, 61, 8, active=0b0001, targets=4).data())
    assert dependency.active == 0b0001
    dependency.read(Descriptor(True, True, 61, 9).data())
    assert dependency.active == 0b0001
    dependency.read(Descriptor(True, True, 60, 10, L2T2).data())
    assert dependency.active == 0b1111


def test_unknown_template_tells_the_number_alone() -> None:
    dependency = Dependency()
    found = dependency.read(Descriptor(True, True, 60, 7).data())
    assert (found.frame_number, found.described, found.spatial_id) == (7, 1, -1)
    dependency.read(Descriptor(True, True, 60, 7, L2T2).data())
    assert dependency.read(Descriptor(True, True, 59, 8).data()).described == 1


@pytest.mark.parametrize("cut", range(1, len(Descriptor(True, True, 60, 7, L2T2).data())))
def test_truncated(cut: int) -> None:
    whole = Descriptor(True, True, 60, 7, L2T2).data()
    if cut == 3:  # by itself a descriptor without extended fields
        assert Dependency().read(whole[:cut]).described == 1
        return
    with pytest.raises(ValueError, match="malformed"):
        Dependency().read(whole[:cut])


@given(st.lists(st.binary(max_size=255), max_size=5), st.booleans())
def test_hostile_bytes(extensions: list[bytes], after_structure: bool) -> None:
    dependency = Dependency()
    if after_structure:
        dependency.read(Descriptor(True, True, 60, 7, L2T2).data())
    for ext in extensions:
        try:
            found = dependency.read(ext)
        except ValueError:
            continue
        assert found.described & 1
        assert len(dependency.targets) <= 32
        assert all(contained >> i & 1 for i, contained in enumerate(dependency.contains))


@given(st.data())
def test_random_structures(data: st.DataObject) -> None:
    targets = data.draw(st.integers(1, 32))
    chains = data.draw(st.integers(0, targets))
    layers = sorted(data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), min_size=1, max_size=12)))
    layers = [(0, 0), *[layer for layer in layers if reachable(layer, layers)]]
    templates = [
        Template(
            spatial,
            temporal,
            data.draw(st.lists(st.integers(0, 3), min_size=targets, max_size=targets)),
            data.draw(st.lists(st.integers(1, 16), max_size=3)),
            data.draw(st.lists(st.integers(0, 15), min_size=chains, max_size=chains)),
        )
        for spatial, temporal in layers
    ]
    protected = data.draw(st.lists(st.integers(0, max(chains - 1, 0)), min_size=targets, max_size=targets))
    structure = Structure(templates, data.draw(st.integers(0, 63)), protected, chains)
    whole = Descriptor(True, True, structure.first, 1, structure).data()
    if len(whole) > 255:
        return
    dependency = Dependency()
    dependency.read(whole)
    for at, template in enumerate(templates):
        found = dependency.read(Descriptor(False, True, (structure.first + at) % 64, 2).data())
        assert (found.spatial_id, found.temporal_id) == (template.spatial, template.temporal)
        assert found.targets == bits(list(template.indications), D, S, R)
        assert found.switches == bits(list(template.indications), S)
        assert found.depends == sum({1 << (d - 1) for d in template.differences})


def reachable(layer: tuple[int, int], layers: list[tuple[int, int]]) -> bool:
    """Templates go up by one temporal layer at a time, and to the next spatial one's lowest."""
    spatial, temporal = layer
    below = {(spatial, t) for t in range(temporal)} | {(s, 0) for s in range(spatial + 1)}
    return below <= {(0, 0), *layers}


@pytest.mark.parametrize("name", [name for name in NAMES if recorded(name)[0].descriptor])
def test_chromium(name: str) -> None:
    """Frames refer to frames that were sent, and each has its own number."""
    states: dict[int, Dependency] = {}
    sent: dict[int, set[int]] = {}
    for packet in recorded(name):
        state = states.setdefault(packet.encoding, Dependency())
        known = sent.setdefault(packet.encoding, set())
        found = state.read(packet.descriptor)
        assert found.described == 3
        assert found.start == (found.frame_number not in known)
        assert not found.depends or all(
            found.frame_number - d in known for d in range(1, 33) if found.depends >> (d - 1) & 1
        )
        known.add(found.frame_number)
    layers = {"l1t3": 3, "l2t2": 4, "l2t3": 6}.get(name.split("-")[1])
    assert layers in (None, len(states[0].targets))
