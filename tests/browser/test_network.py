"""Ways through a network: TCP where UDP is blocked, TURN where nothing else goes, and a network that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import consultation as c
from tests.browser.conftest import Pages, Server, launch

if TYPE_CHECKING:
    from playwright.sync_api import Page, Playwright

pytestmark = pytest.mark.browser

PEERS = """
    window.peers = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(...options) { super(...options); window.peers.push(this); }
    };
"""
ROUTE = """async () => {
  const stats = await window.peers.at(-1).getStats();
  const pair = stats.get([...stats.values()].find(({ type }) => type === "transport").selectedCandidatePairId);
  const [local, remote] = [stats.get(pair.localCandidateId), stats.get(pair.remoteCandidateId)];
  return { local: local.candidateType, protocol: remote.protocol, relay: local.relayProtocol ?? null };
}"""


@pytest.fixture
def no_udp(playwright: Playwright) -> Iterator[Pages]:
    """A browser that may send no UDP, as in many a hospital."""
    running = launch(playwright, "--webrtc-ip-handling-policy=disable_non_proxied_udp")
    opened = Pages(running)
    yield opened
    opened.close()
    running.close()
    assert opened.errors == []


def open_viewer(pages: Pages, server: Server, room: str, **options: Any) -> Page:
    return pages.open(server.address("viewer", room), script=PEERS, **options)


def test_without_udp_a_page_publishes_and_another_views(
    pages: Pages, no_udp: Pages, server: Server, figures: Callable[..., None]
) -> None:
    c.start_cart(pages, server, "tcp-1")
    doctor = open_viewer(no_udp, server, "tcp-1")
    times = c.firsts(doctor, c.SOURCES)
    c.wait_live(doctor)
    route = doctor.evaluate(ROUTE)
    figures(join_ms=times, **route)
    assert route["protocol"] == "tcp"
