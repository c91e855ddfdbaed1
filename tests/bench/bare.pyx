"""The least that forwarding takes on this machine: receive, decrypt, rewrite, encrypt, send, and nothing else.

No ICE, DTLS, RTCP, history, layers, pacing or statistics: what `make bench` compares the server with. It has the same
kernel under it and the same library for AES-GCM, takes datagrams as batches and sends runs of equal ones whole. A
patient one waits for the rest of a picture and makes its packets equal, as the server does: that is less work still.
"""

import threading

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from mediaserver.sfu.stream.sockets cimport (
    AF_INET,
    CMSG_DATA,
    CMSG_FIRSTHDR,
    CMSG_LEN,
    CMSG_SPACE,
    EPOLLIN,
    EPOLL_CTL_ADD,
    INADDR_LOOPBACK,
    MSG_DONTWAIT,
    SOL_UDP,
    UDP_GRO,
    UDP_SEGMENT,
    close,
    cmsghdr,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    htonl,
    htons,
    iovec,
    mmsghdr,
    msghdr,
    ntohs,
    recvmmsg,
    sendmmsg,
    setsockopt,
    sockaddr_in,
    timespec,
)
from mediaserver.sfu.wire.packet cimport read_u16, write_u16, write_u32
from mediaserver.sfu.wire.replay cimport estimate_index
from mediaserver.sfu.wire.srtp cimport PROFILE_AEAD_AES_128_GCM, SrtpContext, srtp_free, srtp_new
from mediaserver.sfu.wire.srtp_transform cimport GCM_TAG, SRTP_OK, aead_open, aead_seal

cdef extern from *:
    """
    #include <sys/prctl.h>
    """
    int nanosleep(const timespec*, timespec*) noexcept nogil
    int prctl(int, unsigned long) noexcept nogil
    enum:
        PR_SET_TIMERSLACK

cdef enum:
    BATCH = 32
    BUFFER = 65536
    PENDING = 512            # packets of one batch
    MESSAGES = 64            # of one sendmmsg
    RUN = 44                 # segments of one message
    OUT = 262144
    CONTROL = 64
    GATHER_NS = 60000
    GATHER_ROUNDS = 3
    TIMER_SLACK_NS = 5000
    PADDING_MOST = 12
    WAIT_MS = 100            # between two looks at whether the end has come

cdef struct Leg:
    SrtpContext* keys
    sockaddr_in address
    uint32_t ssrc
    uint64_t index

cdef struct Source:
    SrtpContext* keys
    uint64_t highest
    Leg* legs
    int leg_count

cdef struct Opened:
    uint8_t* data
    uint32_t size            # without the tag
    uint16_t header
    uint16_t source

cdef struct Loop:
    int fd
    int epoll
    int stop
    int patient
    Source* sources
    uint16_t by_port[65536]  # 1 + index of the source; 0: nobody
    mmsghdr incoming[BATCH]
    iovec parts[BATCH]
    sockaddr_in senders[BATCH]
    uint8_t controls[BATCH][CONTROL]
    Opened opened[PENDING]
    int opened_count
    mmsghdr outgoing[MESSAGES]
    iovec runs[MESSAGES]
    uint8_t run_controls[MESSAGES][CONTROL]
    int run_count
    uint32_t used
    uint64_t received
    uint64_t sent
    uint64_t messages
    uint64_t failed
    uint8_t buffers[BATCH * (1 + GATHER_ROUNDS)][BUFFER]
    uint8_t out[OUT]


cdef int segment_of(msghdr* header, int size) noexcept nogil:
    cdef cmsghdr* item = CMSG_FIRSTHDR(header)
    cdef int segment = 0
    if item != NULL and item.cmsg_level == SOL_UDP and item.cmsg_type == UDP_GRO:
        memcpy(&segment, CMSG_DATA(item), sizeof(int))
    return segment if segment > 0 else size


cdef int header_size(const uint8_t* data, uint32_t size) noexcept nogil:
    """0: no media."""
    cdef uint32_t found = 12
    if size < 28 or data[0] >> 6 != 2 or 64 <= (data[1] & 127) < 96:
        return 0
    if data[0] & 0x10:
        found += 4 + 4 * read_u16(data + 14)
    return <int>found if found + GCM_TAG <= size else 0


