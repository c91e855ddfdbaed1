"""The worker's socket: many datagrams a call in, runs of equal datagrams out."""

from libc.errno cimport EAGAIN, EINTR, EINVAL, EIO, EMSGSIZE, ENOBUFS, EOPNOTSUPP, errno
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from mediaserver.sfu.stream.sockets cimport (
    AF_INET,
    AF_INET6,
    CMSG_DATA,
    CMSG_FIRSTHDR,
    CMSG_LEN,
    CMSG_NXTHDR,
    CMSG_SPACE,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    IPV6_RECVPKTINFO,
    IP_PKTINFO,
    MSG_DONTWAIT,
    POLLOUT,
    SCM_TIMESTAMPNS,
    SOL_SOCKET,
    SOL_UDP,
    SO_TIMESTAMPNS,
    UDP_GRO,
    UDP_SEGMENT,
    cmsghdr,
    htons,
    in6_pktinfo,
    in_pktinfo,
    iovec,
    mmsghdr,
    msghdr,
    ntohs,
    poll,
    pollfd,
    recvmmsg,
    sendmmsg,
    setsockopt,
    sockaddr_in,
    sockaddr_in6,
    timespec,
)

cdef enum:
    CONTROL_BYTES = 128
    SEND_BATCH = 64
    SEND_WAIT_MS = 2         # for room in the socket's buffer, before datagrams are given up

cdef union Sender:
    sockaddr_in v4
    sockaddr_in6 v6

cdef struct Udp:
    int fd
    int ipv6
    int learn_local
    int segmentation         # the kernel splits runs
    Counters* counters
    uint8_t* buffers
    int taken                # messages of the last call, whose headers the kernel has written to
    mmsghdr incoming[UDP_BATCH]
    iovec incoming_parts[UDP_BATCH]
    Sender senders[UDP_BATCH]
    uint8_t incoming_control[UDP_BATCH][CONTROL_BYTES]
    mmsghdr outgoing[SEND_BATCH]
    iovec outgoing_parts[SEND_BATCH]
    Sender targets[SEND_BATCH]
    uint8_t outgoing_control[SEND_BATCH][CONTROL_BYTES]
    uint32_t outgoing_datagrams[SEND_BATCH]


cdef void prepare(Udp* udp) noexcept nogil:
    cdef msghdr* header
    cdef int i
    for i in range(UDP_BATCH):
        udp.incoming_parts[i].iov_base = udp.buffers + i * UDP_BUFFER
        udp.incoming_parts[i].iov_len = UDP_BUFFER
        header = &udp.incoming[i].msg_hdr
        header.msg_name = &udp.senders[i]
        header.msg_iov = &udp.incoming_parts[i]
        header.msg_iovlen = 1
        header.msg_control = udp.incoming_control[i]
    udp.taken = UDP_BATCH


cdef Udp* udp_new(int fd, int ipv6, int learn_local, Counters* counters) noexcept nogil:
    cdef Udp* udp = <Udp*>calloc(1, sizeof(Udp))
    cdef int on = 1, off = 0
    if udp == NULL:
        return NULL
    udp.buffers = <uint8_t*>malloc(UDP_BATCH * UDP_BUFFER)
    if udp.buffers == NULL:
        free(udp)
        return NULL
    udp.fd = fd
    udp.ipv6 = ipv6
    udp.learn_local = learn_local
    udp.counters = counters
    prepare(udp)
    # Each of these may be missing from a kernel; then it goes without.
    setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on))
    udp.segmentation = setsockopt(fd, SOL_UDP, UDP_SEGMENT, &off, sizeof(off)) == 0
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on))
    if learn_local:
        if ipv6:
            setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on))
        else:
            setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on))
    return udp


cdef void udp_free(Udp* udp) noexcept nogil:
    if udp != NULL:
        free(udp.buffers)
        free(udp)


cdef int udp_has_segmentation(const Udp* udp) noexcept nogil:
    return udp.segmentation


# ---- in


cdef int udp_receive(Udp* udp) noexcept nogil:
    cdef int i, count
    for i in range(udp.taken):
        udp.incoming[i].msg_hdr.msg_namelen = sizeof(Sender)
        udp.incoming[i].msg_hdr.msg_controllen = CONTROL_BYTES
    while True:
        count = recvmmsg(udp.fd, udp.incoming, UDP_BATCH, MSG_DONTWAIT, NULL)
        if count >= 0 or errno != EINTR:
            # The call has prepared one header more than it tells of.
            udp.taken = min(max(count, 0) + 1, <int>UDP_BATCH)
            return count if count > 0 else 0


