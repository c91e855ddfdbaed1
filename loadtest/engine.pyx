"""The swarm's thread: sends the frames that are due, reads what has come, and waits for the next of either."""

from libc.errno cimport ECONNREFUSED, ENOSYS, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from mediaserver.loadtest.clock cimport monotonic, realtime, timespec
from mediaserver.loadtest.consent cimport receive_stun, send_check
from mediaserver.loadtest.engine cimport BUFFERS, Engine, Slot, load, pthread_mutex_lock, pthread_mutex_unlock
from mediaserver.loadtest.feedback cimport send_feedback
from mediaserver.loadtest.heap cimport heap_down
from mediaserver.loadtest.histogram cimport histogram_add
from mediaserver.loadtest.receiver cimport (
    ask_for_keyframes,
    judge_floors,
    receive_media,
    receive_reports,
    send_nacks,
    send_receiver_report,
    watch_skew,
)
from mediaserver.loadtest.sender cimport send_frame, send_sender_reports
from mediaserver.loadtest.sockets cimport (
    PR_SET_TIMERSLACK,
    Arrival,
    epoll_event,
    epoll_pwait2,
    epoll_wait,
    prctl,
    receive_batch,
    sched_yield,
)
from mediaserver.loadtest.state cimport PEER_ALERT, PEER_REFUSED, OutStream, Peer
from mediaserver.sfu.wire.packet cimport DEMUX_DTLS, DEMUX_RTP, DEMUX_STUN, demux_kind, is_rtcp

cdef enum:
    DTLS_ALERT = 21
    BATCH = 8                # datagrams of one recvmmsg
    EVENTS = 64
    TURN = 8                 # peers of the clock's round between two looks at the schedule

cdef int64_t TICK = 10 * 1000000
cdef int64_t SECOND = 1000000000
cdef int64_t LONGEST_WAIT = 100 * 1000000


cdef void send_due(Engine* engine) noexcept nogil:
    """Send every frame whose time has come."""
    cdef OutStream* stream
    cdef int64_t now
    while engine.heap_count and not engine.halted:
        stream = engine.heap[0]
        now = monotonic()
        if stream.due > now:
            return
        send_frame(stream, now, &engine.totals)
        heap_down(engine.heap, engine.heap_count, 0)


cdef void take_datagram(Engine* engine, Peer* peer, uint8_t* data, size_t size, const Arrival* arrival, int64_t arrived,
                        int64_t now) noexcept nogil:
    cdef int kind
    engine.totals.datagrams += 1
    if size == 0:
        return
    kind = demux_kind(data[0])
    if kind == DEMUX_RTP:
        if is_rtcp(data, size):
            receive_reports(peer, data, size, arrived, now, &engine.totals)
        else:
            receive_media(peer, data, size, arrival.real, arrived, now, engine.times, &engine.tape, &engine.totals)
    elif kind == DEMUX_STUN:
        receive_stun(peer, data, size, now, &engine.totals)
    elif kind == DEMUX_DTLS and data[0] == DTLS_ALERT and not peer.gone:
        peer.gone = PEER_ALERT


cdef void take_arrival(Engine* engine, Peer* peer, const Arrival* arrival, int64_t real, int64_t now) noexcept nogil:
    cdef size_t offset = 0, size
    cdef size_t segment = arrival.segment if arrival.segment else arrival.size
    # The kernel's stamp on the clock of everything else.
    cdef int64_t arrived = now - (real - arrival.real) if 0 < arrival.real < real else now
    if arrival.truncated:
        engine.totals.dropped += 1
    if arrival.overflow != peer.overflow:
        engine.totals.dropped += <uint32_t>(arrival.overflow - peer.overflow)
        peer.overflow = arrival.overflow
    while offset < arrival.size:
        size = segment if segment < arrival.size - offset else arrival.size - offset
        take_datagram(engine, peer, arrival.data + offset, size, arrival, arrived, now)
        offset += size


