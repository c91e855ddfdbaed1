"""The server's kernels one by one, without the interpreter in between: each is a turn that can be run many times.

`bench_measured` is what callgrind counts: it is entered when a kernel's turns begin and left when they end.
"""

from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from mediaserver.codecs.payload cimport PayloadFacts, payload_facts
from mediaserver.codecs.unit cimport Assembler
from mediaserver.sfu.policy.allocator cimport AllocLayer, AllocTrack, allocate
from mediaserver.sfu.stream.addresses cimport address_from
from mediaserver.sfu.stream.engine cimport engine_end_batch, engine_receive
from mediaserver.sfu.stream.outbox cimport Addr, outbox_clear
from mediaserver.sfu.stream.plane cimport BasePlane
from mediaserver.sfu.policy.layers cimport LayerGate
from mediaserver.sfu.stream.buffers cimport PACKET_LARGE, Packet
from mediaserver.sfu.stream.state cimport EngineState, Leg, Peer, Sender
from mediaserver.sfu.wire.packet cimport ExtMap, ExtValues, RtpHeader, ext_read, ext_write, rtp_parse, rtp_write
from mediaserver.sfu.wire.rtcp cimport (
    RtcpArrival,
    RtcpItem,
    RtcpTransport,
    rtcp_next,
    rtcp_transport,
    rtcp_write_nack,
    rtcp_write_transport,
)
from mediaserver.sfu.wire.srtp cimport SrtpContext, SrtpReceiver, srtp_free, srtp_new, srtp_protect, srtp_unprotect

cdef extern from *:
    """
    #include <time.h>
    typedef void (*bench_turn)(void *);
    __attribute__((noinline, noclone, used)) void bench_measured(bench_turn turn, void *state, long turns) {
        for (long i = 0; i < turns; i++) turn(state);
    }
    static long long bench_cpu(void) {
        struct timespec now;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
    }
    """
    ctypedef void (*bench_turn)(void*) noexcept nogil
    void bench_measured(bench_turn, void*, long) noexcept nogil
    long long bench_cpu() noexcept nogil

cdef enum:
    ROOM = 2048
    KNOWN = 4096


cdef class Kernel:
    """`run(turns)` takes the CPU time of so many turns, in ns."""

    cdef bench_turn turn
    cdef void* state

    def run(self, long turns):
        cdef long long began = bench_cpu()
        with nogil:
            bench_measured(self.turn, self.state, turns)
        return bench_cpu() - began


# ---- SRTP

cdef struct Crypto:
    SrtpContext* context
    SrtpReceiver receiver
    uint64_t index
    size_t size
    size_t header
    size_t protected_size
    uint8_t plain[ROOM]
    uint8_t protected[ROOM]
    uint8_t out[ROOM]


cdef void turn_protect(void* state) noexcept nogil:
    cdef Crypto* crypto = <Crypto*>state
    crypto.out[2] = <uint8_t>(crypto.index >> 8)
    crypto.out[3] = <uint8_t>crypto.index
    srtp_protect(crypto.context, crypto.index, crypto.out, crypto.header, crypto.plain + crypto.header,
                 crypto.size - crypto.header)
    crypto.index += 1


cdef void turn_unprotect(void* state) noexcept nogil:
    cdef Crypto* crypto = <Crypto*>state
    cdef uint64_t index
    memcpy(crypto.out, crypto.protected, crypto.protected_size)
    crypto.receiver.highest = 0
    crypto.receiver.window[0] = 0
    srtp_unprotect(crypto.context, &crypto.receiver, crypto.out, crypto.protected_size, crypto.header, &index)


cdef class CryptoKernel(Kernel):
    def __init__(self, int profile, bytes key, bytes salt, int size, bint opens):
        cdef Crypto* crypto = <Crypto*>calloc(1, sizeof(Crypto))
        self.state = crypto
        crypto.context = srtp_new(profile, key, len(key), salt, len(salt))
        if crypto.context == NULL:
            raise ValueError("keys that no SRTP session can be made of")
        crypto.size = size
        crypto.header = 12
        rtp_write(crypto.plain, 96, 0, 1, 0, 1234)
        memcpy(crypto.protected, crypto.plain, size)
        memcpy(crypto.out, crypto.plain, 12)
        crypto.index = 1
        crypto.protected_size = srtp_protect(crypto.context, 1, crypto.protected, 12, crypto.plain + 12, size - 12)
        self.turn = turn_unprotect if opens else turn_protect

    def __dealloc__(self):
        if self.state != NULL:
            srtp_free((<Crypto*>self.state).context)
        free(self.state)


