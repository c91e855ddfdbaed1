"""A userspace relay: peers reach a server through lines that delay, lose and queue, as over a real network.

A door is a socket that peers take for the server; each peer that comes to it gets a socket of its own towards the
server, as behind a NAT, and has the door's line for itself. Packets of one peer do not overtake each other, but for
those that a fault makes late.
"""

import secrets
import socket as sockets
import threading

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from mediaserver.loadtest.clock cimport monotonic, realtime, timespec
from mediaserver.loadtest.engine cimport (
    add,
    load,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    store,
)
from mediaserver.loadtest.histogram cimport histogram_add, histogram_view
from mediaserver.loadtest.sockets cimport (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLLIN,
    PR_SET_TIMERSLACK,
    SO_RXQ_OVFL,
    SO_TIMESTAMPNS,
    SOL_SOCKET,
    Arrival,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_pwait2,
    prctl,
    receive_batch,
    sched_yield,
    set_option,
)
from mediaserver.loadtest.state cimport next_random

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef extern from "<sys/socket.h>" nogil:
    cdef struct sockaddr:
        pass
    int socket(int family, int kind, int protocol)
    int connect(int fd, const sockaddr* name, unsigned int size)
    ssize_t send(int fd, const void* data, size_t size, int flags)
    ssize_t sendto(int fd, const void* data, size_t size, int flags, const sockaddr* name, unsigned int name_size)
    int SOCK_DGRAM
    int SOCK_NONBLOCK
    int SOCK_CLOEXEC
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    int SO_RCVBUF
    int SO_RCVBUFFORCE

cdef enum:
    BATCH = 16
    EVENTS = 64
    MAX_FLOWS = 20000
    ROOM = 4 << 20           # bytes of a socket's buffer

cdef int64_t LONGEST_WAIT = 100 * 1000000


