from enum import IntEnum

class RepairVerdict(IntEnum):
    REPAIR_SEND = 0
    REPAIR_RECENT = 1
    REPAIR_SPENT = 2
    REPAIR_OLD = 3
    REPAIR_OFTEN = 4
    REPAIR_VERDICTS = 5

class Repairs:
    def measured(self, round_trip: int) -> None: ...
    def heed(self, now: int) -> bool: ...
    def sending(self, sent: int, now: int) -> int: ...
    def may(
        self, sequence: int, now: int, *, age: int = 0, small: bool = False, estimate: int = 0, size: int = 1200
    ) -> RepairVerdict: ...
    def leaves(self, sequence: int, now: int) -> None: ...
