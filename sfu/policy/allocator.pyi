from enum import IntEnum

class AllocMode(IntEnum):
    ALLOC_CLINICAL = 0
    ALLOC_FLAT = 1
    ALLOC_EQUAL = 2

class AllocReason(IntEnum):
    ALLOC_OK = 0
    ALLOC_BELOW_FLOOR = 1
    ALLOC_PAUSED_LINE = 2
    ALLOC_NO_LAYER = 3
    ALLOC_OFF = 4