cdef class Relay:
    """Carries packets in a thread of its own from `start` to `close`. Lines are named by the numbers that `line` gives."""

    def __cinit__(self):
        memset(&self.totals, 0, sizeof(RelayTotals))
        pthread_mutex_init(&self.lock, NULL)
        self.random = secrets.randbits(32) | 1
        self.buffers = <uint8_t*>malloc(BATCH * LARGEST)
        if self.buffers is NULL:
            raise MemoryError
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError("no epoll descriptor")
        self.doors = []

    def __dealloc__(self):
        cdef Flow* flow = self.flows
        cdef Flow* older
        cdef Held* held
        cdef uint32_t number
        while flow is not NULL:
            older = flow.older
            close(flow.fd)
            free(flow)
            flow = older
        for number in range(self.heap_count):
            free(self.heap[number])
        while self.spare is not NULL:
            held = self.spare
            self.spare = held.next
            free(held)
        free(self.heap)
        free(self.buffers)
        if self.epoll > 0:
            close(self.epoll)
        for place, opened in self.doors:
            opened.close()
            free(<void*><size_t>place)
        pthread_mutex_destroy(&self.lock)

    cdef void take_lock(self) noexcept:
        with nogil:
            add(&self.commands, 1)
            pthread_mutex_lock(&self.lock)
            add(&self.commands, -1)

    cdef void give_lock(self) noexcept:
        pthread_mutex_unlock(&self.lock)

    def start(self):
        """Start the thread."""
        store(&self.stop, 0)
        self.thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self.thread.start()

    def _run(self):
        with nogil:
            self.run()

    def close(self):
        """End the thread and close the doors."""
        store(&self.stop, 1)
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        for _, opened in self.doors:
            opened.close()

    def line(self, params):
        """Add a line of these `lines.LineParams`; its number. Raises `ValueError` when there are too many."""
        cdef Line* line = &self.lines[self.line_count]
        if self.line_count == MAX_LINES:
            raise ValueError(f"at most {MAX_LINES} lines")
        line.delay = params.delay_ns
        line.jitter = params.jitter_ns
        line.queue = params.queue_ns
        line.up.loss = params.loss_up
        line.up.bits = params.bits_up
        line.down.loss = params.loss_down
        line.down.bits = params.bits_down
        line.late_every = params.late_every
        line.late = params.late_ns
        line.victim = params.victim
        self.line_count += 1
        return self.line_count - 1

    def outage(self, line, begins, ends):
        """Let a line carry nothing between two moments of the monotonic clock, in ns."""
        cdef int number = line
        if not 0 <= number < self.line_count:
            raise IndexError(line)
        self.take_lock()
        self.lines[number].outage_from = begins
        self.lines[number].outage_until = ends
        self.give_lock()

    def door(self, line, listen, server):
        """Open a door to `server` at the address `listen` (port 0: any); where it is. Raises `OSError`, `IndexError`."""
        cdef Door* door
        cdef epoll_event event
        cdef bytes name = _packed(server)
        cdef int number = line
        if not 0 <= number < self.line_count:
            raise IndexError(line)
        family = sockets.AF_INET6 if ":" in listen[0] else sockets.AF_INET
        opened = sockets.socket(family, sockets.SOCK_DGRAM)
        opened.setblocking(False)
        opened.bind(listen)
        prepare(opened.fileno())
        door = <Door*>calloc(1, sizeof(Door))
        if door is NULL:
            raise MemoryError
        door.fd = opened.fileno()
        door.line = &self.lines[number]
        door.count = &self.counts[number]
        door.server_size = len(name)
        memcpy(door.server, <const uint8_t*>name, len(name))
        # Bit 0 tells doors from peers.
        event.events = EPOLLIN
        event.data.u64 = <uint64_t><size_t>door | 1
        self.doors.append((<size_t>door, opened))
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, door.fd, &event) < 0:
            raise OSError("a socket that can't be waited for")
        return opened.getsockname()[:2]

    def figures(self):
        """What was carried and what was not, as a dict; times in ns."""
        cdef RelayTotals totals
        self.take_lock()
        totals = self.totals
        self.give_lock()
        lateness = histogram_view(&totals.lateness)
        return {
            "carried": totals.carried, "octets": totals.octets, "lost": totals.lost, "queued_out": totals.queued_out,
            "cut": totals.cut, "send_failures": totals.send_failures, "dropped": totals.dropped,
            "refused": totals.refused, "lateness_p50": lateness.percentile(50), "lateness_p99": lateness.percentile(99),
            "lateness_max": lateness.greatest,
        }

    # The thread

    cdef void run(self) noexcept nogil:
        cdef epoll_event events[EVENTS]
        cdef timespec wait
        cdef int64_t pause
        cdef int count, number
        prctl(PR_SET_TIMERSLACK, 1)
        while not load(&self.stop):
            while load(&self.commands):
                sched_yield()
            pause = LONGEST_WAIT
            if self.heap_count:
                pause = self.heap[0].due - monotonic()
                pause = 0 if pause < 0 else pause if pause < LONGEST_WAIT else LONGEST_WAIT
            wait.tv_sec = 0
            wait.tv_nsec = pause
            count = epoll_pwait2(self.epoll, events, EVENTS, &wait, NULL)
            pthread_mutex_lock(&self.lock)
            for number in range(count):
                if events[number].data.u64 & 1:
                    self.read_door(<Door*><size_t>(events[number].data.u64 & ~<uint64_t>1))
                else:
                    self.read_flow(<Flow*><size_t>events[number].data.u64)
                self.send_due()
            self.send_due()
            pthread_mutex_unlock(&self.lock)

    cdef void read_door(self, Door* door) noexcept nogil:
        cdef Arrival arrivals[BATCH]
        cdef uint8_t names[BATCH * NAME]
        cdef Flow* flow
        cdef int number
        cdef int count = receive_batch(door.fd, self.buffers, LARGEST, arrivals, BATCH, names)
        cdef int64_t ahead = realtime() - monotonic()
        for number in range(count):
            flow = self.meet(door, names + number * NAME, arrivals[number].name_size)
            if flow is NULL:
                self.totals.refused += 1
                continue
            self.offer(flow, True, arrivals[number].data, arrivals[number].size, arrivals[number].real - ahead)

    cdef void read_flow(self, Flow* flow) noexcept nogil:
        cdef Arrival arrivals[BATCH]
        cdef int number
        cdef int count = receive_batch(flow.fd, self.buffers, LARGEST, arrivals, BATCH, NULL)
        cdef int64_t ahead = realtime() - monotonic()
        for number in range(count):
            self.offer(flow, False, arrivals[number].data, arrivals[number].size, arrivals[number].real - ahead)

    cdef Flow* meet(self, Door* door, const uint8_t* name, uint32_t size) noexcept nogil:
        """The peer of this address; a new one gets its socket."""
        cdef uint32_t hashed = 2166136261
        cdef uint32_t number
        cdef Flow* flow
        cdef epoll_event event
        for number in range(size):
            hashed = (hashed ^ name[number]) * 16777619
        hashed = (hashed ^ hashed >> 15) & (TABLE - 1)
        flow = door.table[hashed]
        while flow is not NULL:
            if flow.name_size == size and memcmp(flow.name, name, size) == 0:
                return flow
            flow = flow.next
        if door.count[0] >= MAX_FLOWS:
            return NULL
        flow = <Flow*>calloc(1, sizeof(Flow))
        if flow is NULL:
            return NULL
        flow.fd = socket((<const uint16_t*>door.server)[0], SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        event.events = EPOLLIN
        event.data.u64 = <uint64_t><size_t>flow
        if (flow.fd < 0 or connect(flow.fd, <const sockaddr*>door.server, door.server_size) < 0
                or epoll_ctl(self.epoll, EPOLL_CTL_ADD, flow.fd, &event) < 0):
            if flow.fd >= 0:
                close(flow.fd)
            free(flow)
            return NULL
        prepare(flow.fd)
        flow.door = door
        memcpy(flow.name, name, size)
        flow.name_size = size
        flow.number = door.count[0]
        door.count[0] += 1
        flow.next = door.table[hashed]
        door.table[hashed] = flow
        flow.older = self.flows
        self.flows = flow
        return flow

    cdef void offer(self, Flow* flow, bint up, const uint8_t* data, size_t size, int64_t arrived) noexcept nogil:
        """Decide on a packet: when it leaves, or that it does not."""
        cdef Line* line = flow.door.line
        cdef Way* way = &line.up if up else &line.down
        cdef int64_t* free_at = &flow.free_up if up else &flow.free_down
        cdef int64_t* last = &flow.last_up if up else &flow.last_down
        cdef int64_t due = arrived + line.delay
        cdef bint hit = line.victim < 0 or <uint32_t>line.victim == flow.number
        cdef Held* held
        if line.outage_from <= arrived < line.outage_until:
            self.totals.cut += 1
            return
        # Faults hit media alone (RFC 7983), for who never connects can't suffer; a line's loss is that of any packet.
        if way.loss > 0 and hit and (line.victim < 0 or data[0] >= 128) and self.chance() < way.loss:
            self.totals.lost += 1
            return
        if way.bits > 0:
            if free_at[0] < arrived:
                free_at[0] = arrived
            if free_at[0] - arrived > line.queue:
                self.totals.queued_out += 1
                return
            free_at[0] += <int64_t>((size + 28) * 8 / way.bits * 1e9)
            due = free_at[0] + line.delay
        if line.jitter:
            due += <int64_t>(self.chance() * line.jitter)
        if due <= last[0]:
            due = last[0] + 1
        last[0] = due
        if line.late_every and not up and hit and data[0] >= 128 and next_random(&self.random) % line.late_every == 0:
            due += line.late  # others overtake it
        held = self.spare
        if held is not NULL:
            self.spare = held.next
        else:
            held = <Held*>malloc(sizeof(Held))
        if held is NULL or size > LARGEST:
            self.totals.dropped += 1
            return
        held.due = due
        held.flow = flow
        held.up = up
        held.size = <uint16_t>size
        memcpy(held.data, data, size)
        self.push(held)

    cdef inline double chance(self) noexcept nogil:
        return next_random(&self.random) / 4294967296.0

    cdef void push(self, Held* held) noexcept nogil:
        cdef uint32_t at = self.heap_count, above
        cdef Held** heap
        if at == self.heap_room:
            heap = <Held**>realloc(self.heap, max(1024, 2 * self.heap_room) * sizeof(Held*))
            if heap is NULL:
                self.totals.dropped += 1
                free(held)
                return
            self.heap = heap
            self.heap_room = max(1024, 2 * self.heap_room)
        self.heap_count += 1
        while at:
            above = (at - 1) // 2
            if self.heap[above].due <= held.due:
                break
            self.heap[at] = self.heap[above]
            at = above
        self.heap[at] = held

    cdef Held* pop(self) noexcept nogil:
        cdef Held* first = self.heap[0]
        cdef Held* moved
        cdef uint32_t at = 0, child
        self.heap_count -= 1
        moved = self.heap[self.heap_count]
        while True:
            child = 2 * at + 1
            if child >= self.heap_count:
                break
            if child + 1 < self.heap_count and self.heap[child + 1].due < self.heap[child].due:
                child += 1
            if moved.due <= self.heap[child].due:
                break
            self.heap[at] = self.heap[child]
            at = child
        self.heap[at] = moved
        return first

    cdef void send_due(self) noexcept nogil:
        cdef Held* held
        cdef ssize_t sent
        cdef int64_t now
        while self.heap_count:
            now = monotonic()
            if self.heap[0].due > now:
                return
            held = self.pop()
            histogram_add(&self.totals.lateness, now - held.due)
            if held.up:
                sent = send(held.flow.fd, held.data, held.size, MSG_DONTWAIT | MSG_NOSIGNAL)
            else:
                sent = sendto(held.flow.door.fd, held.data, held.size, MSG_DONTWAIT | MSG_NOSIGNAL,
                              <const sockaddr*>held.flow.name, held.flow.name_size)
            if sent < 0:
                self.totals.send_failures += 1
            else:
                self.totals.carried += 1
                self.totals.octets += held.size
            held.next = self.spare
            self.spare = held


cdef void prepare(int fd) noexcept nogil:
    set_option(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1)
    if set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, ROOM) < 0:
        set_option(fd, SOL_SOCKET, SO_RCVBUF, ROOM)


def _packed(address):
    """A socket's address as the kernel has it."""
    host, port = address[:2]
    if ":" in host:
        return (int(sockets.AF_INET6).to_bytes(2, "little") + int(port).to_bytes(2, "big") + bytes(4)
                + sockets.inet_pton(sockets.AF_INET6, host) + bytes(4))
    return int(sockets.AF_INET).to_bytes(2, "little") + int(port).to_bytes(2, "big") + sockets.inet_pton(
        sockets.AF_INET, host) + bytes(8)