cdef inline void map_ipv4(uint8_t* ip, const void* address) noexcept nogil:
    memset(ip, 0, 10)
    ip[10] = 0xFF
    ip[11] = 0xFF
    memcpy(ip + 12, address, 4)


cdef void read_control(Udp* udp, msghdr* header, Addr* addr, uint64_t* segment, int64_t* arrival) noexcept nogil:
    cdef cmsghdr* item = CMSG_FIRSTHDR(header)
    cdef timespec when
    cdef int gro
    while item != NULL:
        if item.cmsg_level == SOL_UDP and item.cmsg_type == UDP_GRO:
            memcpy(&gro, CMSG_DATA(item), sizeof(gro))
            if gro > 0:
                segment[0] = gro
        elif item.cmsg_level == SOL_SOCKET and item.cmsg_type == SCM_TIMESTAMPNS:
            memcpy(&when, CMSG_DATA(item), sizeof(when))
            arrival[0] = <int64_t>when.tv_sec * 1000000 + when.tv_nsec // 1000
        elif item.cmsg_level == IPPROTO_IPV6 and item.cmsg_type == IPV6_PKTINFO:
            memcpy(addr.local, CMSG_DATA(item), 16)
        elif item.cmsg_level == IPPROTO_IP and item.cmsg_type == IP_PKTINFO:
            map_ipv4(addr.local, &(<in_pktinfo*>CMSG_DATA(item)).ipi_addr)
        item = CMSG_NXTHDR(header, item)


cdef const uint8_t* udp_message(Udp* udp, int index, Addr* addr, uint64_t* size, uint64_t* segment,
                                int64_t* arrival) noexcept nogil:
    cdef Sender* sender = &udp.senders[index]
    size[0] = udp.incoming[index].msg_len
    segment[0] = size[0]
    arrival[0] = 0
    memset(addr, 0, sizeof(Addr))
    if udp.ipv6:
        memcpy(addr.ip, sender.v6.sin6_addr.s6_addr, 16)
        addr.port = ntohs(sender.v6.sin6_port)
    else:
        map_ipv4(addr.ip, &sender.v4.sin_addr)
        addr.port = ntohs(sender.v4.sin_port)
    read_control(udp, &udp.incoming[index].msg_hdr, addr, segment, arrival)
    return udp.buffers + index * UDP_BUFFER


# ---- out


cdef void put_target(Udp* udp, int at, const Addr* addr) noexcept nogil:
    cdef Sender* target = &udp.targets[at]
    cdef msghdr* header = &udp.outgoing[at].msg_hdr
    memset(target, 0, sizeof(Sender))
    if udp.ipv6:
        target.v6.sin6_family = AF_INET6
        target.v6.sin6_port = htons(addr.port)
        memcpy(target.v6.sin6_addr.s6_addr, addr.ip, 16)
        header.msg_namelen = sizeof(sockaddr_in6)
    else:
        target.v4.sin_family = AF_INET
        target.v4.sin_port = htons(addr.port)
        memcpy(&target.v4.sin_addr, addr.ip + 12, 4)
        header.msg_namelen = sizeof(sockaddr_in)
    header.msg_name = target


cdef size_t put_control(Udp* udp, uint8_t* control, const Addr* addr, uint32_t segment) noexcept nogil:
    """Which address to send from, and where to split (0: nowhere)."""
    cdef cmsghdr* item = <cmsghdr*>control
    cdef size_t used = 0
    cdef uint16_t size = <uint16_t>segment
    cdef size_t info
    if udp.learn_local:
        info = sizeof(in6_pktinfo) if udp.ipv6 else sizeof(in_pktinfo)
        memset(control, 0, CMSG_SPACE(info))
        item.cmsg_len = CMSG_LEN(info)
        if udp.ipv6:
            item.cmsg_level = IPPROTO_IPV6
            item.cmsg_type = IPV6_PKTINFO
            memcpy(CMSG_DATA(item), addr.local, 16)
        else:
            item.cmsg_level = IPPROTO_IP
            item.cmsg_type = IP_PKTINFO
            memcpy(&(<in_pktinfo*>CMSG_DATA(item)).ipi_spec_dst, addr.local + 12, 4)
        used = CMSG_SPACE(info)
    if segment:
        item = <cmsghdr*>(control + used)
        item.cmsg_level = SOL_UDP
        item.cmsg_type = UDP_SEGMENT
        item.cmsg_len = CMSG_LEN(sizeof(size))
        memcpy(CMSG_DATA(item), &size, sizeof(size))
        used += CMSG_SPACE(sizeof(size))
    return used


