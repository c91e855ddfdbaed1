"""The layer gate as Python sees it: whole packets in, what leaves out. For tests and tools, not for the packet's way."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from mediaserver.codecs.dependency cimport DEPENDENCY_MAX, DependencyState, dependency_read
from mediaserver.codecs.payload cimport PayloadFacts, payload_facts
from mediaserver.sfu.policy.descriptors cimport REWRITE_MAX, gate_dependency, gate_rewrite
from mediaserver.sfu.policy.layers cimport (
    GATE_DROP,
    GATE_ENCODINGS,
    GATE_FORWARD,
    GateInput,
    LayerGate,
    gate_decide,
    gate_gone,
    gate_close,
    gate_init,
    gate_restart,
    gate_target,
)
from mediaserver.sfu.policy.pictures cimport gate_marker, gate_picture

from typing import NamedTuple


class Passed(NamedTuple):
    """A packet that leaves."""

    payload: bytes
    descriptor: bytes
    marker: bool
    switched: bool
    opened: bool


cdef class Gate:
    """The gate of one viewer, with what the packet's way keeps for each encoding."""

    cdef LayerGate gate
    cdef DependencyState[GATE_ENCODINGS] states
    cdef uint8_t[GATE_ENCODINGS] has_descriptor
    cdef int codec

    def __init__(self, int codec, int encodings=1):
        gate_init(&self.gate, encodings)
        memset(self.states, 0, sizeof(self.states))
        memset(self.has_descriptor, 0, sizeof(self.has_descriptor))
        self.codec = codec

    def __dealloc__(self):
        gate_close(&self.gate)

    def target(self, int spatial, int temporal):
        gate_target(&self.gate, spatial, temporal)

    def gone(self, int encoding):
        gate_gone(&self.gate, encoding)

    def restart(self, int encoding, bint new_source=False):
        gate_restart(&self.gate, encoding, new_source)
        if new_source:
            memset(&self.states[encoding], 0, sizeof(DependencyState))
            self.has_descriptor[encoding] = 0

    cdef int prepare(self, int encoding, GateInput* packet, PayloadFacts* facts, bytes payload, bytes descriptor,
                     bint is_new) except -1:
        cdef DependencyState known
        if not 0 <= encoding < GATE_ENCODINGS:
            raise ValueError("no such encoding")
        payload_facts(self.codec, payload, len(payload), facts)
        packet.facts = facts
        packet.codec = <uint8_t>self.codec
        if descriptor:
            if is_new:
                dependency_read(&self.states[encoding], descriptor, len(descriptor), facts)
                self.has_descriptor[encoding] = 1
            else:
                known = self.states[encoding]
                dependency_read(&known, descriptor, len(descriptor), facts)
        packet.dependency = &self.states[encoding] if self.has_descriptor[encoding] else NULL
        return 0

    cdef object passed(self, int encoding, GateInput* packet, bytes payload, bytes descriptor):
        cdef uint8_t[REWRITE_MAX] head
        cdef uint8_t[DEPENDENCY_MAX] ext
        cdef uint16_t replaced = 0
        cdef int size = gate_rewrite(&self.gate, encoding, packet, payload, len(payload), head, REWRITE_MAX, &replaced)
        if size < 0:
            return None
        if size:
            payload = <bytes>head[:size] + payload[replaced:]
        if descriptor:
            size = gate_dependency(&self.gate, encoding, packet, descriptor, len(descriptor), ext, DEPENDENCY_MAX)
            if size < 0:
                return None
            if size:
                descriptor = <bytes>ext[:size]
        marker = gate_marker(gate_picture(&self.gate, encoding, packet), packet)
        return Passed(payload, descriptor, bool(marker), bool(self.gate.switched), bool(self.gate.opened))

    def offer(self, int encoding, uint64_t sequence, uint32_t timestamp, bint marker, bytes payload not None,
              bytes descriptor=b""):
        """What leaves, or the verdict: 1 dropped, 2 waiting for a keyframe or of another encoding."""
        cdef GateInput packet
        cdef PayloadFacts facts
        cdef int verdict
        memset(&packet, 0, sizeof(packet))
        packet.sequence = sequence
        packet.timestamp = timestamp
        packet.marker = marker
        self.prepare(encoding, &packet, &facts, payload, descriptor, True)
        verdict = gate_decide(&self.gate, encoding, &packet)
        if verdict != GATE_FORWARD:
            return verdict
        found = self.passed(encoding, &packet, payload, descriptor)
        return GATE_DROP if found is None else found

    def again(self, int encoding, uint64_t sequence, uint32_t timestamp, bint marker, bytes payload not None,
              bytes descriptor=b""):
        """The same packet as a retransmission; None when it must not leave. Its flags are not told."""
        cdef GateInput packet
        cdef PayloadFacts facts
        memset(&packet, 0, sizeof(packet))
        packet.sequence = sequence
        packet.timestamp = timestamp
        packet.marker = marker
        self.prepare(encoding, &packet, &facts, payload, descriptor, False)
        return self.passed(encoding, &packet, payload, descriptor)

    @property
    def want_key_of(self):
        return self.gate.want_key_of

    @property
    def encoding(self):
        return self.gate.encoding

    @property
    def spatial(self):
        return self.gate.spatial

    @property
    def temporal(self):
        return self.gate.temporal

    @property
    def open(self):
        return bool(self.gate.open)
