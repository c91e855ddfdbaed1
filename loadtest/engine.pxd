"""What the swarm's thread works on, and the lock under which Python comes in between its rounds."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from mediaserver.loadtest.state cimport MAX_PAIRS, OutStream, Peer, Skew, SourceTimes, Tape, Totals

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)

cdef extern from *:
    """
    #define mediaserver_add(p, v) __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)
    #define mediaserver_load(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
    #define mediaserver_store(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
    """
    int add "mediaserver_add"(int* place, int value) noexcept nogil
    int load "mediaserver_load"(int* place) noexcept nogil
    void store "mediaserver_store"(int* place, int value) noexcept nogil

cdef enum:
    MAX_SOURCES = 16
    BUFFERS = 8 * 65536      # bytes: for a batch of datagrams as large as GRO makes them

cdef struct Slot:
    Peer* peer
    uint32_t generation      # tells a peer from an earlier one in the same slot

cdef struct Engine:
    pthread_mutex_t lock
    int commands             # callers that wait for the lock: the thread lets them in first
    int stop
    int epoll
    int spin
    int halted               # nothing new is published
    int64_t halted_at
    Slot* slots
    uint32_t slot_count
    OutStream** heap         # by the time the next frame is due
    uint32_t heap_count
    uint32_t heap_room
    int64_t next_tick
    uint8_t* buffers
    Totals totals
    SourceTimes times[MAX_SOURCES]
    Skew pairs[MAX_PAIRS]
    uint32_t pair_count
    Tape tape

# Until engine.stop is set.
cdef void run_engine(Engine* engine) noexcept nogil
