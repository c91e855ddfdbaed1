"""Prometheus metrics, collected at scrape from plain counts. No label has values that grow without bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from mediaserver import __version__
from mediaserver.audit import Audit
from mediaserver.reports.latency import AGE_BOUNDS, LatencyBook
from mediaserver.reports.session import SessionReports
from mediaserver.reports.spells import SpellBook
from mediaserver.rooms import Rooms
from mediaserver.sfu.session.model import SoundFault
from mediaserver.sfu.wire import gcm
from mediaserver.stats import ControlStats, Histogram

if TYPE_CHECKING:
    from mediaserver.desk.break_glass import BreakGlass
    from mediaserver.recording.archive import Archive
    from mediaserver.recording.recorder import Recorder
    from mediaserver.recording.storage.logs import LogCopy
    from mediaserver.recording.storage.uploads import Uploader
    from mediaserver.timestamps import TimeStamps

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "mediaserver_"
LEVELS = frozenset({"pool_bytes", "packets_held", "tcp_connections"})
"""Counters of the data plane that are levels, not sums."""

_PLANE_HELP: Mapping[str, str] = {
    "datagrams_in": "Datagrams received, by UDP or in frames of TCP.",
    "datagrams_out": "Datagrams sent, by UDP or in frames of TCP.",
    "messages_out": "Messages that took datagrams to the kernel by UDP: each a run of equal ones to one address.",
    "bytes_in": "Bytes of datagrams received.",
    "bytes_out": "Bytes of datagrams sent.",
    "peers_asked": "Checks sent to addresses to which peers seemed to have moved.",
    "tcp_connections": "TCP connections open for media.",
    "tcp_accepted": "TCP connections taken.",
    "tcp_refused": "TCP connections closed for want of room.",
    "rtp_in": "RTP packets received.",
    "rtp_out": "RTP packets sent, retransmissions included.",
    "rtcp_in": "RTCP datagrams received.",
    "rtcp_out": "RTCP datagrams sent.",
    "stun_in": "STUN messages received.",
    "dtls_in": "Datagrams with DTLS records received.",
    "nacks_in": "Packets that viewers have reported missing.",
    "nacks_out": "Packets that publishers were asked for again.",
    "plis_in": "Keyframe requests of viewers.",
    "plis_out": "Keyframe requests to publishers.",
    "caught_up": "Legs that began at a kept key picture, without a new one of the publisher.",
    "caught_up_packets": "Kept packets sent to these.",
    "caught_up_bytes": "Bytes of RTP payload of these packets.",
    "retransmitted": "Packets sent again to viewers.",
    "retransmit_missed": "Packets that viewers asked for and that were no longer kept.",
    "repair_recent": "Packets that viewers asked for while what they had asked for before was on its way.",
    "repair_spent": "Packets that viewers asked for beyond the share of their line that repairs may have.",
    "repair_old": "Packets that viewers asked for when they were too old to be played.",
    "repair_often": "Packets that viewers asked for although they had been sent again often enough.",
    "repair_unheeded": "Packets that viewers asked for faster than requests are looked at.",
    "repair_given_up": "Times that a viewer was given a key picture, as what it lacked would not come.",
    "recovered": "Lost packets that publishers have sent again.",
    "recovered_late": "Lost packets that came too late for viewers and were recorded.",
    "recovered_red": "Lost packets taken from the redundancy of later ones.",
    "given_up": "Lost packets that publishers did not send again in time.",
    "relayed": "Packets given to other workers, for viewers of the same room.",
    "relay_dropped": "Packets that did not fit into another worker's ring.",
    "relay_taken": "Packets taken from other workers.",
    "relay_again": "Of these, those that a viewer had to ask for as they had not fitted.",
    "tap_dropped": "Packets that did not fit into a recorder's ring.",
    "events_dropped": "Reports to the control plane that did not fit.",
    "pool_bytes": "Memory of packet buffers.",
    "packets_held": "Packet buffers in use.",
}

# Of the recorder's counters: the metric and its help. What its rings drop is told by the data plane.
RECORDER_LEVELS: Mapping[str, tuple[str, str]] = {
    "recordings": ("recordings", "Recordings that go on or are being completed."),
    "tracks": ("tracks", "Tracks being recorded."),
    "backlog": ("backlog_packets", "Packets that wait for the recorder in the rings of its taps."),
    "held_bytes": ("held_bytes", "Bytes that wait for the disk."),
}
RECORDER_SUMS: Mapping[str, tuple[str, str]] = {
    "packets": ("packets", "RTP packets taken from the rings."),
    "bytes": ("bytes", "Bytes of RTP payload taken from the rings."),
    "lost_packets": ("lost_packets", "Packets that a recording lacks."),
    "gaps": ("gaps", "Gaps in recorded tracks, whatever their cause."),
    "ignored": ("ignored_packets", "Packets of payload types that nobody has agreed on."),
    "fragments": ("fragments", "Fragments written and synced to disk."),
    "fragment_bytes": ("fragment_bytes", "Bytes of these fragments."),
    "write_errors": ("write_errors", "Writes that failed; they are tried again."),
    "alarms": ("alarms", "Times that a recording could not be written."),
    "failed": ("failed_recordings", "Recordings that could not be closed when they ended."),
}


class Metrics:
    """The registry of one server."""

    def __init__(
        self,
        rooms: Rooms,
        stats: ControlStats,
        audit: Audit,
        reports: SessionReports,
        latency: LatencyBook,
        spells: SpellBook,
    ) -> None:
        self.recorder: Recorder | None = None
        self.time_stamps: TimeStamps | None = None
        self.archive: Archive | None = None
        self.uploader: Uploader | None = None
        self.log_copies: Sequence[LogCopy] = ()
        self.break_glass: BreakGlass | None = None
        self._rooms = rooms
        self._stats = stats
        self._audit = audit
        self._reports = reports
        self._latency = latency
        self._spells = spells
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not collect in order to know the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        labels = {"version": __version__, "srtp": gcm.library()}
        yield _gauge("info", "The version that runs, and whose AES-GCM protects its media.", [(labels, 1)])
        yield from self._plane()
        yield from self._limits()
        yield from self._control()
        yield from self._quality()
        yield from self._archive()
        yield from self._recorder()
        yield from self._uploads()

    # Data plane

    def _plane(self) -> Iterator[Metric]:
        counters = self._rooms.workers.counters()
        drops = sorted({name for _, values in counters for name in values if name.startswith("drop_")})
        for name, text in _PLANE_HELP.items():
            samples = [({"worker": str(slot.number)}, values.get(name, 0)) for slot, values in counters]
            make = _gauge if name in LEVELS else _counter
            yield make(f"plane_{name}", text, samples)
        yield _counter(
            "plane_drops",
            "Datagrams and packets that were dropped, by cause; srtp_auth and srtp_replay are SRTP failures.",
            [
                ({"worker": str(slot.number), "cause": name.removeprefix("drop_")}, values.get(name, 0))
                for slot, values in counters
                for name in drops
            ],
        )
        yield from self._workers()

    def _workers(self) -> Iterator[Metric]:
        slots = list(self._rooms.workers)

        def each(value: str) -> list[tuple[dict[str, str], float]]:
            return [({"worker": str(slot.number)}, getattr(slot, value)) for slot in slots]

        yield _gauge(
            "worker_busy_ratio", "Share of the last second that the worker's thread was at work.", each("busy_share")
        )
        yield _gauge(
            "worker_expected_busy_ratio",
            "The same smoothed, with what those will take that have just come in.",
            [({"worker": str(slot.number)}, slot.use.expected) for slot in slots],
        )
        yield _gauge("worker_rooms", "Rooms on the worker.", each("rooms"))
        yield _gauge("worker_participants", "Participants on the worker.", each("participants"))
        copies = sum(live.room.planes.mirrors for live in self._rooms.values())
        yield _gauge("track_copies", "Copies of tracks on workers other than their publishers'.", [({}, copies)])
        latency = HistogramMetricFamily(
            f"{PREFIX}forward_latency_seconds", "From a packet's arrival to the send of its copies.", labels=["worker"]
        )
        for slot in slots:
            pairs, total_us = slot.worker.latency_histogram()
            bounds, counts = _octaves(pairs)
            latency.add_metric([str(slot.number)], _cumulative(bounds, counts), total_us / 1e6)
        yield latency

    # Control plane

    def _control(self) -> Iterator[Metric]:
        stats = self._stats
        rooms = list(self._rooms.values())
        via: Counter[str] = Counter(member.via for room in rooms for member in room.members.values())
        tracks: Counter[str] = Counter(str(track.source) for room in rooms for track in room.tracks)
        recording: Counter[str] = Counter(room.recording.state for room in rooms)
        yield _gauge("rooms", "Open rooms.", [({}, len(rooms))])
        yield _gauge(
            "participants", "Participants by their way in.", _labelled("via", via, ("websocket", "whip", "whep"))
        )
        yield _gauge("tracks", "Published tracks by source.", _labelled("source", tracks))
        yield _gauge("room_recordings", "Rooms by the state of their recording.", _labelled("state", recording))
        yield _gauge("sockets", "Open signalling sockets.", [({}, stats.sockets)])
        yield _counter("joins", "Joins by way in.", _labelled("via", stats.joins))
        yield _counter(
            "join_denials", "Joins refused for want of a good token, by way in.", _labelled("via", stats.denials)
        )
        yield _counter("leaves", "Participants that left, by reason.", _labelled("reason", stats.leaves))
        yield _counter("resumes", "Sessions taken up on a new socket, by outcome.", _labelled("outcome", stats.resumes))
        yield _counter("offers", "Offers by outcome.", _labelled("outcome", stats.offers))
        yield _counter("messages", "Signalling messages received.", [({}, stats.messages)])
        yield _counter("bad_messages", "Signalling messages that could not be read.", [({}, stats.bad_messages)])
        yield _counter(
            "dropped_clients", "Signalling clients dropped, by reason.", _labelled("reason", stats.dropped_clients)
        )
        yield from self._handshakes()
        yield from self._freshness()
        yield _counter(
            "audit_failures", "Lines of the audit trail that could not be written.", [({}, self._audit.failures)]
        )
        yield _gauge("audit_held_lines", "Lines of the audit trail that wait for the disk.", [({}, self._audit.held)])
        yield _histogram(
            "first_frame_seconds", "From a join to a track's first packet to the participant.", stats.first_frame
        )

    def _handshakes(self) -> Iterator[Metric]:
        desk = self._rooms.handshakes
        yield _gauge(
            "handshake_steps_waiting", "Steps of DTLS handshakes that wait or are under way.", [({}, desk.waiting)]
        )
        yield _counter("handshake_steps", "Steps of DTLS handshakes that were carried out.", [({}, desk.steps)])
        yield _counter(
            "handshake_steps_refused", "Datagrams of DTLS handshakes dropped, as too many waited.", [({}, desk.refused)]
        )
        yield _counter("handshake_cpu_seconds", "CPU of the thread of handshakes.", [({}, desk.busy_us / 1e6)])

    # Limits

    def _limits(self) -> Iterator[Metric]:
        admission = self._rooms.admission
        limits = dict(admission.limits) | {"busy": admission.settings.busy_percent / 100}
        # A room is opened where the least busy worker can take it.
        use = dict(admission.use) | {"busy": min((one.expected for one in admission.workers), default=0.0)}
        told = "memory, packets and busy are shares, the others are counted"
        for name, text, values in (
            ("limit", f"What may be in use before nobody more is let in; {told}.", limits),
            ("limit_use", f"What of it is in use; {told}.", use),
        ):
            yield _gauge(name, text, [({"of": key}, value) for key, value in sorted(values.items())])
        for name, text, opens in (
            ("rooms_accepted", "1 while rooms are opened for those who come, 0 at a limit.", True),
            ("joins_accepted", "1 while those are let in who join an open room, 0 at a limit.", False),
        ):
            yield _gauge(name, text, [({}, float(admission.refusal(opens=opens) is None))])
        always = ("busy", "memory", "participants", "legs", "rooms")
        yield _counter(
            "joins_refused", "Joins refused at a limit, by the limit.", _labelled("of", self._rooms.refusals, always)
        )

    # What viewers get

    def _quality(self) -> Iterator[Metric]:
        for name, text, values in (
            (
                "quality_breaches",
                "Times that a viewer's line left a track under its floor or paused.",
                self._reports.breaches,
            ),
            ("quality_breach_seconds", "Time that viewers had so little of a track.", self._reports.breach_seconds()),
        ):
            samples = [({"source": source, "state": state}, value) for (source, state), value in sorted(values.items())]
            yield _counter(name, f"{text} By source and state.", samples)
        ages = HistogramMetricFamily(
            f"{PREFIX}shown_age_seconds",
            "From capture to what viewers saw or heard, as they report it, by source.",
            labels=["source"],
        )
        for source, one in sorted(self._latency.ages.items()):
            ages.add_metric([source], _cumulative(AGE_BOUNDS, one.counts), one.total)
        yield ages
        yield _counter(
            "sound_faults",
            "Times that a clinical sound did not come as it was asked for, by fault.",
            _labelled("fault", self._spells.sound_faults, tuple(SoundFault)),
        )
        yield _counter("report_failures", "Session reports that could not be written.", [({}, self._reports.failures)])

    def _freshness(self) -> Iterator[Metric]:
        spells = self._stats.spells
        seconds = spells.seconds(self._rooms.clock.monotonic_us())
        for name, text, values in (
            ("freshness_episodes", "Times that a track went stale or stopped changing.", spells.episodes),
            ("freshness_seconds", "Time that tracks were stale or did not change.", seconds),
        ):
            samples = [({"source": source, "state": state}, value) for (source, state), value in sorted(values.items())]
            yield _counter(name, f"{text} By source and state.", samples)

    # Recorder and archive

    def _archive(self) -> Iterator[Metric]:
        if self.archive is not None:
            usable = float(not self.archive.catalog_trouble)
            yield _gauge("catalog_usable", "1 while the archive's database can be used, else 0.", [({}, usable)])
        glass = self.break_glass
        if glass is not None:
            yield _counter("break_glass", "Recordings opened in an emergency.", [({}, glass.count)])
            yield _gauge("break_glass_unreviewed", "Those that nobody has looked into yet.", [({}, glass.unreviewed)])
            yield _gauge("break_glass_unalerted", "Those that the webhook does not know of.", [({}, glass.unalerted)])

    def _recorder(self) -> Iterator[Metric]:
        stamps = self.time_stamps
        if stamps is not None:
            yield _gauge("time_stamps_pending", "Recordings that wait for their time stamp.", [({}, stamps.pending)])
            yield _counter("time_stamp_failures", "Tries that gave no good time stamp.", [({}, stamps.failures)])
        if self.recorder is None:
            return
        counters = self.recorder.counters()
        for source, make in ((RECORDER_LEVELS, _gauge), (RECORDER_SUMS, _counter)):
            for counter, (name, text) in source.items():
                yield make(f"recorder_{name}", text, [({}, counters[counter])])
        bounds, counts, total_us = self.recorder.fsync_histogram()
        family = HistogramMetricFamily(f"{PREFIX}recorder_fsync_seconds", "How long a sync to disk takes.")
        family.add_metric([], _cumulative([bound / 1e6 for bound in bounds], counts), total_us / 1e6)
        yield family

    def _uploads(self) -> Iterator[Metric]:
        uploader = self.uploader
        if uploader is None:
            return
        backlog = uploader.backlog()
        yield _gauge("upload_waiting_files", "Files that wait to be in the bucket.", [({}, backlog.files)])
        yield _gauge("upload_waiting_bytes", "Bytes of media that wait to be in the bucket.", [({}, backlog.bytes)])
        yield _gauge(
            "upload_oldest_seconds", "How long the file waits that waits longest.", [({}, backlog.age_us / 1e6)]
        )
        yield _gauge("upload_failing", "1 while uploads fail.", [({}, int(uploader.failing))])
        behind = [({"log": one.name}, one.behind) for one in self.log_copies]
        yield _gauge("upload_log_lines", "Lines of the register and the audit trail that the bucket lacks.", behind)
        yield _counter("upload_failures", "Uploads that failed; they are tried again.", [({}, uploader.failures)])
        yield _counter("uploaded_files", "Media files that the bucket has given back as sent.", [({}, uploader.files)])
        yield _counter("uploaded_bytes", "Bytes of these files.", [({}, uploader.bytes)])


Samples = Sequence[tuple[dict[str, str], float]]


def _fill(family: Any, samples: Samples) -> Metric:
    for labels, value in samples:
        family.add_metric(list(labels.values()), value)
    result: Metric = family
    return result


def _gauge(name: str, text: str, samples: Samples) -> Metric:
    return _fill(GaugeMetricFamily(PREFIX + name, text, labels=_label_names(samples)), samples)


def _counter(name: str, text: str, samples: Samples) -> Metric:
    return _fill(CounterMetricFamily(PREFIX + name, text, labels=_label_names(samples)), samples)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text)
    family.add_metric([], _cumulative(histogram.bounds, histogram.counts), histogram.total)
    return family


def _label_names(samples: Samples) -> list[str]:
    return list(samples[0][0]) if samples else []


def _labelled(label: str, counts: Mapping[str, int], always: Iterable[str] = ()) -> Samples:
    known = dict.fromkeys(always, 0) | dict(counts)
    return [({label: key}, value) for key, value in sorted(known.items())]


def _octaves(pairs: Sequence[tuple[int, int]]) -> tuple[list[float], list[int]]:
    """The workers' four buckets an octave as one: bounds in seconds and counts, the last one open."""
    bounds = [pairs[at][0] / 1e6 for at in range(3, len(pairs) - 1, 4)]
    counts = [sum(count for _, count in pairs[at : at + 4]) for at in range(0, len(pairs), 4)]
    return bounds[: len(counts) - 1], counts


def _cumulative(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    names = [f"{bound:g}" for bound in bounds] + ["+Inf"]
    return list(zip(names, accumulate(map(float, counts)), strict=True))
