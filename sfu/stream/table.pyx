"""Hash tables from 64-bit keys to pointers: for addresses, username fragments and identifiers."""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cdef enum:
    FIRST_SIZE = 64


cdef int table_init(Table* table) noexcept nogil:
    table.entries = <TableEntry*>calloc(FIRST_SIZE, sizeof(TableEntry))
    table.mask = FIRST_SIZE - 1
    table.count = 0
    return 0 if table.entries != NULL else -1


cdef void table_close(Table* table) noexcept nogil:
    free(table.entries)
    table.entries = NULL


cdef void insert(Table* table, uint64_t key, void* value) noexcept nogil:
    cdef uint64_t at = mix(key) & table.mask
    while table.entries[at].value != NULL:
        if table.entries[at].key == key:
            table.entries[at].value = value
            return
        at = (at + 1) & table.mask
    table.entries[at].key = key
    table.entries[at].value = value
    table.count += 1


cdef int table_put(Table* table, uint64_t key, void* value) noexcept nogil:
    cdef Table larger
    cdef uint64_t i
    if (table.count + 1) * 2 > table.mask:
        larger.mask = table.mask * 2 + 1
        larger.count = 0
        larger.entries = <TableEntry*>calloc(larger.mask + 1, sizeof(TableEntry))
        if larger.entries == NULL:
            return -1
        for i in range(table.mask + 1):
            if table.entries[i].value != NULL:
                insert(&larger, table.entries[i].key, table.entries[i].value)
        free(table.entries)
        table[0] = larger
    insert(table, key, value)
    return 0


cdef void table_remove(Table* table, uint64_t key) noexcept nogil:
    cdef uint64_t at = mix(key) & table.mask
    cdef uint64_t home, hole
    while table.entries[at].value != NULL and table.entries[at].key != key:
        at = (at + 1) & table.mask
    if table.entries[at].value == NULL:
        return
    hole = at
    while True:  # close the hole: move back whatever may stand nearer to its home
        at = (at + 1) & table.mask
        if table.entries[at].value == NULL:
            break
        home = mix(table.entries[at].key) & table.mask
        if ((at - home) & table.mask) >= ((at - hole) & table.mask):
            table.entries[hole] = table.entries[at]
            hole = at
    table.entries[hole].value = NULL
    table.count -= 1


cdef inline uint64_t rotl(uint64_t x, int bits) noexcept nogil:
    return (x << bits) | (x >> (64 - bits))


cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[1] = rotl(v[1], 13) ^ v[0]
    v[0] = rotl(v[0], 32)
    v[2] += v[3]
    v[3] = rotl(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = rotl(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = rotl(v[1], 17) ^ v[2]
    v[2] = rotl(v[2], 32)


cdef uint64_t hash_bytes(const uint64_t* seed, const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t v[4]
    cdef uint64_t word
    cdef size_t at = 0, left
    v[0] = seed[0] ^ <uint64_t>0x736F6D6570736575
    v[1] = seed[1] ^ <uint64_t>0x646F72616E646F6D
    v[2] = seed[0] ^ <uint64_t>0x6C7967656E657261
    v[3] = seed[1] ^ <uint64_t>0x7465646279746573
    while True:
        left = size - at
        word = 0
        memcpy(&word, data + at, left if left < 8 else 8)
        if left < 8:
            word |= <uint64_t>(size & 0xFF) << 56
        v[3] ^= word
        sip_round(v)
        v[0] ^= word
        if left < 8:
            break
        at += 8
    v[2] ^= 0xFF
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
