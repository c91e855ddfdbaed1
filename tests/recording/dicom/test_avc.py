"""A stream that is called High is the same stream."""

from __future__ import annotations

import contextlib
import io

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.codecs import h264
from mediaserver.recording import mp4
from mediaserver.recording.export import avc
from tests.recording.dicom import consultation


def _sps(stream: bytes) -> bytes:
    return next(nal for nal in mp4.nal_units(stream) if avc.kind_264(nal) == avc.SPS_264)


def _decoded(stream: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(stream), format="h264") as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]  # type: ignore[union-attr]


@pytest.mark.parametrize("options", [(), consultation.MAIN, consultation.HIGH], ids=["baseline", "main", "high"])
def test_relabelled_pictures_decode_the_same(options: tuple[tuple[str, str], ...]) -> None:
    stream = b"".join(consultation.h264(options, 8))
    sps = _sps(stream)
    renamed = avc.as_high(sps)
    before, after = h264.parse_sps(sps), h264.parse_sps(renamed)
    assert after.profile_idc == avc.HIGH
    assert (after.width, after.height, after.level_idc) == (before.width, before.height, before.level_idc)
    assert (after.chroma_format, after.bit_depth) == (1, 8)
    changed = stream.replace(sps, renamed)
    for one, other in zip(_decoded(stream), _decoded(changed), strict=True):
        assert np.array_equal(one, other)
    with av.open(io.BytesIO(changed), format="h264") as container:
        assert container.streams.video[0].codec_context.profile == "High"
    assert avc.as_high(renamed) == renamed


def test_what_may_have_slice_groups_keeps_its_name() -> None:
    sps = bytearray(_sps(b"".join(consultation.h264((), 8))))
    sps[2] &= 0x3F  # Baseline without a word of the constraints
    assert not avc.may_be_high(h264.parse_sps(bytes(sps)))
    with pytest.raises(ValueError, match="can't be called High"):
        avc.as_high(bytes(sps))


def test_level_1b_is_written_as_high_writes_it() -> None:
    sps = bytearray(_sps(b"".join(consultation.h264((), 8))))
    sps[2], sps[3] = sps[2] | 0x10, 11
    assert h264.parse_sps(avc.as_high(bytes(sps))).level_idc == 9


@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, 255]), max_size=64).map(bytes))
def test_escaping_is_undone(data: bytes) -> None:
    escaped = avc._escape(data)
    assert avc._unescape(escaped) == data
    assert not any(code in escaped for code in (b"\0\0\0", b"\0\0\1", b"\0\0\2"))


@given(st.binary(max_size=80))
def test_descriptions_of_any_kind_are_read_or_refused(data: bytes) -> None:
    for read in (avc.avcc_sets, avc.hvcc_sets):
        with contextlib.suppress(ValueError):
            assert all(isinstance(nal, bytes) for nal in read(data))
    with contextlib.suppress(ValueError):
        assert sum(len(nal) + 4 for nal in avc.units(data)) == len(data)
