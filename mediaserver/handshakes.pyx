"""The thread that carries out DTLS handshakes, without the GIL: neither the event loop nor media wait for their crypto.

Steps come by a ring and what came of them goes back by another, both without locks, as a worker's commands and events
do. It is one thread: it does thousands of handshakes a second, and where cores are short it gives way to the workers.
"""

import os
import threading
from collections import namedtuple

from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from mediaserver.sfu.session.handshake cimport Handshake, Shaking, Step, take_step
from mediaserver.sfu.stream.ring cimport Ring, ring_close, ring_init, ring_put, ring_take

from mediaserver.sfu.session.handshake import Outcome

cdef extern from *:
    """
    #include <poll.h>
    #include <sys/resource.h>
    #include <time.h>
    #include <unistd.h>
    """
    cdef struct pollfd:
        int fd
        short events
    int poll(pollfd*, unsigned long, int) noexcept nogil
    int setpriority(int, int, int) noexcept nogil
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int, timespec*) noexcept nogil
    long read(int, void*, size_t) noexcept nogil
    long write(int, const void*, size_t) noexcept nogil
    enum:
        POLLIN, PRIO_PROCESS, CLOCK_THREAD_CPUTIME_ID

cdef enum:
    NICE = 5                 # a third of a worker's share where both want a core

Finished = namedtuple("Finished", "session engine outcome")

cdef struct Job:
    uint32_t session
    PyObject* engine         # kept alive until the result is taken
    Shaking* shaking
    Step step                # with its datagram behind it

cdef struct Bench:
    Ring jobs
    Ring results             # has room for all that may be under way
    int wake                 # eventfd: jobs, or the end
    int told                 # eventfd: results
    uint64_t stop
    uint64_t steps
    uint64_t busy            # ns of CPU


cdef void work(Bench* bench) noexcept nogil:
    cdef pollfd ready
    cdef timespec now
    cdef uint64_t count, one = 1
    cdef Job* job
    ready.fd = bench.wake
    ready.events = POLLIN
    setpriority(PRIO_PROCESS, 0, NICE)  # of this thread alone, on Linux
    while not bench.stop:
        poll(&ready, 1, -1)
        read(bench.wake, &count, sizeof(count))
        while not bench.stop:
            job = <Job*>ring_take(&bench.jobs)
            if job == NULL:
                break
            take_step(job.shaking, &job.step)
            bench.steps += 1
            ring_put(&bench.results, job)
            write(bench.told, &one, sizeof(one))
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now)
        bench.busy = <uint64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef class Handshakes:
    """A `Desk` of `mediaserver.sfu.session.dtls`. At most `waiting` steps are under way, a power of two; all methods are
    for one thread, the event loop's."""

    cdef Bench bench
    cdef uint64_t room
    cdef object thread
    cdef readonly int event_fd
    cdef readonly uint64_t waiting
    cdef readonly uint64_t refused

    def __cinit__(self, uint64_t waiting=4096):
        if waiting == 0 or waiting & (waiting - 1):
            raise ValueError(f"the number of steps that may wait is a power of two, not {waiting}")
        memset(&self.bench, 0, sizeof(Bench))
        self.bench.wake = self.bench.told = self.event_fd = -1
        self.room = waiting
        if ring_init(&self.bench.jobs, waiting) < 0 or ring_init(&self.bench.results, waiting) < 0:
            raise MemoryError
        self.bench.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.bench.told = self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __dealloc__(self):
        if self.bench.results.slots != NULL:
            self.drop(&self.bench.jobs)
            self.drop(&self.bench.results)
        ring_close(&self.bench.jobs)
        ring_close(&self.bench.results)

    cdef int drop(self, Ring* ring) except -1:
        cdef Job* job = <Job*>ring_take(ring)
        while job != NULL:
            self.forget(job)
            job = <Job*>ring_take(ring)
        return 0

    cdef int forget(self, Job* job) except -1:
        Py_DECREF(<object>job.engine)
        free(job.step.out)
        free(job)
        return 0

    def put(self, uint32_t session, Handshake engine not None, bytes datagram not None) -> bool:
        """Have a step of that session's engine carried out; what comes of it is for `take`. False when too many are under
        way. The engine is nobody else's until then."""
        cdef Job* job
        cdef uint64_t one = 1
        if self.waiting >= self.room:
            self.refused += 1
            return False
        job = <Job*>calloc(1, sizeof(Job) + len(datagram))
        if job == NULL:
            raise MemoryError
        job.session = session
        job.engine = <PyObject*>engine
        job.shaking = &engine.shaking
        job.step.size = <uint32_t>len(datagram)
        memcpy(job.step.data, <const char*>datagram, job.step.size)
        Py_INCREF(engine)
        self.waiting += 1
        ring_put(&self.bench.jobs, job)
        write(self.bench.wake, &one, sizeof(one))
        return True

    def take(self) -> list:
        """What has come of steps since the last call, in their order. `event_fd` is readable when there is something."""
        cdef uint64_t count
        cdef Job* job
        taken = []
        if self.event_fd >= 0:
            read(self.event_fd, &count, sizeof(count))
        while True:
            job = <Job*>ring_take(&self.bench.results)
            if job == NULL:
                return taken
            self.waiting -= 1
            try:
                taken.append(self.finished(job))
            finally:
                self.forget(job)

    cdef object finished(self, Job* job):
        cdef Step* step = &job.step
        out = <bytes>(<char*>step.out)[:step.out_size] if step.out != NULL else b""
        outcome = Outcome(out, bool(step.done), bool(step.failed), bool(step.closed))
        return Finished(job.session, <object>job.engine, outcome)

    def start(self) -> None:
        """Start the thread."""
        if self.thread is not None:
            raise RuntimeError("this thread has been started already")
        self.thread = threading.Thread(target=self.work, name="handshakes", daemon=True)
        self.thread.start()

    def work(self):
        with nogil:
            work(&self.bench)

    def stop(self) -> None:
        """End the thread; steps that wait are given up."""
        cdef uint64_t one = 1
        self.bench.stop = 1
        if self.thread is not None:
            write(self.bench.wake, &one, sizeof(one))
            self.thread.join()
        for fd in (self.bench.wake, self.event_fd):
            if fd >= 0:
                os.close(fd)
        self.bench.wake = self.bench.told = self.event_fd = -1

    @property
    def steps(self) -> int:
        """Steps carried out."""
        return self.bench.steps

    @property
    def busy_us(self) -> int:
        """CPU of the thread."""
        return self.bench.busy // 1000