cdef void take(Loop* loop, uint16_t at, uint8_t* data, uint32_t size) noexcept nogil:
    cdef Source* source = &loop.sources[at]
    cdef Opened* opened = &loop.opened[loop.opened_count]
    cdef int header = header_size(data, size)
    cdef uint64_t index
    if header == 0 or loop.opened_count == PENDING:
        return
    index = estimate_index(source.highest, read_u16(data + 2))
    if aead_open(&source.keys.rtp, (<uint32_t>read_u16(data + 8) << 16) | read_u16(data + 10), index, data, header, NULL,
                 data + header, size - header - GCM_TAG, data + size - GCM_TAG) != SRTP_OK:
        loop.failed += 1
        return
    if index > source.highest:
        source.highest = index
    opened.data = data
    opened.size = size - GCM_TAG
    opened.header = <uint16_t>header
    opened.source = at
    loop.opened_count += 1
    loop.received += 1


cdef void send_runs(Loop* loop) noexcept nogil:
    cdef int sent = 0, done
    while sent < loop.run_count:
        done = sendmmsg(loop.fd, loop.outgoing + sent, loop.run_count - sent, MSG_DONTWAIT)
        if done <= 0:
            loop.failed += 1
            done = 1
        sent += done
    loop.messages += loop.run_count
    loop.run_count = 0
    loop.used = 0


cdef void end_run(Loop* loop, const Leg* leg, uint8_t* data, uint32_t size, uint16_t segment) noexcept nogil:
    cdef msghdr* header = &loop.outgoing[loop.run_count].msg_hdr
    cdef cmsghdr* item = <cmsghdr*>loop.run_controls[loop.run_count]
    header.msg_name = <void*>&leg.address
    header.msg_namelen = sizeof(sockaddr_in)
    loop.runs[loop.run_count].iov_base = data
    loop.runs[loop.run_count].iov_len = size
    header.msg_iov = &loop.runs[loop.run_count]
    header.msg_iovlen = 1
    header.msg_control = NULL
    header.msg_controllen = 0
    if size > segment:
        item.cmsg_level = SOL_UDP
        item.cmsg_type = UDP_SEGMENT
        item.cmsg_len = CMSG_LEN(sizeof(uint16_t))
        memcpy(CMSG_DATA(item), &segment, sizeof(uint16_t))
        header.msg_control = item
        header.msg_controllen = CMSG_SPACE(sizeof(uint16_t))
    loop.run_count += 1


cdef void forward(Loop* loop, Leg* leg, uint16_t source) noexcept nogil:
    cdef const Opened* opened
    cdef uint8_t* out
    cdef uint8_t* run = NULL
    cdef uint32_t size, run_size = 0
    cdef uint16_t segment = 0
    cdef int i, count = 0
    for i in range(loop.opened_count):
        opened = &loop.opened[i]
        if opened.source != source:
            continue
        size = opened.size + GCM_TAG
        if run != NULL and (size > segment or run_size != count * segment or count == RUN
                            or loop.used + size > OUT):
            end_run(loop, leg, run, run_size, segment)
            run = NULL
        if run == NULL:
            if loop.run_count == MESSAGES or loop.used + size > OUT:
                send_runs(loop)
            run = loop.out + loop.used
            run_size = count = 0
            segment = <uint16_t>size
        out = loop.out + loop.used
        memcpy(out, opened.data, opened.header)
        write_u16(out + 2, <uint16_t>leg.index)
        write_u32(out + 8, leg.ssrc)
        aead_seal(&leg.keys.rtp, leg.ssrc, leg.index, out, opened.header, NULL, opened.data + opened.header,
                  opened.size - opened.header, out + opened.header, out + opened.size)
        leg.index += 1
        loop.used += size
        run_size += size
        count += 1
        loop.sent += 1
    if run != NULL:
        end_run(loop, leg, run, run_size, segment)


cdef void forward_all(Loop* loop) noexcept nogil:
    cdef int i, j
    cdef uint16_t source
    for i in range(loop.opened_count):
        source = loop.opened[i].source
        for j in range(i):
            if loop.opened[j].source == source:
                break
        else:
            for j in range(loop.sources[source].leg_count):
                forward(loop, &loop.sources[source].legs[j], source)
    if loop.run_count:
        send_runs(loop)
    loop.opened_count = 0


cdef int receive(Loop* loop, int round) noexcept nogil:
    cdef int i, count
    cdef uint32_t at, part, size, segment
    cdef uint16_t source
    cdef msghdr* header
    for i in range(BATCH):
        loop.parts[i].iov_base = loop.buffers[round * BATCH + i]
        loop.parts[i].iov_len = BUFFER
        header = &loop.incoming[i].msg_hdr
        header.msg_name = &loop.senders[i]
        header.msg_namelen = sizeof(sockaddr_in)
        header.msg_iov = &loop.parts[i]
        header.msg_iovlen = 1
        header.msg_control = loop.controls[i]
        header.msg_controllen = CONTROL
    count = recvmmsg(loop.fd, loop.incoming, BATCH, MSG_DONTWAIT, NULL)
    for i in range(count):
        source = loop.by_port[ntohs(loop.senders[i].sin_port)]
        if source == 0:
            continue
        size = loop.incoming[i].msg_len
        segment = segment_of(&loop.incoming[i].msg_hdr, size)
        at = 0
        while at < size:
            part = segment if size - at > segment else size - at
            take(loop, source - 1, loop.buffers[round * BATCH + i] + at, part)
            at += part
    return count


