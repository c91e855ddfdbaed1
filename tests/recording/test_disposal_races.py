"""Who wants a recording kept and who disposes of it, at the same time: one of the two wins, wholly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mediaserver.recording.archive import Disposed
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.storage.claims import Claims
from mediaserver.recording.storage.keys import CLAIMED
from mediaserver.recording.storage.locks import Locks
from mediaserver.recording.storage.s3 import S3Settings
from tests.recording.bucketed import Driven
from tests.recording.test_retention import LATER, Kept, one


class Meddler:
    """A storage's locks, with something that somebody else does at one moment."""

    def __init__(self, locks: Locks, after: str, act: Callable[[], None], at: int = 1) -> None:
        """`act` is called once, when `after` has been called for the time `at`."""
        self._locks = locks
        self._after, self._act, self._at = after, act, at

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._locks, name)
        if name != self._after:
            return call

        def called(*arguments: Any) -> Any:
            answer = call(*arguments)
            self._at -= 1
            if self._at == 0:
                self._act()
            return answer

        return called


def lock_by_name(storage: Driven, bucket: S3Settings, name: str) -> None:
    """As somebody does who is told to keep a recording: all its objects that the bucket lists. Raises OSError."""
    keys = [storage.bucket.key(one) for one in storage.bucket.names() if name in one]
    assert keys, "who does not find it can't lock it"

    async def work(client: Any) -> None:
        for key in keys:
            await client.put_object_legal_hold(Bucket=bucket.bucket, Key=key, LegalHold={"Status": "ON"})

    storage._locks._call(work)


async def whole_in_the_bucket(kept: Kept, name: str) -> None:
    storage = kept.storage
    assert isinstance(storage, Driven)
    storage.settle()
    assert not (storage.folder(name) / CLAIMED).exists()
    report = await kept.archive.verify(name)  # of media that is in the bucket alone
    assert report.ok, report.problems
    assert await kept.found() == [name]


@pytest.mark.parametrize("at", [1, 2])
def test_a_lock_between_the_question_and_the_deletion_wins(tmp_path: Path, bucket: S3Settings, at: int) -> None:
    """It is asked for the report, once more under the recording's own lock, and for the last time in the claim."""

    async def work(kept: Kept) -> None:
        name = await kept.record()
        storage = kept.storage
        assert isinstance(storage, Driven)
        good = storage._locks
        meddler = Meddler(good, "kept_by", lambda: lock_by_name(storage, bucket, name), at)
        storage._locks = meddler  # type: ignore[assignment]
        case = one(await kept.dispose())
        assert (case.state, "legal hold" in case.reason) == ("kept", True)
        storage._locks = good
        await whole_in_the_bucket(kept, name)

    Kept(tmp_path, Driven(tmp_path, bucket)).run(work)


def test_who_comes_after_the_claim_is_refused(tmp_path: Path, bucket: S3Settings) -> None:
    refused: list[str] = []

    async def work(kept: Kept) -> None:
        name = await kept.record()
        storage = kept.storage
        assert isinstance(storage, Driven)
        keys = [storage.bucket.key(one) for one in storage.bucket.names() if name in one]

        def late() -> None:
            assert [one for one in storage.bucket.names() if name in one] == []
            for key in keys:
                with pytest.raises(OSError, match=r"S3: .*PutObjectLegalHold") as caught:
                    storage._locks._call(
                        lambda client, key=key: client.put_object_legal_hold(
                            Bucket=bucket.bucket, Key=key, LegalHold={"Status": "ON"}
                        )
                    )
                refused.append(str(caught.value))

        storage._claims = Claims(storage, Meddler(storage._locks, "kept_by", late))  # type: ignore[arg-type]
        assert one(await kept.dispose()).state == "disposed"
        assert len(refused) == len(keys) > 2
        await kept.gone(name)

    Kept(tmp_path, Driven(tmp_path, bucket)).run(work)


def test_a_claim_that_was_interrupted_is_given_up(tmp_path: Path, bucket: S3Settings) -> None:
    """Killed, or the bucket gone, after the objects were hidden: nothing was decided, and they come to light again."""
    names = []

    async def claim(kept: Kept) -> None:
        names.append(await kept.record())
        kept.storage.claim(kept.storage.folder(names[0]))
        assert isinstance(kept.storage, Driven)
        assert not any(names[0] in one for one in kept.storage.bucket.names())

    async def look(kept: Kept) -> None:
        await whole_in_the_bucket(kept, names[0])

    first = Kept(tmp_path, Driven(tmp_path, bucket))
    first.run(claim)
    again = Kept(tmp_path, Driven(tmp_path, bucket))
    again.key = first.key
    again.run(look)


def test_holds_and_disposals_race(tmp_path: Path, catalog_url: str) -> None:
    """Of each recording one of the two wins, wholly: it is held and whole, or the hold was refused and it is gone."""

    async def work(kept: Kept) -> None:
        names = [await kept.record() for _ in range(12)]
        held: list[str] = []
        won: list[str] = []
        refusals: list[str] = []

        async def hold(name: str) -> None:
            try:
                await kept.archive.place_hold(name, reason="a lawsuit", by="Eve", at_us=1)
                held.append(name)
            except Disposed as error:
                refusals.append(str(error))

        async def dispose() -> None:
            for name in names:
                if one(await kept.dispose(name)).state == "disposed":
                    won.append(name)

        await asyncio.gather(dispose(), *(hold(name) for name in reversed(names)))
        assert sorted([*held, *won]) == sorted(names)
        assert all("disposed of" in text for text in refusals)
        for name in won:
            await kept.gone(name)
        for name in held:
            assert (await kept.archive.verify(name)).ok
        assert sorted(await kept.found(on_hold=True)) == sorted(held)

    Kept(tmp_path, LocalStorage(tmp_path), url=catalog_url).run(work)


def test_a_hold_that_comes_while_it_goes_is_refused(tmp_path: Path) -> None:
    """At the very moment between the last look at its holds and the decision."""

    async def work(kept: Kept) -> None:
        name = await kept.record()
        loop = asyncio.get_running_loop()
        placed: list[asyncio.Future[Any]] = []

        class Slow(LocalStorage):
            def claim(self, folder: Path) -> str:
                hold = kept.archive.place_hold(name, reason="a lawsuit", by="Eve", at_us=1)
                placed.append(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(hold, loop), loop=loop))
                return ""

        kept.archive.disposals._storage = Slow(tmp_path)
        assert one(await kept.dispose()).state == "disposed"
        with pytest.raises(Disposed, match="by Eve: its time is over"):
            await placed[0]
        await kept.gone(name)

    Kept(tmp_path, LocalStorage(tmp_path)).run(work)


def test_a_hold_just_before_wins(tmp_path: Path) -> None:
    """After the report has said that it is due."""

    async def work(kept: Kept) -> None:
        name = await kept.record()
        due = await kept.archive.disposals.due(LATER)
        assert [case.state for case in due] == ["due"]
        await kept.archive.place_hold(name, reason="a lawsuit", by="Eve", at_us=1)
        done = await kept.archive.disposals._carried_out(
            due[0], "Eve", "its time is over", LATER, lambda name, facts: None
        )
        assert (done.state, "a lawsuit" in done.reason) == ("kept", True)
        assert (await kept.archive.verify(name)).ok

    Kept(tmp_path, LocalStorage(tmp_path)).run(work)
