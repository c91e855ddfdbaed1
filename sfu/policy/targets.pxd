"""Decode targets of the dependency descriptor: the frames of one flow, changed where a frame says that it can be entered."""

from mediaserver.codecs.dependency cimport DependencyState
from mediaserver.sfu.policy.layers cimport GateInput, GatePicture, LayerGate

# What is wanted, in terms of the structure in force.
cdef void adopt_structure(LayerGate* gate, const DependencyState* state) noexcept nogil
# Decides for a frame of one layer, by its descriptor.
cdef void begin_frame(LayerGate* gate, GatePicture* picture, const GateInput* packet, bint newest) noexcept nogil
# VP8 that has a descriptor as well: the temporal layers decide, and the decode targets are told by them.
cdef void follow_ids(LayerGate* gate, GatePicture* picture, const GateInput* packet, bint newest) noexcept nogil