cdef void equalise(Loop* loop) noexcept nogil:
    """Pads all but the last packet to the size of the largest, where they differ by little; the tag makes room."""
    cdef uint32_t most = 0, more
    cdef uint8_t* data
    cdef int i
    for i in range(loop.opened_count):
        most = max(most, loop.opened[i].size)
    for i in range(loop.opened_count - 1):
        more = most - loop.opened[i].size
        if 0 < more <= PADDING_MOST:
            data = loop.opened[i].data
            memset(data + loop.opened[i].size, 0, more)
            data[most - 1] = <uint8_t>more
            data[0] |= 0x20
            loop.opened[i].size = most


cdef int turn(Loop* loop) noexcept nogil:
    cdef int count = receive(loop, 0)
    cdef int rounds = 0
    cdef timespec pause
    if loop.patient:
        while 0 < count < BATCH and rounds < GATHER_ROUNDS and loop.opened_count \
                and not loop.opened[loop.opened_count - 1].data[1] & 0x80:
            pause.tv_sec = 0
            pause.tv_nsec = GATHER_NS
            nanosleep(&pause, NULL)
            rounds += 1
            count = receive(loop, rounds)
        equalise(loop)
    forward_all(loop)
    return count


cdef void run(Loop* loop) noexcept nogil:
    cdef epoll_event event
    if loop.patient:
        prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS)
    while not loop.stop:
        epoll_wait(loop.epoll, &event, 1, WAIT_MS)
        while turn(loop) == BATCH:
            pass


cdef SrtpContext* keys_of(bytes key, bytes salt) except NULL:
    cdef SrtpContext* made = srtp_new(PROFILE_AEAD_AES_128_GCM, key, len(key), salt, len(salt))
    if made == NULL:
        raise ValueError("keys that no SRTP session can be made of")
    return made


cdef class Bare:
    """Forwards between peers on loopback by AEAD_AES_128_GCM. `sources` are pairs of a peer and its viewers; a peer is
    (port, key, salt, SSRC under which it is sent to); a `patient` loop is for pictures. The socket stays the caller's."""

    cdef Loop* loop
    cdef int source_count
    cdef object thread

    def __cinit__(self, int fd, list sources, bint patient=False):
        cdef epoll_event event
        cdef Source* source
        cdef Leg* leg
        cdef int on = 1
        self.loop = <Loop*>calloc(1, sizeof(Loop))
        if self.loop == NULL:
            raise MemoryError
        self.loop.fd = fd
        self.loop.patient = patient
        self.loop.epoll = epoll_create1(0)
        event.events = EPOLLIN
        event.data.u64 = 0
        epoll_ctl(self.loop.epoll, EPOLL_CTL_ADD, fd, &event)
        setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on))
        self.loop.sources = <Source*>calloc(len(sources), sizeof(Source))
        for at, ((port, key, salt, _), viewers) in enumerate(sources):
            source = &self.loop.sources[<int>at]
            self.source_count += 1
            source.keys = keys_of(key, salt)
            self.loop.by_port[<int>port] = at + 1
            source.legs = <Leg*>calloc(len(viewers), sizeof(Leg))
            for port, key, salt, ssrc in viewers:
                leg = &source.legs[source.leg_count]
                source.leg_count += 1
                leg.keys = keys_of(key, salt)
                leg.ssrc = ssrc
                leg.address.sin_family = AF_INET
                leg.address.sin_port = htons(port)
                leg.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK)

    def __dealloc__(self):
        cdef int i, j
        if self.loop == NULL:
            return
        for i in range(self.source_count):
            for j in range(self.loop.sources[i].leg_count):
                srtp_free(self.loop.sources[i].legs[j].keys)
            free(self.loop.sources[i].legs)
            srtp_free(self.loop.sources[i].keys)
        free(self.loop.sources)
        close(self.loop.epoll)
        free(self.loop)

    def start(self):
        """Begin, on a thread of its own."""
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        with nogil:
            run(self.loop)

    def stop(self):
        self.loop.stop = 1
        self.thread.join()

    @property
    def native_id(self):
        """The kernel's number of the thread."""
        return self.thread.native_id

    def counts(self):
        """Packets in and out, messages out, and what failed."""
        return self.loop.received, self.loop.sent, self.loop.messages, self.loop.failed