# ---- headers and RTCP

cdef struct Wire:
    ExtMap map
    ExtValues values
    uint8_t data[ROOM]
    size_t size
    uint8_t out[ROOM]
    int64_t arrivals[64]
    uint16_t sequences[64]
    RtcpArrival read[KNOWN]
    uint64_t seen


cdef void turn_header(void* state) noexcept nogil:
    """A publisher's header is read and a viewer's written."""
    cdef Wire* wire = <Wire*>state
    cdef RtpHeader header
    cdef ExtValues values
    cdef int size
    if rtp_parse(wire.data, wire.size, &header) < 0:
        return
    ext_read(wire.data, &header, &wire.map, &values)
    size = rtp_write(wire.out, header.payload_type, header.marker, <uint16_t>(header.sequence + 1), header.timestamp, 99)
    wire.seen += ext_write(wire.out + size, ROOM - size, &values, wire.map.id, values.present)


cdef void turn_read_feedback(void* state) noexcept nogil:
    cdef Wire* wire = <Wire*>state
    cdef RtcpItem item
    cdef RtcpTransport transport
    cdef size_t offset = 0
    while rtcp_next(wire.data, wire.size, &offset, &item) > 0:
        wire.seen += rtcp_transport(&item, &transport, wire.read, KNOWN)


cdef void turn_write_feedback(void* state) noexcept nogil:
    cdef Wire* wire = <Wire*>state
    cdef size_t consumed
    wire.seen += rtcp_write_transport(wire.out, ROOM, 1, 2, 0, 100, wire.arrivals, 50, &consumed)


cdef void turn_write_nack(void* state) noexcept nogil:
    cdef Wire* wire = <Wire*>state
    wire.seen += rtcp_write_nack(wire.out, ROOM, 1, 2, wire.sequences, 20)


cdef class WireKernel(Kernel):
    """`what`: header, read feedback, write feedback, write NACK. `data` is what is read; `extensions` pairs of id and
    kind."""

    def __init__(self, str what, bytes data=b"", extensions=()):
        cdef Wire* wire = <Wire*>calloc(1, sizeof(Wire))
        cdef int i
        self.state = wire
        if len(data) > ROOM:
            raise ValueError("too long")
        memcpy(wire.data, <const char*>data, len(data))
        wire.size = len(data)
        for number, kind in extensions:
            wire.map.kind[<int>number] = kind
            wire.map.id[<int>kind] = number
        for i in range(50):
            wire.arrivals[i] = 1000000 + i * 700
        for i in range(20):
            wire.sequences[i] = 7 * i
        if what == "header":
            self.turn = turn_header
        elif what == "read feedback":
            self.turn = turn_read_feedback
        elif what == "write feedback":
            self.turn = turn_write_feedback
        else:
            self.turn = turn_write_nack

    def __dealloc__(self):
        free(self.state)


# ---- payloads

cdef struct Payload:
    int codec
    PayloadFacts facts
    size_t size
    uint8_t data[ROOM]
    uint64_t seen


cdef void turn_facts(void* state) noexcept nogil:
    cdef Payload* payload = <Payload*>state
    payload.seen += payload_facts(payload.codec, payload.data, payload.size, &payload.facts)


cdef class FactsKernel(Kernel):
    def __init__(self, int codec, bytes data):
        cdef Payload* payload = <Payload*>calloc(1, sizeof(Payload))
        self.state = payload
        payload.codec = codec
        payload.size = len(data)
        memcpy(payload.data, <const char*>data, len(data))
        self.turn = turn_facts

    def __dealloc__(self):
        free(self.state)


cdef struct Assembly:
    PyObject* assembler
    PyObject* payload
    uint32_t timestamp
    uint64_t units


cdef void turn_assemble(void* state) noexcept nogil:
    """A unit of three payloads, as the recorder takes it: with the interpreter."""
    cdef Assembly* assembly = <Assembly*>state
    cdef int i
    with gil:
        assembly.timestamp += 3000
        for i in range(3):
            assembly.units += len((<Assembler>assembly.assembler).push(<bytes>assembly.payload, assembly.timestamp, i == 2))


cdef class AssembleKernel(Kernel):
    cdef object assembler
    cdef bytes payload

    def __init__(self, object assembler, bytes data):
        cdef Assembly* assembly = <Assembly*>calloc(1, sizeof(Assembly))
        self.state = assembly
        self.assembler = assembler
        self.payload = data
        assembly.assembler = <PyObject*>self.assembler
        assembly.payload = <PyObject*>self.payload
        self.turn = turn_assemble

    def __dealloc__(self):
        free(self.state)


