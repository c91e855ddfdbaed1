"""A userspace relay: peers reach a server through lines that delay, lose and queue."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from mediaserver.loadtest.engine cimport pthread_mutex_t
from mediaserver.loadtest.histogram cimport Histogram

cdef enum:
    MAX_LINES = 64
    NAME = 28                # bytes of a socket's address, IPv6 included
    TABLE = 4096             # buckets for the peers of a door, a power of two
    LARGEST = 2048

# One direction of a line. Times in ns.
cdef struct Way:
    double loss
    double bits              # a second, 0: without limit

cdef struct Line:
    int64_t delay
    int64_t jitter
    int64_t queue
    Way up                   # to the server
    Way down
    int64_t outage_from      # monotonic
    int64_t outage_until
    uint32_t late_every      # one in so many packets to the peers ...
    int64_t late             # ... comes so much later than the rest
    int victim                 # the peer, by the order of their coming, whom loss and lateness hit; -1: all

cdef struct Door

cdef struct Flow:
    int fd                   # towards the server
    Door* door
    Flow* next               # of the same bucket
    Flow* older              # of the same relay
    uint8_t name[NAME]       # of the peer
    uint32_t name_size
    uint32_t number          # by the order of coming, at its line
    int64_t free_up          # when the line has carried what is queued
    int64_t free_down
    int64_t last_up          # when the last packet leaves: none overtakes it
    int64_t last_down

cdef struct Door:
    int fd
    Line* line
    uint8_t server[NAME]
    uint32_t server_size
    uint32_t* count          # peers of the line
    Flow* table[TABLE]

cdef struct Held:
    int64_t due
    Flow* flow
    Held* next               # of the free ones
    uint16_t size
    uint8_t up
    uint8_t data[LARGEST]

cdef struct RelayTotals:
    uint64_t carried
    uint64_t octets
    uint64_t lost            # as the lines have it
    uint64_t queued_out      # the line's queue was full
    uint64_t cut             # in an outage
    uint64_t send_failures   # the relay's own loss
    uint64_t dropped         # the same, before it could read them
    uint64_t refused         # no room for another peer
    Histogram lateness       # behind the time at which a packet was to leave

cdef class Relay:
    cdef pthread_mutex_t lock
    cdef int commands
    cdef int stop
    cdef int epoll
    cdef uint32_t random
    cdef Line lines[MAX_LINES]
    cdef uint32_t counts[MAX_LINES]
    cdef int line_count
    cdef Flow* flows
    cdef Held** heap
    cdef uint32_t heap_count
    cdef uint32_t heap_room
    cdef Held* spare
    cdef uint8_t* buffers
    cdef RelayTotals totals
    cdef list doors
    cdef object thread
    cdef void take_lock(self) noexcept
    cdef void give_lock(self) noexcept
    cdef void run(self) noexcept nogil
    cdef void read_door(self, Door* door) noexcept nogil
    cdef void read_flow(self, Flow* flow) noexcept nogil
    cdef Flow* meet(self, Door* door, const uint8_t* name, uint32_t size) noexcept nogil
    cdef void offer(self, Flow* flow, bint up, const uint8_t* data, size_t size, int64_t arrived) noexcept nogil
    cdef void push(self, Held* held) noexcept nogil
    cdef Held* pop(self) noexcept nogil
    cdef inline double chance(self) noexcept nogil
    cdef void send_due(self) noexcept nogil
