"""ICE over TCP (RFC 6544), the passive side: connections that others open, datagrams on them in frames (RFC 4571).

Ids: the place of a connection in the low 16 bits (from 1), a count of its uses above, so that the id of one that has
ended names none that came after it.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from mediaserver.sfu.stream.backlog cimport (
    BACKLOG_SPANS,
    Backlog,
    Span,
    backlog_add,
    backlog_close,
    backlog_empty,
    backlog_memory,
    backlog_shrink,
    backlog_spans,
    backlog_split,
    backlog_written,
)
from mediaserver.sfu.stream.connectivity cimport lose_address, peer_at
from mediaserver.sfu.stream.engine cimport engine_receive
from mediaserver.sfu.stream.outbox cimport Addr, Run
from mediaserver.sfu.stream.sockets cimport (
    AF_INET,
    EPOLLIN,
    EPOLLOUT,
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    IPPROTO_TCP,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    SO_RCVBUF,
    TCP_NODELAY,
    TCP_NOTSENT_LOWAT,
    TCP_USER_TIMEOUT,
    accept4,
    close,
    epoll_ctl,
    epoll_event,
    iovec,
    msghdr,
    ntohs,
    recv,
    sendmsg,
    setsockopt,
    sockaddr,
    sockaddr_in,
    sockaddr_in6,
    socklen_t,
)
from mediaserver.sfu.wire.framing cimport (
    FRAME_HEAD,
    FRAME_MAX,
    FRAME_READ,
    FRAME_TOO_LONG,
    Deframer,
    deframer_begin,
    deframer_close,
    deframer_keep,
    frame_head,
    frame_next,
)
from mediaserver.sfu.wire.packet cimport DEMUX_RTP, DEMUX_STUN, demux_kind, is_rtcp

cdef enum:
    RECEIVE_BYTES = 65536        # read at once
    SEND_FRAMES = 64             # written at once
    ACCEPTS = 64                 # a turn of the loop
    NOTSENT_BYTES = 32768        # that the kernel holds unsent: what waits here can still be given up
    RECEIVE_BUFFER = 262144      # of the kernel
    DEAD_MS = 15000              # without an acknowledgement
    UNPROVED_FRAMES = 64         # of one connection: many more than the checks of one RTT
    BACKLOG_TOTAL = 134217728    # bytes of all connections

cdef enum Standing:
    UNPROVED
    PROVED                       # a peer's
    DEAD                         # the socket has failed or is unwanted; closed at the end of the turn
    STANDINGS

cdef union Peername:
    sockaddr_in v4
    sockaddr_in6 v6

cdef struct Connection:
    int fd
    int armed                    # EPOLLOUT is asked for
    int frames                   # before the proof
    Addr addr
    Deframer deframer
    Backlog backlog
    int64_t opened               # µs
    int64_t heard                # µs, the last frame
    int64_t took                 # µs, when it last took bytes, or began to wait
    int standing                 # the list that it is in
    Connection* older
    Connection* newer

cdef struct Line:                # connections by age
    Connection* oldest
    Connection* newest

cdef struct Tcp:
    int listener
    int epoll
    uint64_t listener_tag
    int paused                   # no descriptors are left: the listener waits for the sweep
    Counters* counters
    uint32_t limit
    uint32_t count
    uint32_t unproved
    Connection** slots           # by place, from 1
    uint16_t* uses
    uint32_t* free_slots
    uint32_t free_count
    Line lines[STANDINGS]
    size_t backlog_bytes
    int64_t sweep_due
    uint8_t buffer[FRAME_HEAD + FRAME_MAX + RECEIVE_BYTES]


cdef int control(Tcp* tcp, int operation, int fd, uint32_t events, uint64_t tag) noexcept nogil:
    cdef epoll_event event
    memset(&event, 0, sizeof(event))
    event.events = events
    event.data.u64 = tag
    return epoll_ctl(tcp.epoll, operation, fd, &event)


cdef Tcp* tcp_new(int listener, int epoll, uint64_t listener_tag, uint32_t limit, uint64_t seed,
                  Counters* counters) noexcept nogil:
    cdef Tcp* tcp = <Tcp*>calloc(1, sizeof(Tcp))
    cdef uint32_t i
    if tcp == NULL:
        return NULL
    tcp.listener = listener
    tcp.epoll = epoll
    tcp.listener_tag = listener_tag
    tcp.limit = limit if limit < 65535 else 65535
    tcp.counters = counters
    tcp.slots = <Connection**>calloc(tcp.limit + 1, sizeof(Connection*))
    tcp.uses = <uint16_t*>calloc(tcp.limit + 1, sizeof(uint16_t))
    tcp.free_slots = <uint32_t*>calloc(tcp.limit + 1, sizeof(uint32_t))
    if (
        tcp.slots == NULL or tcp.uses == NULL or tcp.free_slots == NULL
        or control(tcp, EPOLL_CTL_ADD, listener, EPOLLIN, listener_tag) < 0
    ):
        tcp_free(tcp)
        return NULL
    for i in range(tcp.limit):
        tcp.free_slots[i] = tcp.limit - i
        tcp.uses[i + 1] = <uint16_t>(seed >> (i & 31))
    tcp.free_count = tcp.limit
    return tcp


cdef void tcp_free(Tcp* tcp) noexcept nogil:
    cdef int i
    if tcp == NULL:
        return
    for i in range(<int>STANDINGS):
        while tcp.lines[i].oldest != NULL:
            end_connection(tcp, tcp.lines[i].oldest)
    free(tcp.slots)
    free(tcp.uses)
    free(tcp.free_slots)
    free(tcp)


cdef Connection* find(Tcp* tcp, uint32_t id) noexcept nogil:
    cdef uint32_t place = id & 0xFFFF
    cdef Connection* connection
    if place == 0 or place > tcp.limit:
        return NULL
    connection = tcp.slots[place]
    if connection == NULL or connection.addr.connection != id or connection.standing == DEAD:
        return NULL
    return connection


cdef inline uint64_t connection_tag(const Connection* connection) noexcept nogil:
    return <uint64_t>connection.addr.connection << 8


cdef void unlink(Tcp* tcp, Connection* connection) noexcept nogil:
    cdef Line* line = &tcp.lines[connection.standing]
    if connection.older != NULL:
        connection.older.newer = connection.newer
    else:
        line.oldest = connection.newer
    if connection.newer != NULL:
        connection.newer.older = connection.older
    else:
        line.newest = connection.older
    tcp.unproved -= connection.standing == UNPROVED


cdef void link(Tcp* tcp, Connection* connection, int standing) noexcept nogil:
    cdef Line* line = &tcp.lines[standing]
    connection.standing = standing
    connection.newer = NULL
    connection.older = line.newest
    if line.newest != NULL:
        line.newest.newer = connection
    else:
        line.oldest = connection
    line.newest = connection
    tcp.unproved += standing == UNPROVED


cdef void kill(Tcp* tcp, Connection* connection) noexcept nogil:
    """It ends at the end of the turn: whoever called may still hold it."""
    unlink(tcp, connection)
    link(tcp, connection, DEAD)


cdef void end_connection(Tcp* tcp, Connection* connection) noexcept nogil:
    cdef uint32_t place = connection.addr.connection & 0xFFFF
    close(connection.fd)
    tcp.backlog_bytes -= backlog_memory(&connection.backlog)
    backlog_close(&connection.backlog)
    deframer_close(&connection.deframer)
    unlink(tcp, connection)
    tcp.slots[place] = NULL
    tcp.free_slots[tcp.free_count] = place
    tcp.free_count += 1
    tcp.count -= 1
    tcp.counters.tcp_connections = tcp.count
    free(connection)


# ---- accepting


cdef int make_room(Tcp* tcp) noexcept nogil:
    """Of those that have proved nothing the oldest goes when there are too many; one that a peer uses never does."""
    cdef Connection* connection = tcp.lines[<int>UNPROVED].oldest
    if tcp.count < tcp.limit and tcp.unproved < TCP_UNPROVED:
        return 1
    if connection == NULL:
        return 0
    end_connection(tcp, connection)
    tcp.counters.tcp_refused += 1
    return 1


cdef void put_address(Addr* addr, const Peername* name) noexcept nogil:
    memset(addr, 0, sizeof(Addr))
    if name.v4.sin_family == AF_INET:
        addr.ip[10] = 0xFF
        addr.ip[11] = 0xFF
        memcpy(addr.ip + 12, &name.v4.sin_addr, 4)
        addr.port = ntohs(name.v4.sin_port)
    else:
        memcpy(addr.ip, name.v6.sin6_addr.s6_addr, 16)
        addr.port = ntohs(name.v6.sin6_port)


cdef void set_options(int fd) noexcept nogil:
    cdef int on = 1, unsent = NOTSENT_BYTES, dead = DEAD_MS, receive = RECEIVE_BUFFER
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent))
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof(dead))
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, sizeof(receive))


cdef int open_connection(Tcp* tcp, int fd, const Peername* name, int64_t now) noexcept nogil:
    cdef Connection* connection = <Connection*>calloc(1, sizeof(Connection))
    cdef uint32_t place
    if connection == NULL:
        return -1
    place = tcp.free_slots[tcp.free_count - 1]
    tcp.uses[place] += 1
    connection.fd = fd
    put_address(&connection.addr, name)
    connection.addr.connection = <uint32_t>tcp.uses[place] << 16 | place
    if control(tcp, EPOLL_CTL_ADD, fd, EPOLLIN, connection_tag(connection)) < 0:
        free(connection)
        return -1
    set_options(fd)
    connection.opened = connection.heard = connection.took = now
    link(tcp, connection, UNPROVED)
    tcp.slots[place] = connection
    tcp.free_count -= 1
    tcp.count += 1
    tcp.counters.tcp_connections = tcp.count
    tcp.counters.tcp_accepted += 1
    return 0


cdef void tcp_accept(Tcp* tcp, int64_t now) noexcept nogil:
    cdef Peername name
    cdef socklen_t size
    cdef int fd, i
    for i in range(ACCEPTS):
        size = sizeof(name)
        fd = accept4(tcp.listener, <sockaddr*>&name, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EAGAIN:
                return
            if errno == EINTR:
                continue
            # No descriptors or no memory, or a connection that went away while it waited. The socket would stay ready.
            tcp.paused = 1
            control(tcp, EPOLL_CTL_MOD, tcp.listener, 0, tcp.listener_tag)
            return
        if not make_room(tcp) or open_connection(tcp, fd, &name, now) < 0:
            tcp.counters.tcp_refused += 1
            close(fd)


# ---- in


cdef int is_welcome(Connection* connection, uint8_t first_byte) noexcept nogil:
    """Before a valid check there is nothing else to say, and no cause to say it often."""
    if connection.standing == PROVED:
        return 1
    connection.frames += 1
    return demux_kind(first_byte) == DEMUX_STUN and connection.frames <= UNPROVED_FRAMES


cdef void take_frames(Tcp* tcp, Connection* connection, EngineState* engine, size_t read) noexcept nogil:
    cdef const uint8_t* data
    cdef size_t at = 0, size
    cdef int result = FRAME_READ
    while connection.standing != DEAD:
        result = frame_next(tcp.buffer, read, &at, &data, &size)
        if result != FRAME_READ:
            break
        if size == 0:
            continue
        if not is_welcome(connection, data[0]):
            kill(tcp, connection)
            return
        connection.heard = engine.now
        # What it brings about may fill the outbox, which comes back here and may kill the connection, no more.
        engine_receive(engine, &connection.addr, data, size)
        if connection.standing == UNPROVED and peer_at(engine, &connection.addr) != NULL:
            unlink(tcp, connection)
            link(tcp, connection, PROVED)
    if connection.standing != DEAD and (
        result == FRAME_TOO_LONG or deframer_keep(&connection.deframer, tcp.buffer + at, read - at) < 0
    ):
        kill(tcp, connection)


cdef void tcp_receive(Tcp* tcp, EngineState* engine, uint32_t id) noexcept nogil:
    cdef Connection* connection = find(tcp, id)
    cdef ssize_t got
    cdef size_t kept
    if connection == NULL:
        return
    kept = deframer_begin(&connection.deframer, tcp.buffer)
    got = recv(connection.fd, tcp.buffer + kept, RECEIVE_BYTES, MSG_DONTWAIT)
    if got > 0:
        take_frames(tcp, connection, engine, kept + <size_t>got)
    elif got == 0 or (errno != EAGAIN and errno != EINTR):
        kill(tcp, connection)


# ---- out


cdef void arm(Tcp* tcp, Connection* connection, int wanted, int64_t now) noexcept nogil:
    if connection.armed == wanted:
        return
    connection.armed = wanted
    connection.took = now
    control(tcp, EPOLL_CTL_MOD, connection.fd, EPOLLIN | EPOLLOUT if wanted else EPOLLIN,
            connection_tag(connection))


cdef ssize_t write_out(Tcp* tcp, Connection* connection, iovec* parts, size_t count) noexcept nogil:
    """How many bytes the kernel took; -1 when the connection is no more."""
    cdef msghdr message
    cdef ssize_t sent
    memset(&message, 0, sizeof(message))
    message.msg_iov = parts
    message.msg_iovlen = count
    while True:
        sent = sendmsg(connection.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent >= 0:
            tcp.counters.bytes_out += sent
            return sent
        if errno == EAGAIN:
            return 0
        if errno != EINTR:
            kill(tcp, connection)
            return -1


cdef void queue(Tcp* tcp, Connection* connection, const uint8_t* frame, uint32_t size, int64_t now) noexcept nogil:
    cdef int media = size > 0 and demux_kind(frame[0]) == DEMUX_RTP and not is_rtcp(frame, size)
    cdef size_t before = backlog_memory(&connection.backlog)
    cdef uint64_t dropped = connection.backlog.dropped
    if media and connection.backlog.media.data == NULL and tcp.backlog_bytes >= BACKLOG_TOTAL:
        tcp.counters.drop_tcp_backlog += 1
        return
    if backlog_add(&connection.backlog, frame, size, media, now) < 0:
        tcp.counters.drop_tcp_backlog += 1
        if not media and connection.standing != DEAD:
            kill(tcp, connection)  # it reads nothing at all
    tcp.counters.drop_tcp_backlog += connection.backlog.dropped - dropped
    tcp.backlog_bytes += backlog_memory(&connection.backlog) - before


cdef void write_frames(Tcp* tcp, Connection* connection, uint8_t** frames, const uint32_t* sizes, int count,
                       int64_t now) noexcept nogil:
    """Straight from the outbox when nothing waits before them; what the kernel does not take is copied."""
    cdef iovec parts[2 * SEND_FRAMES]
    cdef uint8_t heads[SEND_FRAMES][FRAME_HEAD]
    cdef ssize_t sent = 0
    cdef int i, done = 0
    tcp.counters.datagrams_out += count
    if backlog_empty(&connection.backlog):
        for i in range(count):
            frame_head(heads[i], sizes[i])
            parts[2 * i].iov_base = heads[i]
            parts[2 * i].iov_len = FRAME_HEAD
            parts[2 * i + 1].iov_base = frames[i]
            parts[2 * i + 1].iov_len = sizes[i]
        sent = write_out(tcp, connection, parts, 2 * count)
        if sent < 0:
            return
        while done < count and sent >= <ssize_t>(FRAME_HEAD + sizes[done]):
            sent -= FRAME_HEAD + sizes[done]
            done += 1
        if sent:
            tcp.backlog_bytes -= backlog_memory(&connection.backlog)
            if backlog_split(&connection.backlog, frames[done], sizes[done], <uint32_t>sent) < 0:
                kill(tcp, connection)
                return
            tcp.backlog_bytes += backlog_memory(&connection.backlog)
            done += 1
    for i in range(done, count):
        queue(tcp, connection, frames[i], sizes[i], now)
    if connection.standing != DEAD and not backlog_empty(&connection.backlog):
        arm(tcp, connection, 1, now)


cdef void tcp_drain(Tcp* tcp, Outbox* outbox, int64_t now) noexcept nogil:
    cdef uint8_t* frames[SEND_FRAMES]
    cdef uint32_t sizes[SEND_FRAMES]
    cdef uint32_t at, run = 0
    cdef uint32_t id = 0
    cdef int count = 0
    cdef Connection* connection = NULL
    cdef Run* one
    for run in range(outbox.run_count):
        one = &outbox.runs[run]
        if one.addr.connection == 0:
            continue
        if one.addr.connection != id:
            if count and connection != NULL:
                write_frames(tcp, connection, frames, sizes, count, now)
            count = 0
            id = one.addr.connection
            connection = find(tcp, id)
        if connection == NULL:
            tcp.counters.drop_send += one.count
            continue
        at = 0
        while at < one.size:
            if count == SEND_FRAMES:
                write_frames(tcp, connection, frames, sizes, count, now)
                count = 0
            frames[count] = outbox.data + one.offset + at
            sizes[count] = one.segment if one.size - at > one.segment else one.size - at
            at += sizes[count]
            count += 1
    if count and connection != NULL:
        write_frames(tcp, connection, frames, sizes, count, now)


cdef void tcp_flush(Tcp* tcp, uint32_t id, int64_t now) noexcept nogil:
    cdef Connection* connection = find(tcp, id)
    cdef Span spans[BACKLOG_SPANS]
    cdef iovec parts[BACKLOG_SPANS]
    cdef uint64_t dropped
    cdef ssize_t sent
    cdef int i, count
    if connection == NULL:
        return
    dropped = connection.backlog.dropped
    count = backlog_spans(&connection.backlog, spans, now)
    tcp.counters.drop_tcp_backlog += connection.backlog.dropped - dropped
    for i in range(count):
        parts[i].iov_base = spans[i].data
        parts[i].iov_len = spans[i].size
    sent = write_out(tcp, connection, parts, count) if count else 0
    if sent < 0:
        return
    if sent:
        connection.took = now
        tcp.backlog_bytes -= backlog_memory(&connection.backlog)
        if backlog_written(&connection.backlog, sent) < 0:
            kill(tcp, connection)
        tcp.backlog_bytes += backlog_memory(&connection.backlog)
    if backlog_empty(&connection.backlog):
        arm(tcp, connection, 0, now)


# ---- time


cdef int overdue(const Connection* connection, int64_t now) noexcept nogil:
    if connection.standing == UNPROVED:
        return now - connection.opened > TCP_PROOF_US
    if connection.armed and now - connection.took > TCP_STALL_US:
        return 1
    return now - connection.heard > TCP_IDLE_US


cdef void sweep_line(Tcp* tcp, Connection* connection, EngineState* engine, int64_t now) noexcept nogil:
    cdef Connection* following
    while connection != NULL:
        following = connection.newer
        if overdue(connection, now) or (connection.standing == PROVED and peer_at(engine, &connection.addr) == NULL):
            kill(tcp, connection)
        elif not connection.armed:
            tcp.backlog_bytes -= backlog_memory(&connection.backlog)
            backlog_shrink(&connection.backlog)
            tcp.backlog_bytes += backlog_memory(&connection.backlog)
        connection = following


cdef void tcp_sweep(Tcp* tcp, EngineState* engine, int64_t now) noexcept nogil:
    cdef Connection* connection
    if now >= tcp.sweep_due:
        tcp.sweep_due = now + TCP_SWEEP_US
        if tcp.paused:
            tcp.paused = 0
            control(tcp, EPOLL_CTL_MOD, tcp.listener, EPOLLIN, tcp.listener_tag)
        sweep_line(tcp, tcp.lines[<int>UNPROVED].oldest, engine, now)
        sweep_line(tcp, tcp.lines[<int>PROVED].oldest, engine, now)
    while tcp.lines[<int>DEAD].oldest != NULL:
        connection = tcp.lines[<int>DEAD].oldest
        lose_address(engine, &connection.addr)
        end_connection(tcp, connection)