# ---- the allocator

cdef struct Line:
    AllocTrack tracks[8]
    AllocLayer layers[8][6]
    int64_t now
    uint64_t estimate
    uint64_t seen


cdef void turn_allocate(void* state) noexcept nogil:
    cdef Line* line = <Line*>state
    line.now += 200000
    # The line falls and rises, so that something is decided.
    line.estimate = 3000000 if (line.now // 2000000) & 1 else 9000000
    line.seen += allocate(line.estimate, line.tracks, 8, 0, line.now)


cdef class AllocatorKernel(Kernel):
    """Eight tracks of six layers each share a line that falls and rises."""

    def __init__(self):
        cdef Line* line = <Line*>calloc(1, sizeof(Line))
        cdef AllocTrack* track
        cdef int i, j
        self.state = line
        line.now = 10000000
        for i in range(8):
            track = &line.tracks[i]
            track.id = i
            track.rank = i // 2 + 1
            track.video = 1
            track.floor_frames = 15
            track.least_height = 180
            track.layer_count = 6
            track.layers = line.layers[i]
            for j in range(6):
                track.layers[j].bps = 150000 << j // 2 << (j & 1)
                track.layers[j].frames = 30 if j & 1 else 15
                track.layers[j].height = 180 << (j // 2)
                track.layers[j].width = 320 << (j // 2)
                track.layers[j].spatial = j // 2
                track.layers[j].temporal = j & 1
                track.layers[j].available = 1
        self.turn = turn_allocate

    def __dealloc__(self):
        free(self.state)


# ---- the whole engine

cdef struct Datagram:
    const uint8_t* data
    uint32_t size
    uint32_t batch
    Addr source

cdef struct Play:
    EngineState* engine
    Datagram* datagrams
    uint32_t datagram_count
    int64_t* times
    uint32_t batch_count
    uint32_t at              # next datagram
    uint32_t batch           # next batch
    uint64_t messages


cdef void turn_batch(void* state) noexcept nogil:
    cdef Play* play = <Play*>state
    if play.batch == play.batch_count:
        return
    play.engine.now = play.times[play.batch]
    while play.at < play.datagram_count and play.datagrams[play.at].batch == play.batch:
        engine_receive(play.engine, &play.datagrams[play.at].source, play.datagrams[play.at].data,
                       play.datagrams[play.at].size)
        play.at += 1
    engine_end_batch(play.engine)
    play.messages += play.engine.outbox.run_count
    outbox_clear(&play.engine.outbox)
    play.batch += 1


cdef class EngineKernel(Kernel):
    """Plays batches of datagrams to an engine; a turn is a batch, and when all are played there is nothing left to do."""

    cdef BasePlane plane
    cdef list kept
    cdef readonly int turns

    def __init__(self, BasePlane plane, list batches):
        cdef Play* play = <Play*>calloc(1, sizeof(Play))
        cdef Datagram* datagram
        cdef bytes data
        self.state = play
        self.plane = plane
        self.kept = batches
        self.turns = len(batches)
        play.engine = &plane.engine
        play.batch_count = len(batches)
        play.times = <int64_t*>calloc(len(batches) + 1, sizeof(int64_t))
        play.datagrams = <Datagram*>calloc(sum(len(batch.datagrams) for batch in batches) + 1, sizeof(Datagram))
        for number, batch in enumerate(batches):
            play.times[<int>number] = batch.now
            for data, (host, port) in batch.datagrams:
                datagram = &play.datagrams[play.datagram_count]
                datagram.data = <const uint8_t*><const char*>data
                datagram.size = len(data)
                datagram.batch = number
                address_from(&datagram.source, host, port)
                play.datagram_count += 1
        self.turn = turn_batch

    def __dealloc__(self):
        cdef Play* play = <Play*>self.state
        if play != NULL:
            free(play.times)
            free(play.datagrams)
        free(self.state)

    @property
    def messages(self):
        """Messages to the kernel so far: runs of equal datagrams to one address."""
        return (<Play*>self.state).messages


def sizes():
    """Bytes of the worker's structures."""
    return {"peer": sizeof(Peer), "sender": sizeof(Sender), "leg": sizeof(Leg), "gate": sizeof(LayerGate),
            "packet": sizeof(Packet) + PACKET_LARGE}
