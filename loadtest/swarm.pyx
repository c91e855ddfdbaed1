"""The swarm: one thread without the GIL that sends for every publisher and receives for every viewer.

The thread takes the lock once a round; Python comes in between rounds to add a peer, to remove one, or to read counts.
"""

import secrets
import threading

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from mediaserver.loadtest.assembly cimport free_peer, make_peer, peer_stats
from mediaserver.loadtest.clock cimport monotonic
from mediaserver.loadtest.engine cimport (
    BUFFERS,
    MAX_SOURCES,
    Engine,
    Slot,
    add,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    run_engine,
    store,
)
from mediaserver.loadtest.heap cimport heap_build
from mediaserver.loadtest.histogram cimport Histogram, histogram_view
from mediaserver.loadtest.sender cimport send_bye
from mediaserver.loadtest.sockets cimport (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLLIN,
    SO_RXQ_OVFL,
    SO_TIMESTAMPNS,
    SOL_SOCKET,
    SOL_UDP,
    UDP_GRO,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    set_option,
)
from mediaserver.loadtest.state cimport HISTORY, MAX_PAIRS, OutStream, Peer, SourceTimes, Taped

from mediaserver.loadtest import peers

cdef extern from "<unistd.h>" nogil:
    int close(int fd)


cdef class Swarm:
    """Plays any number of peers over connected UDP sockets. With `spin` it never sleeps: then who sends to it does not
    pay for waking it up."""

    def __cinit__(self, *, bint spin=False):
        memset(&self.engine, 0, sizeof(Engine))
        pthread_mutex_init(&self.engine.lock, NULL)
        self.engine.spin = spin
        self.engine.totals.random = secrets.randbits(32) | 1
        self.engine.buffers = <uint8_t*>malloc(BUFFERS)
        if self.engine.buffers is NULL:
            raise MemoryError
        self.engine.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.engine.epoll < 0:
            raise OSError("no epoll descriptor")
        self.thread = None
        self.sockets = {}

    def __dealloc__(self):
        # The thread holds a reference to us, so it has ended.
        cdef uint32_t number
        for number in range(self.engine.slot_count):
            if self.engine.slots[number].peer is not NULL:
                free_peer(self.engine.slots[number].peer)
        free(self.engine.slots)
        free(self.engine.heap)
        free(self.engine.buffers)
        free(self.engine.tape.bytes)
        if self.engine.epoll > 0:
            close(self.engine.epoll)
        pthread_mutex_destroy(&self.engine.lock)

    cdef void take_lock(self) noexcept:
        with nogil:
            add(&self.engine.commands, 1)
            pthread_mutex_lock(&self.engine.lock)
            add(&self.engine.commands, -1)

    cdef void give_lock(self) noexcept:
        pthread_mutex_unlock(&self.engine.lock)

    def start(self):
        """Start the thread."""
        if self.thread is None:
            store(&self.engine.stop, 0)
            self.thread = threading.Thread(target=self._run, name="swarm", daemon=True)
            self.thread.start()

    @property
    def native_id(self):
        """The kernel's number of the thread; 0 before `start`."""
        return self.thread.native_id if self.thread is not None else 0

    def _run(self):
        with nogil:
            run_engine(&self.engine)

    def close(self):
        """End the thread and forget every peer, with BYE and with its socket."""
        if self.thread is not None:
            store(&self.engine.stop, 1)
            self.thread.join()
            self.thread = None
        for number in list(self.sockets):
            self.remove_peer(number)

    def add_peer(self, number, socket, params):
        """Play a peer from now on, under a `number` of the caller's choice, over a connected, non-blocking UDP socket.

        The swarm keeps and in the end closes the socket. Raises `ValueError` for a number in use or unusable parameters.
        """
        cdef Peer* peer
        cdef int slot
        if number in self.sockets:
            raise ValueError(f"peer {number} is already there")
        peer = make_peer(params, socket.getpeername(), monotonic())
        peer.fd = socket.fileno()
        peer.number = number
        set_option(peer.fd, SOL_SOCKET, SO_TIMESTAMPNS, 1)
        set_option(peer.fd, SOL_SOCKET, SO_RXQ_OVFL, 1)
        # Segments that one send has joined come whole; old kernels know nothing of it and deliver them singly.
        set_option(peer.fd, SOL_UDP, UDP_GRO, 1)
        self.take_lock()
        try:
            slot = self.enter(peer)
        except BaseException:
            free_peer(peer)
            raise
        finally:
            self.give_lock()
        self.sockets[number] = (slot, socket, params)

    cdef int enter(self, Peer* peer) except -1:
        cdef Engine* engine = &self.engine
        cdef epoll_event event
        cdef uint32_t slot = 0, number, room
        cdef Slot* slots
        cdef OutStream** heap
        while slot < engine.slot_count and engine.slots[slot].peer is not NULL:
            slot += 1
        if slot == engine.slot_count:
            room = max(16, 2 * engine.slot_count)
            slots = <Slot*>realloc(engine.slots, room * sizeof(Slot))
            if slots is NULL:
                raise MemoryError
            memset(slots + engine.slot_count, 0, (room - engine.slot_count) * sizeof(Slot))
            engine.slots = slots
            engine.slot_count = room
        if engine.heap_count + peer.out_count > engine.heap_room:
            room = 2 * (engine.heap_room + peer.out_count)
            heap = <OutStream**>realloc(engine.heap, room * sizeof(OutStream*))
            if heap is NULL:
                raise MemoryError
            engine.heap = heap
            engine.heap_room = room
        engine.slots[slot].generation += 1
        event.events = EPOLLIN
        event.data.u64 = (<uint64_t>slot << 32) | engine.slots[slot].generation
        if epoll_ctl(engine.epoll, EPOLL_CTL_ADD, peer.fd, &event) < 0:
            raise OSError("a socket that can't be waited for")
        engine.slots[slot].peer = peer
        for number in range(peer.out_count):
            engine.heap[engine.heap_count] = &peer.outs[number]
            engine.heap_count += 1
        heap_build(engine.heap, engine.heap_count)
        return slot

    def remove_peer(self, number):
        """Forget a peer and close its socket. Raises `KeyError`."""
        cdef Peer* peer
        cdef uint32_t position, kept = 0
        slot, socket, _ = self.sockets.pop(number)
        self.take_lock()
        peer = self.engine.slots[<uint32_t>slot].peer
        self.engine.slots[<uint32_t>slot].peer = NULL
        for position in range(self.engine.heap_count):
            if self.engine.heap[position].peer != peer:
                self.engine.heap[kept] = self.engine.heap[position]
                kept += 1
        self.engine.heap_count = kept
        heap_build(self.engine.heap, kept)
        epoll_ctl(self.engine.epoll, EPOLL_CTL_DEL, peer.fd, NULL)
        send_bye(peer, &self.engine.totals)
        self.give_lock()
        free_peer(peer)
        socket.close()

    def halt(self):
        """Publish nothing more; go on receiving."""
        self.take_lock()
        self.engine.halted = 1
        self.engine.halted_at = monotonic()
        self.give_lock()

    def watch_skew(self, pairs):
        """Measure from now on, each second at each viewer, how far the sources of each pair are apart."""
        pairs = list(pairs)
        if len(pairs) > MAX_PAIRS:
            raise ValueError(f"at most {MAX_PAIRS} pairs")
        self.take_lock()
        for number, (first, second) in enumerate(pairs):
            self.engine.pairs[<int>number].first = first
            self.engine.pairs[<int>number].second = second
        self.engine.pair_count = len(pairs)
        self.give_lock()

    def skews(self):
        """For each pair, how far its first source was ahead of the second, and how far behind."""
        cdef uint32_t number
        found = []
        self.take_lock()
        try:
            for number in range(self.engine.pair_count):
                found.append((
                    histogram_view(&self.engine.pairs[number].ahead), histogram_view(&self.engine.pairs[number].behind)
                ))
        finally:
            self.give_lock()
        return found

    def mark(self, moment):
        """An outage ends at this moment of the monotonic clock, in ns: from there on each stream's recovery counts."""
        cdef int64_t at = moment
        cdef uint32_t slot, number
        cdef Peer* peer
        self.take_lock()
        for slot in range(self.engine.slot_count):
            peer = self.engine.slots[slot].peer
            if peer is not NULL:
                for number in range(peer.in_count):
                    peer.ins[number].mark = at
                    peer.ins[number].recovered = 0
        self.give_lock()

    def open_tape(self, room):
        """Keep the packets of taped streams, so many bytes between two calls of `take_tape`."""
        self.take_lock()
        try:
            if self.engine.tape.bytes is NULL:
                self.engine.tape.bytes = <uint8_t*>malloc(room)
                if self.engine.tape.bytes is NULL:
                    raise MemoryError
                self.engine.tape.room = room
        finally:
            self.give_lock()

    def take_tape(self):
        """What is on the tape: (peer, position of the stream, index, timestamp, marker, arrival, payload) by arrival."""
        cdef Taped entry
        cdef size_t at = 0
        cdef bytes copy
        cdef const char* data
        self.take_lock()
        try:
            copy = PyBytes_FromStringAndSize(<const char*>self.engine.tape.bytes, self.engine.tape.used)
            self.engine.tape.used = 0
        finally:
            self.give_lock()
        data = copy
        found = []
        while at < <size_t>len(copy):
            memcpy(&entry, data + at, sizeof(Taped))
            at += sizeof(Taped)
            found.append(peers.TapedPacket(
                entry.peer, entry.stream, entry.index, entry.timestamp, bool(entry.marker), entry.arrived,
                copy[at : at + entry.size],
            ))
            at += entry.size
        return found

    def sent_at(self, number, position, frame):
        """When a frame of a published clip was last due, in ns of the real clock; 0 when it was not sent yet. Raises
        `KeyError` and `IndexError`."""
        cdef uint32_t wanted = frame
        cdef OutStream* stream
        slot = self.sockets[number][0]
        self.take_lock()
        try:
            if not 0 <= position < self.engine.slots[<uint32_t>slot].peer.out_count:
                raise IndexError(position)
            stream = &self.engine.slots[<uint32_t>slot].peer.outs[<uint32_t>position]
            if wanted >= stream.clip.frame_count:
                raise IndexError(frame)
            return stream.sent_at[wanted]
        finally:
            self.give_lock()

    def restart_counts(self):
        """Zero the histograms and totals of the swarm, for the measured part of a run. Streams keep their counts."""
        cdef int pair
        self.take_lock()
        memset(&self.engine.times, 0, sizeof(self.engine.times))
        for pair in range(MAX_PAIRS):
            memset(&self.engine.pairs[pair].ahead, 0, sizeof(Histogram))
            memset(&self.engine.pairs[pair].behind, 0, sizeof(Histogram))
        random = self.engine.totals.random
        memset(&self.engine.totals, 0, sizeof(self.engine.totals))
        self.engine.totals.random = random
        self.give_lock()

    def totals(self):
        """The counts of the whole swarm."""
        self.take_lock()
        totals = self.engine.totals
        self.give_lock()
        return peers.Totals(
            totals.sent, totals.sent_octets, totals.received, totals.received_octets, totals.opened,
            totals.datagrams, totals.send_failures, totals.dropped, totals.unknown, totals.feedbacks, totals.feedback_octets, totals.busy,
            totals.untimed, totals.untaped,
            histogram_view(&totals.sender_lateness), histogram_view(&totals.receiver_lateness),
        )

    def times(self, source):
        """Latency and jitter of one source, over all its viewers. Raises `IndexError`."""
        cdef SourceTimes times
        if not 0 <= source < MAX_SOURCES:
            raise IndexError(source)
        self.take_lock()
        times = self.engine.times[<int>source]
        self.give_lock()
        return peers.SourceTimes(
            histogram_view(&times.latency), histogram_view(&times.jitter), histogram_view(&times.intended),
            histogram_view(&times.lined),
        )

    def peer(self, number):
        """The counts of one peer and its streams. Raises `KeyError`."""
        slot = self.sockets[number][0]
        self.take_lock()
        try:
            return peer_stats(
                self.engine.slots[<uint32_t>slot].peer, self.engine.halted_at if self.engine.halted else monotonic()
            )
        finally:
            self.give_lock()

    def sent_since(self, number, position, stamp):
        """How many of the last 1,024 packets of a published stream left after the one with this send stamp."""
        cdef uint64_t after = stamp
        cdef uint32_t entry, count = 0
        cdef OutStream* stream
        slot = self.sockets[number][0]
        self.take_lock()
        try:
            if not 0 <= position < self.engine.slots[<uint32_t>slot].peer.out_count:
                raise IndexError(position)
            stream = &self.engine.slots[<uint32_t>slot].peer.outs[<uint32_t>position]
            for entry in range(HISTORY):
                if stream.history[entry].used and stream.history[entry].ntp > after:
                    count += 1
            return count
        finally:
            self.give_lock()
