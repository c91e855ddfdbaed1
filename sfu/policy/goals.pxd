"""What a gate is to let through, as far as it comes."""

from mediaserver.sfu.policy.layers cimport LayerGate

cdef enum:
    ALL_LAYERS = 127


cdef inline int goal_layer(const LayerGate* gate) noexcept nogil:
    """The highest spatial layer within an encoding."""
    if gate.encodings > 1 or gate.goal_spatial < 0:
        return ALL_LAYERS
    return gate.goal_spatial


cdef inline int goal_encoding(const LayerGate* gate) noexcept nogil:
    """Of the encodings that come the highest that is wanted, else the lowest."""
    cdef int i
    cdef int wanted = gate.goal_spatial
    if gate.encodings == 1:
        return 0
    if wanted < 0 or wanted >= gate.encodings:
        wanted = gate.encodings - 1
    if not gate.seen:
        return wanted
    for i in range(wanted, -1, -1):
        if (gate.seen >> i) & 1:
            return i
    for i in range(wanted + 1, gate.encodings):
        if (gate.seen >> i) & 1:
            return i
    return wanted


cdef inline int goal_reach(const LayerGate* gate) noexcept nogil:
    """The highest temporal layer. On the way up to another encoding what flows meanwhile is not thinned any further."""
    cdef int wanted = gate.goal_temporal
    if wanted < 0:
        return ALL_LAYERS
    if gate.open and goal_encoding(gate) > gate.encoding and gate.reach > wanted:
        return gate.reach
    return wanted
