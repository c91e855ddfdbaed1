"""A worker: one thread without the GIL, with its sockets and a clock around the engine.

The only place in `sfu` that waits, reads a clock or owns sockets: one for UDP and, for those whose network lets no UDP
through, one that takes TCP connections (RFC 6544). Commands come by a ring, with an eventfd to wake
the thread; events go by another, with an eventfd that the control plane watches.
"""

import os
import socket
import threading

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from mediaserver.sfu.stream.ahead cimport ahead_feedback, ahead_peer
from mediaserver.sfu.stream.connectivity cimport address_key
from mediaserver.sfu.stream.control cimport Command, carry_out
from mediaserver.sfu.stream.engine cimport (
    engine_close,
    engine_deadline,
    engine_end_batch,
    engine_init,
    engine_take,
)
from mediaserver.sfu.stream.fanout cimport fanout_gathers
from mediaserver.sfu.stream.mirror cimport mirrors_take, mirrors_wait
from mediaserver.sfu.stream.outbox cimport Addr, Outbox, outbox_clear
from mediaserver.sfu.stream.outlet cimport outlets_serve
from mediaserver.sfu.stream.plane cimport BasePlane
from mediaserver.sfu.stream.relay cimport Doorbell, Relayed, bell_release, bell_sleep, bell_wake
from mediaserver.sfu.stream.ring cimport Ring, ring_close, ring_count, ring_init, ring_put, ring_take
from mediaserver.sfu.stream.spread cimport Spread, spread_add
from mediaserver.sfu.stream.state cimport EngineState, Peer
from mediaserver.sfu.stream.table cimport table_ahead, table_get
from mediaserver.sfu.stream.tap cimport TapRing
from mediaserver.sfu.stream.tcp cimport Tcp, tcp_accept, tcp_drain, tcp_flush, tcp_free, tcp_new, tcp_receive, tcp_sweep
from mediaserver.sfu.stream.udp cimport (
    UDP_BATCH,
    Udp,
    udp_drain,
    udp_free,
    udp_has_segmentation,
    udp_message,
    udp_new,
    udp_receive,
)
from mediaserver.sfu.wire.packet cimport DEMUX_RTP, demux_kind, is_rtcp

cdef extern from *:
    """
    #include <sys/epoll.h>
    #include <sys/prctl.h>
    #include <time.h>
    #include <unistd.h>
    """
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int) noexcept nogil
    int epoll_ctl(int, int, int, epoll_event*) noexcept nogil
    int epoll_wait(int, epoll_event*, int, int) noexcept nogil
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int, timespec*) noexcept nogil
    int nanosleep(const timespec*, timespec*) noexcept nogil
    int prctl(int, unsigned long) noexcept nogil
    long read(int, void*, size_t) noexcept nogil
    long write(int, const void*, size_t) noexcept nogil
    int close(int) noexcept nogil
    enum:
        EPOLL_CTL_ADD, EPOLLIN, EPOLLOUT, EPOLL_CLOEXEC, CLOCK_MONOTONIC, CLOCK_REALTIME, PR_SET_TIMERSLACK

cdef enum:
    COMMANDS = 16384         # the ring's size; what does not fit waits on the control plane's side
    GATHER_US = 60           # one wait for more packets of a picture
    GATHER_ROUNDS = 3
    SPARE_MOST = 2000        # µs without work that may be spent on such waits later
    TIMER_SLACK_NS = 5000    # by which the kernel may let us sleep longer: its usual 50 µs would double that
    ROUNDS = 8               # calls of recvmmsg before other events are looked at again
    COMMANDS_TURN = 64       # carried out between two looks at the socket: some 0.4 ms of packets' waiting
    LATENCY_BUCKETS = 96
    SOCKET_BUFFER = 8388608
    TAKEN_MOST = UDP_BATCH * (1 + GATHER_ROUNDS)
    READY = 64               # events taken at once
    LISTEN_BACKLOG = 512
    SAME_PORT_TRIES = 20

