"""The search for the most consultations within budget, against servers that are functions."""

from __future__ import annotations

from msgspec.structs import replace

from mediaserver.loadtest.report import Report, judge
from mediaserver.loadtest.search import Found, Searcher
from tests.loadtest.running import asynchronous
from tests.loadtest.test_report import LEG, TOTALS, histogram_of, outcome

MS = 1_000_000


async def search(
    carries: int, own_limit: int = 10_000, *, first: int = 1, limit: int = 4096
) -> tuple[Found, list[int]]:
    tried: list[int] = []

    async def step(count: int) -> Report:
        tried.append(count)
        late = TOTALS._replace(sender_lateness=histogram_of([20 * MS]))
        lossy = [replace(LEG, lost=1)]
        return judge(
            outcome(
                legs=lossy if count > min(carries, own_limit) else [LEG], totals=late if count > own_limit else TOTALS
            )
        )

    return await Searcher(step, lambda text: None, limit).run(first), tried


@asynchronous
async def test_the_servers_limit_is_found() -> None:
    found, tried = await search(37)
    assert 33 <= found.most <= 37
    assert found.limit == "server"
    assert tried[:7] == [1, 2, 4, 8, 16, 32, 64]
    assert found.report.passed
    assert [step.consultations for step in found.steps] == tried
    assert "ultrasound: loss after repair (server egress)" in found.steps[6].broken


@asynchronous
async def test_the_generators_limit_is_told_apart() -> None:
    found, _ = await search(1000, own_limit=20)
    assert found.most <= 20
    assert found.limit == "generator"
    assert any(step.verdict == "generator's limit" for step in found.steps)


@asynchronous
async def test_a_server_that_carries_nothing_is_found_at_once() -> None:
    found, tried = await search(0)
    assert (found.most, tried) == (0, [1])
    assert not found.report.passed


@asynchronous
async def test_a_search_that_begins_too_high_comes_down() -> None:
    found, tried = await search(3, first=16)
    assert found.most == 3
    assert tried[:3] == [16, 8, 4]


@asynchronous
async def test_the_search_ends_where_it_has_to() -> None:
    found, tried = await search(1000, limit=10)
    assert (found.most, found.limit) == (10, "end of the search")
    assert tried == [1, 2, 4, 8, 10]