cdef void read_peer(Engine* engine, Peer* peer) noexcept nogil:
    cdef Arrival arrivals[BATCH]
    cdef int64_t now, real
    cdef int number
    cdef int count = receive_batch(peer.fd, engine.buffers, BUFFERS // BATCH, arrivals, BATCH, NULL)
    if count <= 0:
        if count < 0 and errno == ECONNREFUSED:
            peer.gone = PEER_REFUSED
        return
    now = monotonic()
    real = realtime()
    for number in range(count):
        if arrivals[number].real:
            histogram_add(&engine.totals.receiver_lateness, real - arrivals[number].real)
        take_arrival(engine, peer, &arrivals[number], real, now)
    if peer.nack_due:
        send_nacks(peer, now, &engine.totals)


cdef void judge_second(Engine* engine, Peer* peer, int64_t now) noexcept nogil:
    cdef uint32_t number
    for number in range(peer.in_count):
        judge_floors(&peer.ins[number], now)
    watch_skew(peer, engine.pairs, engine.pair_count, now)


cdef void tick(Engine* engine, int64_t now) noexcept nogil:
    """What every peer does by the clock."""
    cdef Peer* peer
    cdef uint32_t number
    for number in range(engine.slot_count):
        peer = engine.slots[number].peer
        if peer is NULL or peer.gone:
            continue
        if number % TURN == 0:
            send_due(engine)  # what all of them take together would be our own lateness
        if now >= peer.next_check:
            send_check(peer, now, &engine.totals)
        if peer.nack_due:
            send_nacks(peer, now, &engine.totals)
        if peer.picture_due:
            ask_for_keyframes(peer, now, &engine.totals)
        if peer.feedback_started and now >= peer.next_feedback:
            send_feedback(peer, now, &engine.totals)
        if now >= peer.next_report:
            peer.next_report = now + SECOND
            if peer.out_count and not engine.halted:
                send_sender_reports(peer, now, &engine.totals)
            if peer.in_count:
                send_receiver_report(peer, now, &engine.totals)
                if not engine.halted:
                    judge_second(engine, peer, now)


cdef int read_events(Engine* engine, epoll_event* events, int count) noexcept nogil:
    cdef int number
    cdef uint64_t name
    cdef const Slot* slot
    for number in range(count):
        # A peer may have been removed since the kernel named it.
        name = events[number].data.u64
        slot = &engine.slots[name >> 32]
        if slot.peer is not NULL and slot.generation == <uint32_t>name:
            read_peer(engine, slot.peer)
            send_due(engine)
    return count


cdef int64_t wait_of(Engine* engine, int64_t now) noexcept nogil:
    cdef int64_t until = engine.next_tick
    if engine.heap_count and not engine.halted and engine.heap[0].due < until:
        until = engine.heap[0].due
    if engine.spin or until <= now:
        return 0
    return until - now if until - now < LONGEST_WAIT else LONGEST_WAIT


cdef void run_engine(Engine* engine) noexcept nogil:
    cdef epoll_event events[EVENTS]
    cdef timespec wait
    cdef int64_t began, now, pause
    cdef uint64_t sent
    cdef int count = 0
    # The default slack of 50 us would be our own lateness.
    prctl(PR_SET_TIMERSLACK, 1)
    while not load(&engine.stop):
        while load(&engine.commands):
            sched_yield()
        pthread_mutex_lock(&engine.lock)
        began = monotonic()
        sent = engine.totals.sent
        send_due(engine)
        read_events(engine, events, count)
        now = monotonic()
        if now >= engine.next_tick:
            engine.next_tick = now + TICK
            tick(engine, now)
        send_due(engine)
        now = monotonic()
        if count or sent != engine.totals.sent:
            engine.totals.busy += now - began
        engine.totals.rounds += 1
        pause = wait_of(engine, now)
        pthread_mutex_unlock(&engine.lock)
        wait.tv_sec = pause // SECOND
        wait.tv_nsec = pause % SECOND
        count = epoll_pwait2(engine.epoll, events, EVENTS, &wait, NULL)
        if count < 0 and errno == ENOSYS:
            # Before Linux 5.11, and under valgrind. Whole ms: never longer than there is time.
            count = epoll_wait(engine.epoll, events, EVENTS, <int>(pause // 1000000))
        if count < 0:
            count = 0
