"""AES-GCM by ipsec-mb: what `srtp_transform` takes in libcrypto's place where it can be had."""

from libc.stdint cimport uint8_t


# The key schedule of one key of 16 or 32 bytes with its powers of the hash key, 1 KiB. It is only read: threads may
# share it.
cdef struct GcmKey

# NULL when ipsec-mb can't be used here, when it is not to be, and without memory.
cdef GcmKey* gcm_new(const uint8_t* key, size_t key_size) noexcept nogil
# Wipes it first; NULL is nothing.
cdef void gcm_free(GcmKey* key) noexcept nogil

# iv: 12 bytes. tag: 16 bytes. out and data are the same or apart.
cdef void gcm_seal(const GcmKey* key, const uint8_t* iv, const uint8_t* aad, size_t aad_size, const uint8_t* data,
                   size_t size, uint8_t* out, uint8_t* tag) noexcept nogil
# In place. False: the tag does not verify, and the data are undefined.
cdef bint gcm_open(const GcmKey* key, const uint8_t* iv, const uint8_t* aad, size_t aad_size, uint8_t* data,
                   size_t size, const uint8_t* tag) noexcept nogil

# Asks for what sealing a short packet reads of it.
cdef void gcm_ahead(const GcmKey* key) noexcept nogil

# Whether `gcm_new` is to use ipsec-mb where it can; it does unless told otherwise.
cdef void gcm_allow(bint allowed) noexcept nogil
