"""Reports to the control plane."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mediaserver.sfu.stream.state cimport EngineState, Report

cdef enum:
    REPORTS = 8192           # the ring's size

cpdef enum ReportKind:       # params.EventKind
    REPORT_CONNECTED = 1
    REPORT_MOVED = 2
    REPORT_DTLS = 3
    REPORT_SILENT = 4
    REPORT_TRACK_LIVE = 5
    REPORT_PICTURE = 6
    REPORT_TRACK_BYE = 7
    REPORT_LEG_LIVE = 8
    REPORT_REMOVED = 9
    REPORT_REFUSED = 10
    REPORT_LEG_QUALITY = 11
    REPORT_TRACK_FRESHNESS = 12
    REPORT_LAYERS_WANTED = 13
    REPORT_SOUND = 14
    REPORT_VOICE = 15

# A report that must arrive: when the ring is full it waits in the engine. DTLS is dropped before that: it repeats.
cdef void report(EngineState* engine, int kind, uint32_t id, uint64_t value, const uint8_t* data, uint32_t size) noexcept nogil
# Moves what waited into the ring. Call between batches.
cdef void report_flush(EngineState* engine) noexcept nogil
cdef void report_close(EngineState* engine) noexcept nogil
