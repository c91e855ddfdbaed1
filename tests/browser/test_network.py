"""Ways through a network: TCP where UDP is blocked, TURN where nothing else goes."""

from __future__ import annotations

import itertools
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import consultation as c
from tests.browser.conftest import PATIENCE, Pages, Server, launch
from tests.browser.relay import TcpRelay, UdpRelay
from tests.browser.turn import free_port, turn_server

if TYPE_CHECKING:
    from playwright.sync_api import Page, Playwright

pytestmark = pytest.mark.browser

CUT_OFF_MS = 1_000
"""From the end of a path, of which nothing tells, to a picture by another."""
TCP_CUT_OFF_MS = 1_500
"""The same for a TCP connection: Chromium takes longer to find the next one."""
ALARM_MS = 31_000
"""So long pages are slower to take a silence for a dead path."""
NO_UDP = "--webrtc-ip-handling-policy=disable_non_proxied_udp"
PEERS = """
    window.peers = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(options) { super({ ...options, ...POLICY }); window.peers.push(this); }
      setConfiguration(options) { super.setConfiguration({ ...options, ...POLICY }); }
      setRemoteDescription({ type, sdp }) {
        const others = { udp: /a=candidate:\\d+ 1 (tcp|udp \\d+ (?!127\\.0\\.0\\.1 )).*\\r\\n/g,
                         tcp: /a=candidate:\\d+ 1 (udp|tcp \\d+ (?!127\\.0\\.0\\.1 )).*\\r\\n/g };
        const other = others["PROTOCOL"];
        const relay = window.relay ?? RELAY;
        if (relay) sdp = sdp.replaceAll(other, "").replaceAll(/(a=candidate.* 127\\.0\\.0\\.1) \\d+/g, "$1 " + relay);
        return super.setRemoteDescription({ type, sdp });
      }
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
    running = launch(playwright, NO_UDP)
    opened = Pages(running)
    yield opened
    opened.close()
    running.close()
    assert opened.errors == []


def script(*, turn: bool = False, relay: int = 0, protocol: str = "udp", policy: str = "{}") -> str:
    """For a page that is to use TURN alone, our own relay at that port, or what else a configuration says."""
    if turn:
        policy = '{ iceTransportPolicy: "relay" }'
    return PEERS.replace("POLICY", policy).replace("RELAY", str(relay)).replace("PROTOCOL", protocol)


def open_viewer(pages: Pages, server: Server, room: str, **how: Any) -> Page:
    return pages.open(server.address("viewer", room), script=script(**how))


def wait_for_picture(page: Page) -> dict[str, str | None]:
    """What way the media goes, once pictures move."""
    c.wait_live(page)
    c.watch(page)
    codes = [frame[0] for frame in c.seen(page, 30)]
    assert len(set(codes)) > 20
    route: dict[str, str | None] = page.evaluate(ROUTE)
    return route


def test_pages_publish_and_view_by_tcp_where_udp_is_blocked(
    no_udp: Pages, server: Server, figures: Callable[..., None]
) -> None:
    cart = c.start_cart(no_udp, server, "tcp-1", script=script())
    doctor = open_viewer(no_udp, server, "tcp-1")
    times = c.firsts(doctor, c.SOURCES)
    route = wait_for_picture(doctor)
    figures(join_ms={source: round(ms) for source, ms in times.items()}, **route)
    assert route["protocol"] == cart.evaluate(ROUTE)["protocol"] == "tcp"


@pytest.fixture
def turned(tmp_path: Path) -> Iterator[Server]:
    """A server whose clients are told of a coturn."""
    with turn_server() as turn:
        settings = tmp_path / "server.toml"
        settings.write_text(turn.config("turn:127.0.0.1:PORT", "turn:127.0.0.1:PORT?transport=tcp"))
        server = Server(tmp_path / "data", "--config", str(settings), udp="127.0.0.1:0")
        yield server
        server.stop()


def test_a_page_joins_through_turn(turned: Server, pages: Pages, figures: Callable[..., None]) -> None:
    """With credentials that the server has made for it."""
    c.start_cart(pages, turned, "turn-1")
    doctor = open_viewer(pages, turned, "turn-1", turn=True)
    times = c.firsts(doctor, c.SOURCES)
    route = wait_for_picture(doctor)
    figures(join_ms={source: round(ms) for source, ms in times.items()}, **route)
    assert route["local"] == "relay"


def count(server: Server, metric: str) -> float:
    """The sum of a counter over all its labels."""
    with urllib.request.urlopen(f"{server.base}/metrics", timeout=10) as response:
        text = response.read().decode()
    return sum(float(value) for value in re.findall(rf"^mediaserver_{metric}_total\S* (\S+)$", text, re.MULTILINE))


def longest_stop(page: Page, change: Callable[[], None]) -> float:
    """ms between two pictures, at most, around a change."""
    before = c.seen(page, 30)
    change()
    shown = [frame[1] for frame in (*before, *c.seen(page, 60))]
    return max(after - before for before, after in itertools.pairwise(shown))


@pytest.fixture
def media_port() -> int:
    return free_port()


@pytest.fixture
def one_worker(tmp_path: Path, media_port: int) -> Iterator[Server]:
    """A server with one media port, which is known."""
    server = Server(tmp_path / "data", "--workers", "1", udp=f"127.0.0.1:{media_port}")
    yield server
    server.stop()


def test_pictures_go_on_when_an_address_changes(
    one_worker: Server, media_port: int, pages: Pages, figures: Callable[..., None]
) -> None:
    """As behind a NAT that has forgotten them, viewer and publisher come from another port all at once: the server
    follows without an offer, and before their next checks."""
    with UdpRelay(media_port) as ours, UdpRelay(media_port) as theirs:
        c.start_cart(pages, one_worker, "roam-1", script=script(relay=theirs.port))
        doctor = open_viewer(pages, one_worker, "roam-1", relay=ours.port)
        wait_for_picture(doctor)
        offers = count(one_worker, "offers")
        stops = {"viewer": longest_stop(doctor, ours.move), "publisher": longest_stop(doctor, theirs.move)}
        figures(stop_ms={who: round(ms) for who, ms in stops.items()}, offers=count(one_worker, "offers"))
        # Where the machine is slow, the page may have made an offer before the server has followed.
        offered = count(one_worker, "offers") - offers
        assert count(one_worker, "plane_peers_asked") + offered >= 2
        offers += offered
        # A network that is gone altogether takes an offer, which the page makes by itself.
        with UdpRelay(media_port) as another:
            doctor.evaluate("(port) => { window.relay = port; }", another.port)
            stop = longest_stop(doctor, ours.cut)
            figures(new_network_ms=round(stop), offers=count(one_worker, "offers") - offers)
            assert count(one_worker, "offers") > offers
            assert stop < CUT_OFF_MS * PATIENCE
            wait_for_picture(doctor)


def test_pictures_go_on_when_tcp_connections_die(
    one_worker: Server, media_port: int, pages: Pages, no_udp: Pages, figures: Callable[..., None]
) -> None:
    """As behind a firewall that has forgotten them: that of the media alone, then that of the signalling with it."""
    http_port = int(one_worker.base.rsplit(":", 1)[1])
    with TcpRelay(media_port) as media, TcpRelay(http_port) as signalling:
        c.start_cart(pages, one_worker, "dead-1")
        near = one_worker.address("viewer", "dead-1").replace(f":{http_port}/", f":{signalling.port}/")
        doctor = no_udp.open(near, script=script(relay=media.port, protocol="tcp"))
        assert wait_for_picture(doctor)["protocol"] == "tcp"
        stops = {"media": longest_stop(doctor, media.forget)}
        wait_for_picture(doctor)
        doctor.wait_for_timeout(ALARM_MS)

        def forget_both() -> None:
            media.forget()
            signalling.forget()

        stops["all"] = longest_stop(doctor, forget_both)
        wait_for_picture(doctor)
        no_udp.close()  # the page goes before its ways do
        figures(stop_ms={what: round(ms) for what, ms in stops.items()})
        assert stops["media"] < TCP_CUT_OFF_MS * PATIENCE
        assert stops["all"] < TCP_CUT_OFF_MS * PATIENCE


SOUND = """async () => {
  const found = [];
  const stats = await window.peers.at(-1).getStats();
  for (const one of stats.values()) {
    if (one.type === "inbound-rtp" && one.kind === "audio" && one.packetsReceived > 0) {
      found.push({ received: one.packetsReceived, lost: one.packetsLost, nacks: one.nackCount });
    }
  }
  return found;
}"""


def test_sound_is_repaired_over_lines_that_lose(
    one_worker: Server, media_port: int, pages: Pages, figures: Callable[..., None]
) -> None:
    """Both from the publisher and to the viewer: what is lost is asked for, and speech brings copies of itself."""
    with UdpRelay(media_port) as ours, UdpRelay(media_port) as theirs:
        c.start_cart(pages, one_worker, "loss-1", script=script(relay=theirs.port))
        doctor = open_viewer(pages, one_worker, "loss-1", relay=ours.port)
        wait_for_picture(doctor)
        before = doctor.evaluate(SOUND)
        ours.lose(0.03)
        theirs.lose(0.03)
        doctor.wait_for_timeout(10_000)
        ours.lose(0.0)
        theirs.lose(0.0)
        doctor.wait_for_timeout(2_000)
        after = doctor.evaluate(SOUND)
        names = ("nacks_in", "nacks_out", "retransmitted", "repair_recent", "recovered", "recovered_red")
        counted = {name: count(one_worker, f"plane_{name}") for name in names}
    figures(before=before, after=after, **counted)
    for one, earlier in zip(after, before, strict=True):
        assert one["received"] - earlier["received"] > 300
        assert one["lost"] - earlier["lost"] <= 3  # two lines lose 30
        assert one["nacks"] > 0
    assert counted["recovered_red"] > 0
