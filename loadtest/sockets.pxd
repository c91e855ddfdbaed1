"""The system calls of the swarm: batches of datagrams with the kernel's receive stamps, and precise waiting."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from mediaserver.loadtest.clock cimport timespec

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <netinet/in.h>
    #include <sched.h>
    #include <string.h>
    #include <sys/epoll.h>
    #include <sys/prctl.h>
    #include <sys/socket.h>
    #include <time.h>
    #ifndef SO_TIMESTAMPNS
    #define SO_TIMESTAMPNS 35
    #endif
    #ifndef SO_RXQ_OVFL
    #define SO_RXQ_OVFL 40
    #endif
    #ifndef SOL_UDP
    #define SOL_UDP 17
    #endif
    #ifndef UDP_GRO
    #define UDP_GRO 104
    #endif
    """
    int SOL_SOCKET
    int SOL_UDP
    int UDP_GRO
    int SO_TIMESTAMPNS
    int SO_RXQ_OVFL

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event* event)
    int epoll_pwait2(int epoll, epoll_event* events, int room, const timespec* timeout, const void* signals)
    int epoll_wait(int epoll, epoll_event* events, int room, int milliseconds)
    int EPOLL_CLOEXEC
    int EPOLL_CTL_ADD
    int EPOLL_CTL_DEL
    int EPOLLIN

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long value)
    int PR_SET_TIMERSLACK

cdef enum:
    NAME_ROOM = 28       # an address of IPv6

# One datagram as it was received; with GRO it is several of `segment` bytes each, the last one maybe shorter.
cdef struct Arrival:
    uint8_t* data
    size_t size
    size_t segment       # 0: a single datagram
    int64_t real         # the kernel's receive stamp, ns since 1970; 0 without one
    uint32_t overflow    # datagrams that the socket had no room for, since it was made
    uint8_t truncated
    uint32_t name_size

# Up to `room` (at most 16) datagrams into buffers of `size` bytes, one after another. How many, or -1 with errno.
# With `names`, the senders' addresses go there, NAME_ROOM bytes each and their sizes into the arrivals.
cdef int receive_batch(int fd, uint8_t* buffers, size_t size, Arrival* arrivals, int room, uint8_t* names) noexcept nogil
cdef int set_option(int fd, int level, int option, int value) noexcept nogil
