"""The queue of what goes up, in virtual time."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from mediaserver.recording.storage.uploads import END, Item, Uploader, UploadQueue

SECOND = 1_000_000
SECONDS = 30.0
"""How long a thread is waited for."""


def test_once_however_often_it_is_asked_for() -> None:
    queue = UploadQueue()
    queue.put("r", "a", 0, 10)
    queue.put("r", "a", 5, 10)
    item = queue.take(10)
    assert item is not None
    assert (item.name, item.bytes, item.since) == ("a", 10, 0)
    assert queue.take(10) is None
    queue.done(item, 10)
    assert queue.backlog(10).files == 0


def test_what_changes_while_it_is_under_way_goes_again() -> None:
    queue = UploadQueue()
    queue.put("r", END, 0)
    item = queue.take(0)
    assert item is not None
    queue.put("r", END, 1)
    queue.done(item, 2)
    assert queue.take(2) is not None


def test_failures_back_off_and_are_never_forgotten() -> None:
    queue = UploadQueue()
    queue.put("r", "a", 0, 7)
    now, waits = 0, []
    for _ in range(12):
        item = queue.take(now)
        assert item is not None
        queue.failed(item, now)
        assert queue.take(now) is None
        due = queue.next_due()
        assert due is not None
        waits.append((due - now) // SECOND)
        now = due
    assert waits == [1, 2, 4, 8, 16, 32, *[60] * 6]
    backlog = queue.backlog(now)
    assert (backlog.files, backlog.bytes, backlog.age_us) == (1, 7, now)


def test_one_that_fails_does_not_hold_up_the_others() -> None:
    queue = UploadQueue()
    for name in ("a", "b"):
        queue.put("r", name, 0)
    item = queue.take(0)
    assert item is not None
    queue.failed(item, 0)
    other = queue.take(0)
    assert other is not None
    assert other.name == "b"


class Store:
    """Takes what it is told to take. Each upload is one of an item's file."""

    def __init__(self) -> None:
        self.now = 0
        self.refusals = 0
        self.taken: list[str] = []
        self.troubles: list[str] = []
        self.uploader = Uploader(self.work, lambda: self.now, self.troubles.append)

    def work(self, item: Item) -> bool:
        if item.name == END:
            if self.uploader.has_files(item.recording):
                return False
        elif self.refusals:
            self.refusals -= 1
            raise OSError("no")
        self.taken.append(item.name)
        return True

    def run(self) -> None:
        while self.uploader.backlog().files:
            if not self.uploader.step():
                self.now += SECOND


def test_trouble_is_told_once_and_its_end_too() -> None:
    store = Store()
    store.refusals = 3
    store.uploader.put("r", "a", 5)
    store.run()
    assert store.troubles == ["a of recording r: no", ""]
    assert (store.uploader.failures, store.uploader.files, store.uploader.bytes) == (3, 1, 5)
    assert not store.uploader.failing


def test_an_error_of_any_kind_is_a_failure_and_no_more() -> None:
    store = Store()
    uploader = Uploader(lambda item: 1 / 0 > 1, lambda: store.now, store.troubles.append)
    uploader.put("r", "a")
    assert uploader.step()
    assert uploader.backlog().files == 1
    assert store.troubles == ["a of recording r: division by zero"]


@given(names=st.lists(st.sampled_from("abcde"), max_size=12), refusals=st.integers(0, 20), at=st.integers(0, 12))
def test_everything_arrives_once_and_the_end_last(names: list[str], refusals: int, at: int) -> None:
    store = Store()
    store.refusals = refusals
    for number, name in enumerate(names):
        store.uploader.put("r", name)
        if number == at:
            store.uploader.put("r", END)
    store.uploader.put("r", END)
    store.run()
    assert sorted(store.taken[:-1]) == sorted(set(names))
    assert store.taken[-1] == END


def test_threads_end_when_they_are_told() -> None:
    store = Store()
    store.uploader.open(3)
    store.uploader.put("r", "a")
    store.uploader.close(30)
    assert store.uploader.backlog().files in (0, 1)


def test_what_goes_is_waited_for_and_sent_no_more() -> None:
    """A recording that is disposed of: nothing of it waits, and what is just being sent is let come to its end."""
    begun, go_on = threading.Event(), threading.Event()
    sent: list[str] = []

    def work(item: Item) -> bool:
        begun.set()
        assert go_on.wait(SECONDS)
        sent.append(f"{item.recording} {item.name}")
        return True

    uploader = Uploader(work, lambda: 0)
    for name in ("a", "b"):
        uploader.put("goes", name)
    uploader.put("stays", "c")
    uploader.open(1)
    try:
        assert begun.wait(SECONDS)
        uploader.put("goes", "a")  # once more, while it is under way
        assert not uploader.forget("goes", 0.0)
        go_on.set()
        assert uploader.forget("goes", SECONDS)
    finally:
        uploader.close(SECONDS)
    assert "goes b" not in sent
    assert sent.count("goes a") == 1
    assert not uploader.has_files("goes")
