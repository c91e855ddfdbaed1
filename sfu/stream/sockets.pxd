"""The system's sockets: what `udp`, `tcp` and the bench's bare loop call. The declarations alone, in one place."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <poll.h>
    #include <sys/epoll.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <time.h>
    #include <unistd.h>
    #ifndef SOL_UDP
    #define SOL_UDP 17
    #endif
    #ifndef UDP_SEGMENT
    #define UDP_SEGMENT 103
    #endif
    #ifndef UDP_GRO
    #define UDP_GRO 104
    #endif
    #ifndef TCP_NOTSENT_LOWAT
    #define TCP_NOTSENT_LOWAT 25
    #endif
    """
    ctypedef unsigned int socklen_t
    cdef struct in6_addr:
        uint8_t s6_addr[16]
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct sockaddr:
        uint16_t sa_family
    cdef struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
    cdef struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    cdef struct in6_pktinfo:
        in6_addr ipi6_addr
    cdef struct in_pktinfo:
        in_addr ipi_spec_dst
        in_addr ipi_addr
    cdef struct iovec:
        void* iov_base
        size_t iov_len
    cdef struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
    cdef struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    cdef struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    cdef struct pollfd:
        int fd
        short events
        short revents
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    cmsghdr* CMSG_FIRSTHDR(msghdr*) noexcept nogil
    cmsghdr* CMSG_NXTHDR(msghdr*, cmsghdr*) noexcept nogil
    uint8_t* CMSG_DATA(cmsghdr*) noexcept nogil
    size_t CMSG_LEN(size_t) noexcept nogil
    size_t CMSG_SPACE(size_t) noexcept nogil
    uint16_t htons(uint16_t) noexcept nogil
    uint16_t ntohs(uint16_t) noexcept nogil
    uint32_t htonl(uint32_t) noexcept nogil
    int accept4(int, sockaddr*, socklen_t*, int) noexcept nogil
    ssize_t recv(int, void*, size_t, int) noexcept nogil
    ssize_t sendmsg(int, const msghdr*, int) noexcept nogil
    int recvmmsg(int, mmsghdr*, unsigned int, int, void*) noexcept nogil
    int sendmmsg(int, mmsghdr*, unsigned int, int) noexcept nogil
    int setsockopt(int, int, int, const void*, socklen_t) noexcept nogil
    int poll(pollfd*, unsigned long, int) noexcept nogil
    int epoll_create1(int) noexcept nogil
    int epoll_ctl(int, int, int, epoll_event*) noexcept nogil
    int epoll_wait(int, epoll_event*, int, int) noexcept nogil
    int close(int) noexcept nogil
    enum:
        AF_INET, AF_INET6, SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_DONTWAIT, MSG_NOSIGNAL, SOL_SOCKET, SO_RCVBUF
        SO_TIMESTAMPNS, SCM_TIMESTAMPNS, SOL_UDP, UDP_SEGMENT, UDP_GRO, IPPROTO_IP, IP_PKTINFO, IPPROTO_IPV6
        IPV6_RECVPKTINFO, IPV6_PKTINFO, IPPROTO_TCP, TCP_NODELAY, TCP_NOTSENT_LOWAT, TCP_USER_TIMEOUT
        INADDR_LOOPBACK, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT, EPOLL_CLOEXEC, POLLOUT
