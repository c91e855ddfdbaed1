"""The face of a data plane: commands from Python objects, events to them.

Everything here runs on the control plane's thread. What a command needs is laid out in plain memory, so that the
worker only copies it.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from mediaserver.sfu.policy.freshness cimport FreshnessRule
from mediaserver.sfu.stream.control cimport (
    COMMAND_ADD_LEG,
    COMMAND_ADD_MIRROR,
    COMMAND_ADD_PEER,
    COMMAND_ADD_TAP,
    COMMAND_ADD_TRACK,
    COMMAND_KEYFRAME,
    COMMAND_LINK,
    COMMAND_MUTE_TRACK,
    COMMAND_PAUSE_LEG,
    COMMAND_REMOVE_LEG,
    COMMAND_REMOVE_PEER,
    COMMAND_REMOVE_TAP,
    COMMAND_REMOVE_TRACK,
    COMMAND_RESTART_PEER,
    COMMAND_SEND_DTLS,
    COMMAND_SET_KEYS,
    COMMAND_SET_REMOTE,
    COMMAND_UPDATE_LEG,
    COMMAND_UPDATE_TRACK,
    Credentials,
    Keys,
)
from mediaserver.sfu.policy.layers cimport LayerGate
from mediaserver.sfu.stream.relay cimport Doorbell, Relay, relay_new, relay_release
from mediaserver.sfu.stream.report cimport REPORT_REMOVED
from mediaserver.sfu.stream.ring cimport ring_close, ring_init, ring_observe, ring_take
from mediaserver.sfu.stream.state cimport (
    MID_MAX,
    NAME_MAX,
    Leg,
    Peer,
    Sender,
    Track,
    PAYLOADS_MAX,
    SSRCS_MAX,
    LegConfig,
    LegWorth,
    ENCODINGS_MAX,
    RID_MAX,
    LegStats,
    PayloadConfig,
    PayloadOut,
    PeerStats,
    Report,
    TrackConfig,
    TrackStats,
)
from mediaserver.sfu.stream.spread cimport Spread
from mediaserver.sfu.stream.tap cimport TapRing
from mediaserver.sfu.wire.packet cimport EXT_COUNT
from mediaserver.sfu.wire.srtp cimport SrtpContext

from mediaserver.sfu.stream.params import EventKind, PlaneEvent

cdef enum:
    EVENT_RING = 8192
    OF_LEG = 1               # in the address of a stats block, which is even: it has a part of its own
    LEAST_STALE_US = 50000   # two reports of one track are at least that far apart

_KINDS = {int(kind): kind for kind in EventKind}
_PEER_SPACE, _TRACK_SPACE, _LEG_SPACE, _TAP_SPACE = "peer", "track", "leg", "tap"


cdef bytes name_bytes(str what, str text):
    cdef bytes encoded = text.encode()
    if not 0 < len(encoded) <= NAME_MAX:
        raise ValueError(f"a {what} has 1 to {NAME_MAX} bytes, not {len(encoded)}: {text[:80]!r}")
    return encoded


cdef int put_bytes(uint8_t* target, size_t room, bytes value, str what) except -1:
    if <size_t>len(value) > room:
        raise ValueError(f"{what} has {len(value)} bytes; the most is {room}")
    memcpy(target, <const char*>value, len(value))
    return len(value)


cdef int check_payload_type(object value) except -1:
    if not 0 <= value <= 127:
        raise ValueError(f"a payload type is 0 to 127, not {value}")
    return value


cdef int put_extensions(uint8_t* kind_of, uint8_t* id_of, object extensions) except -1:
    for number, kind in extensions:
        if not 1 <= number <= 255 or not 1 <= kind < <int>EXT_COUNT:
            raise ValueError(f"no header extension can have id {number} and kind {kind}")
        kind_of[<int>number] = kind
        id_of[<int>kind] = number
    return 0


cdef int lay_track(TrackConfig* config, object params) except -1:
    cdef PayloadConfig* entry
    cdef int i
    memset(config, 0, sizeof(TrackConfig))
    config.mid_size = put_bytes(config.mid, MID_MAX, name_bytes("mid", params.mid), "the mid")
    config.video = params.video
    config.keyframe_interval = params.keyframe_interval_us
    if not 0 < len(params.payloads) <= PAYLOADS_MAX:
        raise ValueError(f"a track has 1 to {PAYLOADS_MAX} payload types, not {len(params.payloads)}")
    for i, payload in enumerate(params.payloads):
        entry = &config.payloads[i]
        entry.payload_type = check_payload_type(payload.payload_type)
        entry.codec = payload.codec
        entry.clock_rate = payload.clock_rate
        if payload.clock_rate <= 0:
            raise ValueError(f"payload type {payload.payload_type} has no clock rate")
        entry.rtx_type = check_payload_type(payload.rtx_type)
        entry.nack = payload.nack
        entry.pli = payload.pli
        entry.fir = payload.fir
        entry.transport_cc = payload.transport_cc
        config.payload_at[entry.payload_type] = i + 1
        if entry.rtx_type:
            config.repaired_at[entry.rtx_type] = i + 1
    config.payload_count = len(params.payloads)
    if len(params.ssrcs) > SSRCS_MAX:
        raise ValueError(f"a track names at most {SSRCS_MAX} SSRCs, not {len(params.ssrcs)}")
    for i, ssrc in enumerate(params.ssrcs):
        config.ssrcs[i] = ssrc
        config.rtx_ssrcs[i] = params.rtx_ssrcs[i] if i < len(params.rtx_ssrcs) else 0
    config.ssrc_count = len(params.ssrcs)
    if len(params.rids) > ENCODINGS_MAX:
        raise ValueError(f"a track has at most {ENCODINGS_MAX} encodings, not {len(params.rids)}")
    config.encoding_count = max(1, len(params.rids))
    for i, rid in enumerate(params.rids):
        config.rid_size[i] = put_bytes(config.rids[i], RID_MAX, name_bytes("rid", rid), "a rid")
    lay_freshness(&config.freshness, params.freshness)
    config.voice = params.voice and not params.video
    config.untouched = params.untouched_bps is not None and not params.video
    config.untouched_bps = params.untouched_bps or 0
    put_extensions(config.ext.kind, config.ext.id, params.extensions)
    return 0


cdef int lay_freshness(FreshnessRule* rule, object freshness) except -1:
    if freshness is None:
        return 0
    if freshness.stale_us < LEAST_STALE_US:
        raise ValueError(f"nothing is stale before {LEAST_STALE_US} µs: {freshness.stale_us}")
    rule.stale_frames = freshness.stale_frames
    rule.stale_us = freshness.stale_us
    rule.unchanged_us = freshness.unchanged_us
    return 0


cdef int lay_worth(LegWorth* worth, object policy) except -1:
    worth.rank = policy.rank
    worth.frames_first = policy.frames_first
    worth.floor_frames = policy.floor_frames
    worth.floor_bps = policy.floor_bps
    worth.least_height = policy.least_height
    worth.desired_height = policy.desired_height
    worth.max_height = policy.max_height
    return 0


cdef int lay_leg(LegConfig* config, object params) except -1:
    cdef PayloadOut* entry
    cdef uint8_t kinds[256]
    cdef int i
    memset(config, 0, sizeof(LegConfig))
    config.payloads[0].outgoing = 255
    config.mid_size = put_bytes(config.mid, MID_MAX, name_bytes("mid", params.mid), "the mid")
    config.cname_size = put_bytes(config.cname, NAME_MAX, name_bytes("CNAME", params.cname), "the CNAME")
    config.ssrc = params.ssrc
    config.rtx_ssrc = params.rtx_ssrc
    config.paused = params.paused
    config.named = params.named
    if len(params.payloads) > PAYLOADS_MAX:
        raise ValueError(f"a leg has at most {PAYLOADS_MAX} payload types, not {len(params.payloads)}")
    for i, payload in enumerate(params.payloads, 1):
        config.payload_count = i
        entry = &config.payloads[i]
        entry.incoming = check_payload_type(payload.incoming)
        entry.outgoing = check_payload_type(payload.outgoing)
        entry.rtx_type = check_payload_type(payload.rtx_type)
        entry.nack = payload.nack
        entry.unwraps = payload.unwrap
    if params.playout_delay is not None:
        least, most = params.playout_delay
        if not 0 <= least <= most <= 4095:
            raise ValueError(f"a playout delay is two values of 0 to 4095, not {params.playout_delay}")
        config.has_playout_delay = 1
        config.playout_delay[0] = least >> 4
        config.playout_delay[1] = ((least & 15) << 4) | (most >> 8)
        config.playout_delay[2] = most & 255
    lay_worth(&config.worth, params.policy)
    put_extensions(kinds, config.ext_ids, params.extensions)
    return 0


cdef void* address(object block) except NULL:
    return <void*>(<uintptr_t>block & ~<uintptr_t>OF_LEG)


cdef object no_spread():
    cdef Spread none
    memset(&none, 0, sizeof(Spread))
    return none


cdef class BasePlane:
    def __cinit__(self, *args, **kwargs):
        memset(&self.engine, 0, sizeof(EngineState))
        self.blocks = {}
        self.homes = {}
        self.relays = []
        if ring_init(&self.reports, EVENT_RING) < 0:
            raise MemoryError
        self.engine.reports = &self.reports

    def __dealloc__(self):
        cdef Report* item
        while self.reports.slots != NULL:
            item = <Report*>ring_take(&self.reports)
            if item == NULL:
                break
            free(item)
        ring_close(&self.reports)
        if self.blocks is not None:
            for block in self.blocks.values():
                self.free_block(block)
        # The engine has been closed by now: it holds no packets of others.
        if self.relays is not None:
            for relay in self.relays:
                relay_release(<Relay*><uintptr_t>relay)

    cdef Doorbell* bell(self) noexcept:
        return NULL

    cdef Relay* relay_from(self, BasePlane home) except NULL:
        cdef Relay* relay = <Relay*><uintptr_t>self.homes.get(id(home), 0)
        cdef Command* command
        if relay != NULL and relay.pool == home.engine.pool.share:  # not of one that is gone and had the same id
            return relay
        relay = relay_new(home.engine.pool.share, home.bell(), self.bell())
        if relay == NULL:
            raise MemoryError
        self.homes[id(home)] = <uintptr_t>relay
        for end, far in ((home, 0), (self, 1)):
            (<BasePlane>end).relays.append(<uintptr_t>relay)
            command = (<BasePlane>end).command(COMMAND_LINK, 0, 0)
            command.relay = relay
            command.value = far
            (<BasePlane>end).submit(command)
        return relay

    cdef int submit(self, Command* command) except -1:
        raise NotImplementedError

    cdef Command* command(self, int kind, id, size_t size) except NULL:
        cdef Command* made = <Command*>calloc(1, sizeof(Command) + size)
        if made == NULL:
            raise MemoryError
        made.kind = kind
        made.id = id
        made.size = <uint32_t>size
        return made

    cdef uint64_t random_word(self) except? 0:
        cdef bytes drawn = self.entropy(8)
        cdef uint64_t word
        memcpy(&word, <const char*>drawn, 8)
        return word

    cdef int simple(self, int kind, id, value=0) except -1:
        cdef Command* command = self.command(kind, id, 0)
        command.value = value
        return self.submit(command)

    cdef int credentials(self, int kind, peer, str ufrag, str pwd) except -1:
        cdef bytes ufrag_bytes = name_bytes("username fragment", ufrag)
        cdef bytes pwd_bytes = name_bytes("password", pwd)
        cdef Command* command = self.command(kind, peer, sizeof(Credentials))
        cdef Credentials* credentials = <Credentials*>command.data
        credentials.ufrag_size = put_bytes(credentials.ufrag, NAME_MAX, ufrag_bytes, "the username fragment")
        credentials.pwd_size = put_bytes(credentials.pwd, NAME_MAX, pwd_bytes, "the password")
        command.random = self.random_word()
        if kind == COMMAND_ADD_PEER:
            command.keep = self.block(peer, sizeof(PeerStats))
        return self.submit(command)

    # ---- peers

    def add_peer(self, peer: int, ufrag: str, pwd: str) -> None:
        self.credentials(COMMAND_ADD_PEER, peer, ufrag, pwd)

    def restart_peer(self, peer: int, ufrag: str, pwd: str) -> None:
        self.credentials(COMMAND_RESTART_PEER, peer, ufrag, pwd)

    def set_remote(self, peer: int, ufrag: str, pwd: str) -> None:
        # RFC 8839 lets both have 256 characters. No browser's are so long; a peer that has such waits for its own checks.
        if 0 < len(ufrag.encode()) <= NAME_MAX and 0 < len(pwd.encode()) <= NAME_MAX:
            self.credentials(COMMAND_SET_REMOTE, peer, ufrag, pwd)

    def set_keys(self, peer: int, profile: int, rx_key: bytes, rx_salt: bytes, tx_key: bytes, tx_salt: bytes,
                 flight=()) -> None:
        if len(rx_key) != len(tx_key) or len(rx_salt) != len(tx_salt) or len(rx_key) > 32 or len(rx_salt) > 16:
            raise ValueError("both directions take keys of the same size, at most 32 bytes, with salts of at most 16")
        cdef bytes records = b"".join(len(one).to_bytes(2, "big") + one for one in flight)
        cdef Command* command = self.command(COMMAND_SET_KEYS, peer, sizeof(Keys) + len(records))
        cdef Keys* keys = <Keys*>command.data
        memcpy(command.data + sizeof(Keys), <const char*>records, len(records))
        command.value = profile
        keys.key_size = put_bytes(keys.rx_key, 32, rx_key, "the key")
        keys.salt_size = put_bytes(keys.rx_salt, 16, rx_salt, "the salt")
        put_bytes(keys.tx_key, 32, tx_key, "the key")
        put_bytes(keys.tx_salt, 16, tx_salt, "the salt")
        self.submit(command)

    def send_dtls(self, peer: int, datagram: bytes) -> None:
        cdef Command* command = self.command(COMMAND_SEND_DTLS, peer, len(datagram))
        memcpy(command.data, <const char*>datagram, len(datagram))
        self.submit(command)

    def remove_peer(self, peer: int) -> None:
        self.simple(COMMAND_REMOVE_PEER, peer)

    # ---- tracks

    def add_track(self, track: int, peer: int, params) -> None:
        cdef TrackConfig config
        cdef Command* command
        lay_track(&config, params)
        command = self.command(COMMAND_ADD_TRACK, track, sizeof(TrackConfig))
        memcpy(command.data, &config, sizeof(TrackConfig))
        command.peer = peer
        command.keep = self.block(track, sizeof(TrackStats))
        self.submit(command)

    def add_mirror(self, mirror: int, track: int, BasePlane home not None, params) -> None:
        cdef TrackConfig config
        cdef Command* command
        if home is self:
            raise ValueError("a track has no copy on its own worker")
        lay_track(&config, params)
        command = self.command(COMMAND_ADD_MIRROR, mirror, sizeof(TrackConfig))
        memcpy(command.data, &config, sizeof(TrackConfig))
        command.track = track
        command.relay = self.relay_from(home)
        command.keep = self.block(mirror, sizeof(TrackStats))
        self.submit(command)

    def update_track(self, track: int, params) -> None:
        cdef TrackConfig config
        cdef Command* command
        lay_track(&config, params)
        command = self.command(COMMAND_UPDATE_TRACK, track, sizeof(TrackConfig))
        memcpy(command.data, &config, sizeof(TrackConfig))
        self.submit(command)

    def mute_track(self, track: int, muted: bool) -> None:
        self.simple(COMMAND_MUTE_TRACK, track, bool(muted))

    def remove_track(self, track: int) -> None:
        self.simple(COMMAND_REMOVE_TRACK, track)

    def request_keyframe(self, track: int) -> None:
        self.simple(COMMAND_KEYFRAME, track)

    # ---- legs

    def add_leg(self, leg: int, track: int, peer: int, params) -> None:
        cdef LegConfig config
        cdef Command* command
        lay_leg(&config, params)
        command = self.command(COMMAND_ADD_LEG, leg, sizeof(LegConfig))
        memcpy(command.data, &config, sizeof(LegConfig))
        command.track = track
        command.peer = peer
        command.random = self.random_word()
        command.keep = self.block(leg, sizeof(LegStats), OF_LEG)
        self.submit(command)

    def update_leg(self, leg: int, params) -> None:
        cdef LegConfig config
        cdef Command* command
        lay_leg(&config, params)
        command = self.command(COMMAND_UPDATE_LEG, leg, sizeof(LegConfig))
        memcpy(command.data, &config, sizeof(LegConfig))
        self.submit(command)

    def pause_leg(self, leg: int, paused: bool) -> None:
        self.simple(COMMAND_PAUSE_LEG, leg, bool(paused))

    def remove_leg(self, leg: int) -> None:
        self.simple(COMMAND_REMOVE_LEG, leg)

    # ---- taps

    def add_tap(self, tap: int, track: int, TapRing ring not None, *, from_now: bool = True) -> None:
        if tap in self.blocks:
            raise ValueError(f"id {tap} is in use")
        ring.attach(self)
        self.blocks[tap] = ring
        cdef Command* command = self.command(COMMAND_ADD_TAP, tap, 0)
        command.track = track
        command.keep = &ring.queue
        command.value = bool(from_now)
        self.submit(command)

    def remove_tap(self, tap: int) -> None:
        self.simple(COMMAND_REMOVE_TAP, tap)

    # ---- what is heard back

    cdef void* block(self, id, size_t size, int of=0) except NULL:
        """A stats block that lives until REMOVED has been read."""
        if id in self.blocks:
            raise ValueError(f"id {id} is in use")
        cdef void* made = calloc(1, size)
        if made == NULL:
            raise MemoryError
        self.blocks[id] = <uintptr_t>made | of
        return made

    cdef int free_block(self, block) except -1:
        if isinstance(block, TapRing):
            return 0
        if <uintptr_t>block & OF_LEG:
            free((<LegStats*>address(block)).paced)
        free(address(block))
        return 0

    cdef object event(self, Report* item):
        cdef bytes data = (<char*>item.data)[:item.size]
        block = self.blocks.pop(item.id, None) if item.kind == REPORT_REMOVED else None
        if block is not None:
            self.free_block(block)
        return PlaneEvent(_KINDS[item.kind], item.id, item.value, data, item.time)

    def poll_events(self) -> list:
        cdef Report* item
        events = []
        while True:
            item = <Report*>ring_take(&self.reports)
            if item == NULL:
                return events
            try:
                events.append(self.event(item))
            finally:
                free(item)

    def counters(self) -> dict:
        counted = self.engine.counters
        return counted

    def track_stats(self, track: int) -> dict:
        block = self.blocks.get(track)
        if block is None or isinstance(block, TapRing):
            return {}
        return (<TrackStats*>address(block))[0]

    def peer_stats(self, peer: int) -> dict:
        block = self.blocks.get(peer)
        if block is None or isinstance(block, TapRing):
            return {}
        return (<PeerStats*>address(block))[0]

    def leg_stats(self, leg: int) -> dict:
        cdef const LegStats* stats
        cdef const Spread* paced
        block = self.blocks.get(leg)
        if block is None or isinstance(block, TapRing):
            return {}
        stats = <LegStats*>address(block)
        paced = <Spread*>ring_observe(<uint64_t*>&stats.paced)
        return {
            "packets": stats.packets,
            "bytes": stats.bytes,
            "retransmitted": stats.retransmitted,
            "nacked": stats.nacked,
            "plis": stats.plis,
            "fraction_lost": stats.fraction_lost,
            "rtt": stats.rtt,
            "frames": stats.frames,
            "width": stats.width,
            "height": stats.height,
            "paced": paced[0] if paced != NULL else no_spread(),
        }


def footprint() -> dict:
    """Bytes of what the data plane keeps for a peer that views and for a leg over which nothing has left yet, each
    without its place in tables; `gate` is a picture's besides, and `track` is without its history."""
    return {
        "leg": sizeof(Leg) + sizeof(LegStats),
        "gate": sizeof(LayerGate),
        "peer": sizeof(Peer) + sizeof(PeerStats) + sizeof(Sender) + 2 * sizeof(SrtpContext),
        "track": sizeof(Track) + sizeof(TrackStats),
    }
