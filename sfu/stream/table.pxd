"""Hash tables from 64-bit keys to pointers: for addresses, username fragments and identifiers."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

from mediaserver.sfu.wire.lines cimport prefetch

cdef struct TableEntry:
    uint64_t key
    void* value          # NULL: free

cdef struct Table:
    TableEntry* entries
    uint64_t mask
    uint64_t count

cdef int table_init(Table* table) noexcept nogil
cdef void table_close(Table* table) noexcept nogil
# Replaces what stood under the key. 0, or -1 without memory.
cdef int table_put(Table* table, uint64_t key, void* value) noexcept nogil
cdef void table_remove(Table* table, uint64_t key) noexcept nogil
# A keyed hash for bytes that the network chooses (SipHash-1-3); `seed` points to two words.
cdef uint64_t hash_bytes(const uint64_t* seed, const uint8_t* data, size_t size) noexcept nogil

cdef inline uint64_t mix(uint64_t key) noexcept nogil:
    key ^= key >> 32
    key *= <uint64_t>0x9E3779B97F4A7C15
    return key ^ (key >> 29)

cdef inline void table_ahead(const Table* table, uint64_t key) noexcept nogil:
    """Asks for what `table_get` reads."""
    prefetch(&table.entries[mix(key) & table.mask])

cdef inline void* table_get(const Table* table, uint64_t key) noexcept nogil:
    cdef uint64_t at = mix(key) & table.mask
    while table.entries[at].value != NULL:
        if table.entries[at].key == key:
            return table.entries[at].value
        at = (at + 1) & table.mask
    return NULL
