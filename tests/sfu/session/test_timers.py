"""Timers say what the least of all due times says, and do not look at everybody for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediaserver.sfu.session.timers import Timers

NAMES = "abcd"
STEPS = st.lists(
    st.tuples(st.sampled_from(["earlier", "later", "gone", "pass"]), st.sampled_from(NAMES), st.integers(1, 50)),
    max_size=60,
)


@given(STEPS)
def test_the_first_of_all(steps: list[tuple[str, str, int]]) -> None:
    dues: dict[str, int] = {}
    timers = Timers(dues.get)
    now = 0
    for kind, name, by in steps:
        if kind == "earlier":
            dues[name] = min(dues.get(name, now + 200), now + by)
            timers.note(name)
        elif kind == "later" and name in dues:
            dues[name] += by
        elif kind == "gone":
            dues.pop(name, None)
        elif kind == "pass":
            now += by
            due = {one for one, at in dues.items() if at <= now}
            taken = timers.take(now)
            assert set(taken) == due
            assert len(taken) == len(due)
            for one in taken:
                dues[one] = now + 30
                timers.note(one)
        assert timers.earliest() == min(dues.values(), default=None)


class Counting(dict[str, int]):
    looks = 0

    def get(self, name: str, default: int | None = None) -> int | None:  # type: ignore[override]
        self.looks += 1
        return super().get(name, default)


def test_a_thousand_cost_no_more_than_a_few() -> None:
    dues = Counting({str(number): 1000 + number for number in range(1000)})
    timers = Timers(dues.get)
    for name in dues:
        timers.note(name)
    dues.looks = 0
    for _ in range(100):
        assert timers.earliest() == 1000
    assert dues.looks == 100
