"""Settings for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.postgres import Cluster, missing

# The same examples each time, so that a run says something of the change and not of the dice; the fuzzers go on looking
# for new ones. A shared or instrumented machine may take its time over an example; what hangs is stopped by pytest's
# own timeout.
hypothesis.settings.register_profile("patient", deadline=None, derandomize=True)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL for all tests that need one; skips where it is not installed."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty catalog's database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'catalog.sqlite'}"
    cluster: Cluster = request.getfixturevalue("postgres")
    return cluster.database()