cdef void put_message(Udp* udp, int at, const Addr* addr, uint8_t* data, uint32_t size, uint32_t segment,
                      uint32_t datagrams) noexcept nogil:
    cdef msghdr* header = &udp.outgoing[at].msg_hdr
    put_target(udp, at, addr)
    udp.outgoing_parts[at].iov_base = data
    udp.outgoing_parts[at].iov_len = size
    header.msg_iov = &udp.outgoing_parts[at]
    header.msg_iovlen = 1
    header.msg_controllen = put_control(udp, udp.outgoing_control[at], addr, segment)
    header.msg_control = udp.outgoing_control[at] if header.msg_controllen else NULL
    udp.outgoing_datagrams[at] = datagrams


cdef int wait_for_room(Udp* udp) noexcept nogil:
    cdef pollfd waiting
    waiting.fd = udp.fd
    waiting.events = POLLOUT
    waiting.revents = 0
    return poll(&waiting, 1, SEND_WAIT_MS) > 0


cdef void count_sent(Udp* udp, int first, int count) noexcept nogil:
    cdef int i
    for i in range(first, first + count):
        udp.counters.messages_out += 1
        udp.counters.datagrams_out += udp.outgoing_datagrams[i]
        udp.counters.bytes_out += udp.outgoing_parts[i].iov_len


cdef int send_messages(Udp* udp, int count) noexcept nogil:
    """Sends them all; -1 at the first that the kernel would not split, with its index in outgoing_datagrams[0]."""
    cdef int sent = 0, done, waits = 0
    while sent < count:
        done = sendmmsg(udp.fd, udp.outgoing + sent, count - sent, MSG_DONTWAIT)
        if done > 0:
            count_sent(udp, sent, done)
            sent += done
        elif errno == EINTR:
            continue
        elif (errno == EAGAIN or errno == ENOBUFS) and waits < 4:
            waits += 1
            wait_for_room(udp)
        else:
            # One destination that cannot be reached must not hold up the others.
            if udp.outgoing_datagrams[sent] > 1 and errno in (EIO, EINVAL, EMSGSIZE, EOPNOTSUPP):
                return sent
            udp.counters.drop_send += udp.outgoing_datagrams[sent]
            sent += 1
    return -1


cdef void send_split(Udp* udp, const Addr* addr, uint8_t* data, uint32_t size, uint32_t segment) noexcept nogil:
    """A run datagram by datagram."""
    cdef uint32_t at = 0, part
    cdef int count = 0
    while at < size:
        part = segment if size - at > segment else size - at
        put_message(udp, count, addr, data + at, part, 0, 1)
        count += 1
        at += part
    send_messages(udp, count)


cdef void udp_drain(Udp* udp, Outbox* outbox) noexcept nogil:
    cdef uint32_t first = 0, run, limit
    cdef int failed, count
    while first < outbox.run_count:
        if outbox.runs[first].addr.connection:
            first += 1
            continue
        limit = first + SEND_BATCH
        if limit > outbox.run_count:
            limit = outbox.run_count
        count = 0
        run = first
        while (
            run < limit
            and outbox.runs[run].addr.connection == 0
            and (udp.segmentation or outbox.runs[run].count == 1)
        ):
            put_message(
                udp, count, &outbox.runs[run].addr, outbox.data + outbox.runs[run].offset, outbox.runs[run].size,
                outbox.runs[run].segment if outbox.runs[run].count > 1 else 0, outbox.runs[run].count,
            )
            count += 1
            run += 1
        failed = send_messages(udp, count)
        if failed >= 0:
            if errno == EIO or errno == EOPNOTSUPP:
                udp.segmentation = 0  # no checksum offload on the way out: this host cannot split
            run = first + failed
        if failed >= 0 or count == 0:
            send_split(udp, &outbox.runs[run].addr, outbox.data + outbox.runs[run].offset, outbox.runs[run].size,
                       outbox.runs[run].segment)
            run += 1
        first = run