# What is ready, in an epoll event's data; above the last of these the id of a TCP connection.
cdef enum Ready:
    READY_UDP
    READY_WAKE
    READY_LISTENER
    READY_CONNECTION = 1 << 8


cdef int64_t now_us(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t>now.tv_sec * 1000000 + now.tv_nsec // 1000


cdef int latency_bucket(int64_t us) noexcept nogil:
    """Four buckets an octave: below 4 µs each its own, the top one open."""
    cdef int octave = 0
    cdef int bucket
    if us < 4:
        return <int>us if us > 0 else 0
    while us >> (octave + 3):
        octave += 1
    bucket = 4 + octave * 4 + <int>((us >> octave) & 3)
    return bucket if bucket < LATENCY_BUCKETS else LATENCY_BUCKETS - 1


cdef int64_t bucket_limit(int bucket) noexcept nogil:
    """µs, exclusive."""
    if bucket < 4:
        return bucket + 1
    return <int64_t>(4 + (bucket - 4) % 4 + 1) << ((bucket - 4) // 4)


# The messages of a batch: when each came (µs), how many packets of media it held, and of which track.
cdef struct Taken:
    int messages
    int64_t arrivals[TAKEN_MOST]
    uint64_t counts[TAKEN_MOST]
    Spread* served[TAKEN_MOST]

# A message of the last call of recvmmsg.
cdef struct Message:
    Addr addr
    uint64_t key             # of the address
    const uint8_t* data
    uint64_t size
    uint64_t segment         # of its datagrams; the last may be shorter
    Peer* peer               # whose address it is, as far as it is known by now

cdef struct Loop:
    Message messages[UDP_BATCH]
    EngineState* engine
    Udp* udp
    Tcp* tcp                 # NULL: no TCP
    int epoll
    int wake                 # eventfd: commands, or the end
    int told                 # eventfd: events
    Ring commands
    uint64_t stop
    uint64_t busy            # µs not spent waiting
    uint64_t latency[LATENCY_BUCKETS]
    uint64_t latency_sum     # µs
    uint64_t loops
    int64_t spare            # µs that it has waited for work, less those of waits for more of it
    Doorbell* bell           # by which other workers wake this one
    int crowded              # the ring of commands was nearly full: more may wait behind it


cdef void take_commands(Loop* loop) noexcept nogil:
    cdef Command* command
    cdef int taken = 0
    if ring_count(&loop.commands) == 0:
        return
    # What came before them waits for all who listen yet: it may not outlive its track.
    flush(loop)
    # The control plane may find the ring full, and put no more before it is told that there is room.
    if ring_count(&loop.commands) > COMMANDS // 2:
        loop.crowded = 1
    while taken < COMMANDS_TURN:
        command = <Command*>ring_take(&loop.commands)
        if command == NULL:
            break
        carry_out(loop.engine, command)
        free(command)
        taken += 1
    loop.engine.behind = ring_count(&loop.commands) != 0


cdef int is_media(const uint8_t* data, uint64_t size) noexcept nogil:
    return size > 0 and demux_kind(data[0]) == DEMUX_RTP and not is_rtcp(data, size)


cdef void drain(void* context, Outbox* outbox) noexcept nogil:
    cdef Loop* loop = <Loop*>context
    udp_drain(loop.udp, outbox)
    if loop.tcp != NULL:
        tcp_drain(loop.tcp, outbox, loop.engine.now)


cdef void flush(Loop* loop) noexcept nogil:
    engine_end_batch(loop.engine)
    if loop.engine.outbox.run_count:
        drain(loop, &loop.engine.outbox)
        outbox_clear(&loop.engine.outbox)


cdef void measure(Loop* loop, const Taken* taken) noexcept nogil:
    """From the kernel's receive stamp to the return of the last send of the batch: an upper bound for each packet.

    No command may be carried out between the messages and this: `served` is a block that the control plane frees when it
    has read that its track was removed."""
    cdef int64_t now = now_us(CLOCK_REALTIME)
    cdef int64_t spent
    cdef int i
    for i in range(taken.messages):
        if taken.counts[i] and taken.arrivals[i]:
            spent = now - taken.arrivals[i]
            loop.latency[latency_bucket(spent)] += taken.counts[i]
            loop.latency_sum += taken.counts[i] * <uint64_t>(spent if spent > 0 else 0)
            if taken.served[i] != NULL:
                spread_add(taken.served[i], spent, <uint32_t>taken.counts[i])


cdef void measure_relayed(Loop* loop) noexcept nogil:
    """The same for what came by way of another worker: from its kernel's stamp on."""
    cdef int64_t now = now_us(CLOCK_REALTIME)
    cdef int64_t spent
    cdef Relayed* one
    cdef int i
    for i in range(loop.engine.relayed_count):
        one = &loop.engine.relayed[i]
        spent = now - one.stamped
        loop.latency[latency_bucket(spent)] += one.count
        loop.latency_sum += one.count * <uint64_t>(spent if spent > 0 else 0)
        spread_add(one.served, spent, <uint32_t>one.count)
    loop.engine.relayed_count = 0


cdef void take_relayed(Loop* loop) noexcept nogil:
    """What other workers have for this one, and want of it."""
    cdef int rounds = 0, more = 1
    outlets_serve(loop.engine)
    while more and rounds < ROUNDS:
        loop.engine.now = now_us(CLOCK_MONOTONIC)
        more = mirrors_take(loop.engine)
        flush(loop)
        measure_relayed(loop)
        rounds += 1


cdef inline void look_ahead(Loop* loop, int turn, int messages) noexcept nogil:
    """What viewers tell of their lines comes in bunches, and of none of them is anything in the cache. Each turn takes a
    step for each of the messages that come next: its peer, then what that is known by."""
    cdef Message* message
    if turn < messages:
        message = &loop.messages[turn]
        message.peer = <Peer*>table_get(&loop.engine.by_address, message.key)
        if message.peer != NULL:
            ahead_peer(message.peer)
    if 0 < turn <= messages:
        message = &loop.messages[turn - 1]
        if message.peer != NULL and message.size and is_rtcp(message.data, message.size):
            ahead_feedback(message.peer)


cdef int take(Loop* loop, Taken* taken) noexcept nogil:
    """One call of recvmmsg. How many messages."""
    cdef int messages = udp_receive(loop.udp)
    cdef int i, at_message
    cdef uint64_t at, part
    cdef Message* message
    # A peer checks the path as soon as it has its answer. The command that adds it was put before that was sent, and to
    # say 401 would end the pair in some browsers: whatever has come by now finds what had been asked for before.
    if messages and ring_count(&loop.commands):
        # A track's figures go with it: those of the messages before are written while they are there.
        flush(loop)
        measure(loop, taken)
        taken.messages = 0
        take_commands(loop)
    for i in range(messages):
        message = &loop.messages[i]
        message.data = udp_message(loop.udp, i, &message.addr, &message.size, &message.segment,
                                   &taken.arrivals[taken.messages + i])
        message.key = address_key(loop.engine, &message.addr)
        table_ahead(&loop.engine.by_address, message.key)
    look_ahead(loop, 0, messages)
    look_ahead(loop, 1, messages)
    for i in range(messages):
        look_ahead(loop, i + 2, messages)
        message = &loop.messages[i]
        at_message = taken.messages + i
        taken.counts[at_message] = 0
        at = 0
        loop.engine.served = NULL
        loop.engine.stamped = taken.arrivals[at_message]
        while at < message.size:
            part = message.segment if message.size - at > message.segment else message.size - at
            taken.counts[at_message] += is_media(message.data + at, part)
            engine_take(loop.engine, &message.addr, message.key, message.data + at, part)
            at += part
        # One message is of one sender, and nearly always of one track.
        taken.served[at_message] = loop.engine.served
    loop.engine.stamped = 0
    taken.messages += messages
    return messages


cdef int take_datagrams(Loop* loop) noexcept nogil:
    """A batch, and all that comes of it. How many messages its last call of recvmmsg brought.

    Of a picture's packets the first would go to all viewers alone while the others come in. To wait for these is more
    work done in less time, for each viewer gets one message in place of several; where there is no time to spare they
    have come in the meantime anyway."""
    cdef Taken taken
    cdef timespec pause
    cdef int messages, rounds = 0
    taken.messages = 0
    messages = take(loop, &taken)
    while messages < UDP_BATCH and loop.spare >= GATHER_US and rounds < GATHER_ROUNDS and fanout_gathers(loop.engine):
        pause.tv_sec = 0
        pause.tv_nsec = GATHER_US * 1000
        nanosleep(&pause, NULL)
        loop.spare -= GATHER_US
        messages = take(loop, &taken)
        rounds += 1
    flush(loop)
    measure(loop, &taken)
    return messages


cdef void take_event(Loop* loop, const epoll_event* event) noexcept nogil:
    """Whatever is ready but UDP, which every turn looks at."""
    cdef uint32_t connection
    cdef uint64_t count
    if event.data.u64 == READY_WAKE:
        read(loop.wake, &count, sizeof(count))
        take_commands(loop)
    elif event.data.u64 == READY_LISTENER:
        tcp_accept(loop.tcp, loop.engine.now)
    elif event.data.u64 >= READY_CONNECTION:
        connection = <uint32_t>(event.data.u64 >> 8)
        if not loop.engine.behind:
            take_commands(loop)
        if event.events & EPOLLOUT:
            tcp_flush(loop.tcp, connection, loop.engine.now)
        if event.events & ~<uint32_t>EPOLLOUT:  # an error or a hang-up is found by reading
            tcp_receive(loop.tcp, loop.engine, connection)


cdef void run(Loop* loop) noexcept nogil:
    cdef epoll_event ready[READY]
    cdef int64_t started, wait, woken
    cdef uint64_t one = 1
    cdef int rounds, count, linked, i
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS)
    while not loop.stop:
        linked = loop.engine.incoming != NULL or loop.engine.outgoing != NULL
        started = now_us(CLOCK_MONOTONIC)
        wait = 0 if loop.engine.behind else (engine_deadline(loop.engine) - started + 999) // 1000
        if linked:
            bell_sleep(loop.bell)
            if mirrors_wait(loop.engine):
                wait = 0
        count = epoll_wait(loop.epoll, ready, READY, <int>(0 if wait < 0 else wait if wait < 1000 else 1000))
        if linked:
            bell_wake(loop.bell)
        woken = now_us(CLOCK_MONOTONIC)
        loop.spare = min(loop.spare + woken - started, <int64_t>SPARE_MOST)
        started = woken
        loop.engine.now = started
        if loop.engine.behind:
            take_commands(loop)
        for i in range(count):
            take_event(loop, &ready[i])
        rounds = 0
        while take_datagrams(loop) == UDP_BATCH and rounds < ROUNDS:
            loop.engine.now = now_us(CLOCK_MONOTONIC)
            rounds += 1
        if linked:
            take_relayed(loop)
        if loop.tcp != NULL:
            tcp_sweep(loop.tcp, loop.engine, loop.engine.now)
        if ring_count(loop.engine.reports) or loop.crowded:
            loop.crowded = 0
            write(loop.told, &one, sizeof(one))
        loop.loops += 1
        loop.busy += <uint64_t>(now_us(CLOCK_MONOTONIC) - started)


cdef void bell_write(Doorbell* bell) noexcept nogil:
    cdef uint64_t one = 1
    write(bell.fd, &one, sizeof(one))


cdef void bell_close(Doorbell* bell) noexcept nogil:
    close(bell.fd)


cdef Doorbell* bell_new(int fd) except NULL:
    """`fd` is an eventfd, and the bell's from now on."""
    cdef Doorbell* bell = <Doorbell*>calloc(1, sizeof(Doorbell))
    if bell == NULL:
        raise MemoryError
    bell.holders = 1
    bell.fd = fd
    bell.ring = bell_write
    bell.close = bell_close
    return bell


class TcpError(OSError):
    """The address for TCP connections cannot be had."""


cdef class Worker(BasePlane):
    """A data plane on a thread of its own.

    `address` is where its socket binds; port 0 takes a free one. `tcp` is where it takes TCP connections, None: nowhere;
    with port 0 the port is that of `address`. `tcp_connections` is the most of them. `memory` bounds the packets that are held, in bytes;
    `consent_timeout` is in µs. OSError when the address cannot be had.
    """

    cdef Loop loop
    cdef object socket
    cdef object listener
    cdef object thread
    cdef list waiting        # commands that did not fit the ring, as integers
    cdef readonly int event_fd
    cdef readonly int port
    cdef readonly object tcp_port
    cdef readonly str host

    def __init__(self, address: tuple[str, int], *, tcp: tuple[str, int] | None = None, tcp_connections: int = 4096,
                 memory: int = 1 << 30, consent_timeout: int = 30_000_000, adapts: bool = True):
        cdef bytes seed = os.urandom(16)
        cdef uint64_t word
        memset(&self.loop, 0, sizeof(Loop))
        self.loop.epoll = self.loop.wake = self.loop.told = -1
        self.event_fd = -1
        self.waiting = []
        self.entropy = os.urandom
        self.host = address[0]
        ipv6 = ":" in address[0]
        self.open_sockets(address, tcp)
        self.loop.engine = &self.engine
        wildcard = address[0] in ("0.0.0.0", "::")
        self.loop.udp = udp_new(self.socket.fileno(), ipv6, wildcard, &self.engine.counters)
        if self.loop.udp == NULL or ring_init(&self.loop.commands, COMMANDS) < 0:
            raise MemoryError
        self.engine.adapts = adapts
        if engine_init(&self.engine, memory, consent_timeout, <const uint8_t*><const char*>seed, drain,
                       &self.loop) < 0:
            raise MemoryError
        self.loop.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.loop.told = self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.loop.bell = bell_new(os.dup(self.loop.wake))  # others may ring when the worker has stopped
        self.watch()
        if self.listener is not None:
            memcpy(&word, <const char*>seed, 8)
            self.loop.tcp = tcp_new(self.listener.fileno(), self.loop.epoll, READY_LISTENER, tcp_connections, word,
                                    &self.engine.counters)
            if self.loop.tcp == NULL:
                raise MemoryError

    def __dealloc__(self):
        cdef Command* command
        if self.loop.commands.slots != NULL:
            while True:
                command = <Command*>ring_take(&self.loop.commands)
                if command == NULL:
                    break
                free(command)
            ring_close(&self.loop.commands)
        if self.waiting is not None:
            for left in self.waiting:
                free(<Command*><size_t>left)
        engine_close(&self.engine)
        tcp_free(self.loop.tcp)
        udp_free(self.loop.udp)
        bell_release(self.loop.bell)

    cdef Doorbell* bell(self) noexcept:
        return self.loop.bell

    def open_sockets(self, address, tcp):
        """One for UDP and one that listens; where any port will do, two of the same number."""
        either = tcp is not None and address[1] == 0 and tcp[1] == 0
        for last in range(SAME_PORT_TRIES if either else 1):
            self.socket = self.open_udp(address, ":" in address[0])
            self.port = self.socket.getsockname()[1]
            if tcp is None:
                return
            try:
                self.listener = self.open_listener((tcp[0], tcp[1] or self.port))
                self.tcp_port = self.listener.getsockname()[1]
                return
            except OSError as error:
                self.socket.close()
                failure = error
        raise TcpError(failure.errno, failure.strerror) from failure

    @staticmethod
    def open_listener(address):
        ipv6 = ":" in address[0]
        opened = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            if ipv6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.setblocking(False)
            opened.bind(address)
            opened.listen(LISTEN_BACKLOG)
        except BaseException:
            opened.close()
            raise
        return opened

    @staticmethod
    def open_udp(address, ipv6):
        opened = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            if ipv6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
            for force, plain in ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF)):
                try:
                    opened.setsockopt(socket.SOL_SOCKET, force, SOCKET_BUFFER)  # SO_RCVBUFFORCE, SO_SNDBUFFORCE
                except PermissionError:
                    opened.setsockopt(socket.SOL_SOCKET, plain, SOCKET_BUFFER)
            opened.setblocking(False)
            opened.bind(address)
        except BaseException:
            opened.close()
            raise
        return opened

    cdef int watch(self) except -1:
        cdef epoll_event event
        self.loop.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.loop.epoll < 0:
            raise OSError("epoll is not available")
        for fd, tag in ((self.socket.fileno(), READY_UDP), (self.loop.wake, READY_WAKE)):
            event.events = EPOLLIN
            event.data.u64 = tag
            if epoll_ctl(self.loop.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
                raise OSError(f"epoll does not take file descriptor {fd}")
        return 0

    cdef int submit(self, Command* command) except -1:
        if self.waiting or not ring_put(&self.loop.commands, command):
            self.waiting.append(<size_t>command)
        self.wake()
        return 0

    cdef int wake(self) except -1:
        cdef uint64_t one = 1
        write(self.loop.wake, &one, sizeof(one))
        return 0

    cdef int send_waiting(self) except -1:
        cdef int sent = 0
        while sent < len(self.waiting) and ring_put(&self.loop.commands, <Command*><size_t>self.waiting[sent]):
            sent += 1
        if sent:
            del self.waiting[:sent]
            self.wake()
        return 0

    def start(self) -> None:
        """Start the thread."""
        if self.thread is not None:
            raise RuntimeError("this worker has been started already")
        self.thread = threading.Thread(target=self.work, name=f"worker-{self.port}", daemon=True)
        self.thread.start()

    def work(self):
        with nogil:
            run(&self.loop)

    def stop(self) -> None:
        """End the thread and close the socket. Taps can still be read to their end."""
        self.loop.stop = 1
        if self.thread is not None:
            self.wake()
            self.thread.join()
        for block in self.blocks.values():
            self.close_tap(block)
        # The thread has ended: nobody uses the connections any more.
        tcp_free(self.loop.tcp)
        self.loop.tcp = NULL
        self.socket.close()
        if self.listener is not None:
            self.listener.close()
        bell_release(self.loop.bell)
        self.loop.bell = NULL
        for fd in (self.loop.epoll, self.loop.wake, self.event_fd):
            if fd >= 0:
                os.close(fd)
        self.loop.epoll = self.loop.wake = self.loop.told = self.event_fd = -1

    cdef int close_tap(self, block) except -1:
        if isinstance(block, TapRing):
            (<TapRing>block).queue.closed = 1
        return 0

    def poll_events(self) -> list:
        cdef uint64_t count
        if self.event_fd >= 0:
            read(self.event_fd, &count, sizeof(count))
        if self.waiting:
            self.send_waiting()
        return BasePlane.poll_events(self)

    @property
    def segmentation(self) -> bool:
        """The kernel splits runs of datagrams (UDP_SEGMENT)."""
        return udp_has_segmentation(self.loop.udp) != 0

    @property
    def busy_us(self) -> int:
        """Microseconds that the thread has not spent waiting."""
        return self.loop.busy

    def latency_histogram(self) -> tuple[list[tuple[int, int]], int]:
        """Time of media datagrams in the server: pairs of upper limit (exclusive) and count, and the sum; in µs."""
        return [(bucket_limit(i), self.loop.latency[i]) for i in range(LATENCY_BUCKETS)], self.loop.latency_sum
