"""Batches of datagrams with the kernel's receive stamps."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, memset

from mediaserver.loadtest.clock cimport timespec

cdef enum:
    MOST = 16
    CONTROL = 128

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void* iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        void* msg_name
        unsigned int msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    cdef struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    cdef struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    cmsghdr* CMSG_FIRSTHDR(msghdr* message)
    cmsghdr* CMSG_NXTHDR(msghdr* message, cmsghdr* control)
    uint8_t* CMSG_DATA(cmsghdr* control)
    int recvmmsg(int fd, mmsghdr* messages, unsigned int count, int flags, void* timeout)
    int setsockopt(int fd, int level, int option, const void* value, unsigned int size)
    int MSG_DONTWAIT
    int MSG_TRUNC


cdef int set_option(int fd, int level, int option, int value) noexcept nogil:
    return setsockopt(fd, level, option, &value, sizeof(int))


cdef void read_control(msghdr* message, Arrival* arrival) noexcept nogil:
    cdef cmsghdr* control = CMSG_FIRSTHDR(message)
    cdef timespec stamp
    cdef int segment
    while control is not NULL:
        if control.cmsg_level == SOL_SOCKET and control.cmsg_type == SO_TIMESTAMPNS:
            memcpy(&stamp, CMSG_DATA(control), sizeof(timespec))
            arrival.real = <int64_t>stamp.tv_sec * 1000000000 + stamp.tv_nsec
        elif control.cmsg_level == SOL_SOCKET and control.cmsg_type == SO_RXQ_OVFL:
            memcpy(&arrival.overflow, CMSG_DATA(control), sizeof(uint32_t))
        elif control.cmsg_level == SOL_UDP and control.cmsg_type == UDP_GRO:
            memcpy(&segment, CMSG_DATA(control), sizeof(int))
            if segment > 0:
                arrival.segment = segment
        control = CMSG_NXTHDR(message, control)


cdef int receive_batch(int fd, uint8_t* buffers, size_t size, Arrival* arrivals, int room, uint8_t* names) noexcept nogil:
    cdef mmsghdr messages[MOST]
    cdef iovec vectors[MOST]
    cdef uint8_t controls[MOST][CONTROL]
    cdef int number, count
    if room > MOST:
        room = MOST
    for number in range(room):
        vectors[number].iov_base = buffers + number * size
        vectors[number].iov_len = size
        memset(&messages[number], 0, sizeof(mmsghdr))
        messages[number].msg_hdr.msg_iov = &vectors[number]
        messages[number].msg_hdr.msg_iovlen = 1
        messages[number].msg_hdr.msg_control = &controls[number]
        messages[number].msg_hdr.msg_controllen = CONTROL
        if names is not NULL:
            messages[number].msg_hdr.msg_name = names + number * NAME_ROOM
            messages[number].msg_hdr.msg_namelen = NAME_ROOM
    count = recvmmsg(fd, messages, room, MSG_DONTWAIT, NULL)
    for number in range(count):
        memset(&arrivals[number], 0, sizeof(Arrival))
        arrivals[number].data = buffers + number * size
        arrivals[number].size = messages[number].msg_len
        arrivals[number].truncated = messages[number].msg_hdr.msg_flags & MSG_TRUNC != 0
        arrivals[number].name_size = messages[number].msg_hdr.msg_namelen
        read_control(&messages[number].msg_hdr, &arrivals[number])
    return count
