"""The settings of a server: one type per section, with every default and what each key means."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from mediaserver.budgets import DEFAULT_BUDGETS, ROBOTIC_ULTRASOUND, Skew, SourceBudget
from mediaserver.consent import Consents, ConsentTerms, Whose, Withdrawal
from mediaserver.recording.retention import Policy, RetentionClass, RetentionRule
from mediaserver.sfu.session.model import Source


class Endpoint(NamedTuple):
    """Where to listen. An empty host means every address of the machine, IPv4 and IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """`ADDR:PORT`, `[v6]:PORT`, `:PORT` or `PORT`. Raises `ValueError` with a sentence."""
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        host = ""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'"{text}" is not ADDR:PORT; write an IPv6 address in brackets, as in [::1]:8080')
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'"{text}" is not ADDR:PORT; the port is a number from 0 to 65535')
    return Endpoint("" if host in ("*", "0.0.0.0", "::") else host, int(port))


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


def _doc(text: str, **limits: Any) -> Meta:
    return Meta(description=text, **limits)


class HttpSettings(_Section, kw_only=True, frozen=True):
    """Pages, signalling, WHIP and WHEP, the archive and the metrics: one port for all."""

    address: Annotated[str, _doc('ADDR:PORT. ":8080" listens on every address, port 0 takes a free one.')] = (
        "127.0.0.1:8080"
    )
    tls: Annotated[
        Literal["off", "self-signed"],
        _doc("self-signed makes a certificate for a trial in a local network: browsers give cameras to HTTPS only."),
    ] = "off"
    certificate: Annotated[str, _doc("PEM file with the certificate chain; with `key` it switches HTTPS on.")] = ""
    key: Annotated[str, _doc("PEM file with the certificate's private key.")] = ""
    cors_origins: Annotated[
        tuple[str, ...], _doc('Origins whose pages may use WHIP and WHEP; "*" lets all (a token is needed anyway).')
    ] = ("*",)
    metrics: Annotated[bool, _doc("Serve /metrics. It holds no names and no token is asked for.")] = True

    def __post_init__(self) -> None:
        parse_endpoint(self.address)
        if bool(self.certificate) != bool(self.key):
            raise ValueError("`certificate` and `key` go together")
        if self.certificate and self.tls != "off":
            raise ValueError('`tls = "self-signed"` and a `certificate` exclude each other')

    @property
    def endpoint(self) -> Endpoint:
        return parse_endpoint(self.address)


class MediaSettings(_Section, kw_only=True, frozen=True):
    """The data plane: worker threads, each with one UDP port of its own."""

    udp: Annotated[str, _doc("ADDR:PORT of the first worker; the next ones take the next ports. Port 0 takes any.")] = (
        ":7000"
    )
    tcp: Annotated[
        str,
        _doc(
            "ADDR:PORT where the first worker takes TCP connections, for networks that let no UDP through; the next "
            'ones take the next ports. "same": as `udp`; "off": nowhere.'
        ),
    ] = "same"
    tcp_connections: Annotated[int, _doc("TCP connections of one worker at once.", ge=1, le=65535)] = 4096
    workers: Annotated[int, _doc("Worker threads; 0 means one for each core.", ge=0, le=256)] = 0
    announce: Annotated[
        tuple[str, ...],
        _doc("Addresses to tell the clients instead of the machine's own, for a server behind a 1:1 NAT."),
    ] = ()
    connect_seconds: Annotated[
        float, _doc("A participant that has no media connection by then is removed.", gt=0, le=600)
    ] = 30.0
    consent_seconds: Annotated[
        float, _doc("A participant that answers no ICE check for so long is removed (RFC 7675 says 30).", gt=0, le=600)
    ] = 30.0
    adapt: Annotated[
        bool,
        _doc(
            "Estimate each viewer's line, pace what leaves, and leave out by rank what the line does not carry "
            "(docs/priority.md). Off, every viewer is sent everything."
        ),
    ] = True
    srtp_library: Annotated[
        Literal["auto", "openssl"],
        _doc(
            "Whose AES-GCM protects media: auto takes Intel's ipsec-mb where it was there for the build and the "
            "processor has the instructions, else OpenSSL. /metrics tells which."
        ),
    ] = "auto"
    memory_mb: Annotated[int, _doc("What the packets held by one worker may take, in MiB.", ge=16, le=1 << 24)] = 1024

    def __post_init__(self) -> None:
        endpoint = parse_endpoint(self.udp)
        tcp = self.tcp_endpoint
        hosts = (("udp", endpoint.host), ("tcp", tcp.host if tcp is not None else ""))
        for key, address in (*hosts, *(("announce", address) for address in self.announce)):
            if address or key == "announce":
                try:
                    ipaddress.ip_address(address)
                except ValueError:
                    raise ValueError(f'{key}: "{address}" is not an IPv4 or IPv6 address') from None
        for port in (endpoint.port, tcp.port if tcp is not None else 0):
            if port and port + max(self.workers, 1) - 1 > 65535:
                raise ValueError(f"{self.workers} workers from port {port} go past port 65535")

    @property
    def endpoint(self) -> Endpoint:
        return parse_endpoint(self.udp)

    @property
    def tcp_endpoint(self) -> Endpoint | None:
        """None: no TCP."""
        if self.tcp == "off":
            return None
        return self.endpoint if self.tcp == "same" else parse_endpoint(self.tcp)


class AuthSettings(_Section, kw_only=True, frozen=True):
    """Who may come in: JSON Web Tokens with the claims room, role, rights, name and exp."""

    secret: Annotated[str, _doc("HS256 secret, 32 bytes or more. Empty and no keys: a random one for each run.")] = ""
    public_keys: Annotated[
        tuple[str, ...], _doc("PEM files with RSA (RS256) or P-256 (ES256) public keys of those who make tokens.")
    ] = ()
    leeway_seconds: Annotated[float, _doc("How far the token makers' clocks may be off.", ge=0, le=300)] = 10.0
    audience: Annotated[str, _doc("The `aud` that a token must have; empty: not looked at.")] = ""
    issuer: Annotated[str, _doc("The `iss` that a token must have; empty: not looked at.")] = ""


class IceServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """STUN or TURN: `urls` alone, or with a fixed `username` and `credential`, or with the `secret` that the TURN
    server has too (coturn's static-auth-secret), from which each client gets credentials for `ttl_seconds`."""

    urls: list[str]
    username: str = ""
    credential: str = ""
    secret: str = ""
    ttl_seconds: Annotated[float, Meta(ge=60, le=7 * 86400)] = 43200.0

    def __post_init__(self) -> None:
        if self.secret and (self.username or self.credential):
            raise ValueError("an ICE server has a `secret` or a `username` and `credential`, not both")
        for url in self.urls:
            if not url.startswith(("stun:", "stuns:", "turn:", "turns:")):
                raise ValueError(f'"{url}" is not stun:HOST, turn:HOST, turns:HOST (RFC 7064, RFC 7065)')


class SignallingSettings(_Section, kw_only=True, frozen=True):
    """The WebSocket at /ws."""

    resume_seconds: Annotated[
        float, _doc("A session whose socket dropped lives on for so long, media and all.", ge=0, le=600)
    ] = 30.0
    ping_seconds: Annotated[float, _doc("Time between two pings to a quiet client.", gt=0, le=300)] = 10.0
    join_seconds: Annotated[float, _doc("A connection that has not joined by then is closed.", gt=0, le=300)] = 10.0
    message_bytes: Annotated[int, _doc("The longest message from a client.", ge=4096, le=16 << 20)] = 256 * 1024
    messages_per_second: Annotated[
        float, _doc("What a client may send, in the long run; each 4 KiB of a message count as one more.", gt=0)
    ] = 50.0
    burst: Annotated[int, _doc("What a client may send at once.", ge=1)] = 200
    queue_messages: Annotated[int, _doc("Messages that wait for a slow client before it is dropped.", ge=16)] = 512
    connections: Annotated[int, _doc("WebSockets at once.", ge=1)] = 20_000
    ice_servers: Annotated[
        tuple[IceServerSettings, ...],
        _doc(
            'STUN and TURN servers for the clients: { urls = ["turn:..."], secret = "...", ttl_seconds = 43200 }, or '
            "with `username` and `credential` instead of the secret."
        ),
    ] = ()


class RoomSettings(_Section, kw_only=True, frozen=True):
    """Limits of rooms."""

    max_rooms: Annotated[int, _doc("Rooms at once.", ge=1)] = 5000
    max_participants: Annotated[int, _doc("Participants of one room, viewers by WHEP included.", ge=1)] = 200
    max_tracks: Annotated[int, _doc("Tracks published in one room.", ge=1)] = 200


class LimitSettings(_Section, kw_only=True, frozen=True):
    """When nobody more is let in, so that those inside are served well (docs/scale.md). /readyz says so too."""

    busy_percent: Annotated[
        float, _doc("No room is opened while every worker is busy for so much of the time.", gt=0, le=100)
    ] = 80.0
    reserve_percent: Annotated[
        float, _doc("So much more of the time is kept for those who join a room that is open.", ge=0, le=50)
    ] = 5.0
    spread_percent: Annotated[
        float,
        _doc(
            "While a room's worker is busy for so much of the time, those who come to watch are served by others.",
            ge=0,
            le=100,
        ),
    ] = 60.0
    spread_participants: Annotated[
        int,
        _doc(
            "So many of a room are served by one worker; more go to others that have fewer of it, whatever they do. A "
            "picture leaves to one viewer after the other, so the last of very many gets it late.",
            ge=1,
        ),
    ] = 200
    memory_percent: Annotated[
        float, _doc("Of the memory that the process may have, and of `media.memory_mb`.", gt=0, le=100)
    ] = 90.0
    max_participants: Annotated[int, _doc("Participants at once, in all rooms.", ge=1)] = 20_000
    max_legs: Annotated[int, _doc("Tracks sent at once, each viewer's counted by itself.", ge=1)] = 200_000
    calm_seconds: Annotated[
        float, _doc("How long it must be under a limit, by a margin, before it lets anybody in again.", ge=0, le=600)
    ] = 5.0
    retry_seconds: Annotated[float, _doc("When those that were refused are told to try again.", ge=1, le=3600)] = 10.0


class RecordingSettings(_Section, kw_only=True, frozen=True):
    """What is kept."""

    policy: Annotated[
        Literal["off", "on", "request"],
        _doc('"on": every room from its first track; "request": when a participant with the right asks; "off": never.'),
    ] = "request"
    whose: Annotated[
        Whose,
        _doc(
            "Whose tracks go in, where a room's tokens do not say (docs/consent.md). required: those of everybody, "
            "and who refuses may not publish; consent: of those who have agreed, from then on; forbidden: of nobody."
        ),
    ] = "required"
    withdrawal: Annotated[
        Withdrawal,
        _doc(
            "What becomes of what was recorded until a participant withdraws its consent: it is kept, or erased when "
            "the recording is closed."
        ),
    ] = "keep"
    consent_version: Annotated[
        str, _doc("The name of the two texts below, kept with each consent: change it with them.", max_length=64)
    ] = "1"
    consent_text: Annotated[str, _doc("What participants are asked.", min_length=1, max_length=2000)] = (
        "May what you send be recorded? Your pictures and your sound are kept in the archive of this service. "
        "You can withdraw your consent at any time during the consultation."
    )
    notice_text: Annotated[
        str, _doc("What participants are told where everybody is recorded.", min_length=1, max_length=2000)
    ] = (
        "This consultation may be recorded: pictures and sound of everybody who sends are kept in the archive of this "
        "service. Who does not want that can watch and listen, or leave."
    )
    ring_packets: Annotated[int, _doc("Packets of one track that may wait for the disk.", ge=256, le=1 << 20)] = 8192
    settle_seconds: Annotated[
        float, _doc("A recording whose room has no track any more ends after so long.", ge=0, le=3600)
    ] = 30.0
    segment_seconds: Annotated[
        float,
        _doc(
            "With S3 a file that is so long ends at the next keyframe, and another goes on: only then it can go up. "
            "0 is never.",
            ge=0,
            le=86_400,
        ),
    ] = 300.0

    def consents(self) -> Consents:
        """What a room begins with. Where nothing is ever recorded, no token changes that."""
        never = self.policy == "off"
        return Consents("forbidden" if never else self.whose, fixed=never)

    @property
    def terms(self) -> ConsentTerms:
        return ConsentTerms(
            version=self.consent_version,
            text=self.consent_text,
            notice=self.notice_text,
            withdrawal=self.withdrawal,
        )


class EvidenceSettings(_Section, kw_only=True, frozen=True):
    """How what is kept is made provable (docs/evidence.md): an Ed25519 key signs recordings and the audit trail."""

    key: Annotated[
        str,
        _doc(
            "The private key that signs, in PEM or its 32 bytes in base64; best given in the environment. Empty and no "
            "`key_file`: one is made in the data folder on the first start."
        ),
    ] = ""
    key_file: Annotated[str, _doc("A PEM file with the private key instead.")] = ""
    trusted_keys: Annotated[
        tuple[str, ...],
        _doc("PEM files with further public keys whose signatures count: those of earlier keys and of other servers."),
    ] = ()
    timestamp_url: Annotated[
        str, _doc("http(s) URL of a time-stamping authority (RFC 3161) that stamps each recording; empty: none.")
    ] = ""
    timestamp_certificates: Annotated[
        tuple[str, ...], _doc("PEM files with the authority's root certificates, by which its stamps are checked.")
    ] = ()
    timestamp_retry_seconds: Annotated[
        float, _doc("After how long a stamp that could not be had is asked for again; it doubles up to an hour.", ge=1)
    ] = 60.0
    audit_part_mb: Annotated[
        float, _doc("The audit trail goes on in another file when it is so large, in MiB.", ge=0.01)
    ] = 64.0
    audit_seal_lines: Annotated[int, _doc("The audit trail is signed after so many lines at the latest,", ge=1)] = 1000
    audit_seal_seconds: Annotated[float, _doc("and so long after a line that is not.", ge=1, le=86400)] = 60.0

    def __post_init__(self) -> None:
        if self.key and self.key_file:
            raise ValueError("`key` and `key_file` exclude each other")
        if self.timestamp_url and not self.timestamp_url.startswith(("http://", "https://")):
            raise ValueError(f'timestamp_url: "{self.timestamp_url}" is not http://HOST or https://HOST')
        if self.timestamp_url and not self.timestamp_certificates:
            raise ValueError("`timestamp_url` needs `timestamp_certificates`: nobody else's stamps could be checked")


class DataSettings(_Section, kw_only=True, frozen=True):
    """Where things are kept."""

    dir: Annotated[
        str,
        _doc(
            "The folder of the archive, its catalog, the audit trail, session reports and a self-signed key.",
            min_length=1,
        ),
    ] = "data"
    reports: Annotated[int, _doc("Session reports that are kept there, the newest; 0 keeps none.", ge=0)] = 1000


class CatalogSettings(_Section, kw_only=True, frozen=True):
    """The database by which recordings are found. It can be made anew from the archive at any time."""

    url: Annotated[
        str,
        _doc(
            "Empty: SQLite in the archive's folder. PostgreSQL, with the extra `postgres`: "
            "postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE, a database for each archive."
        ),
    ] = ""


class RetentionSettings(_Section, kw_only=True, frozen=True):
    """How long recordings are kept (docs/retention.md). Without classes nothing is ever due.

    [[retention.classes]] has `name`, `days` from the consultation's end and `at_end`: dispose, or review. The first of
    [[retention.rules]] that fits gives a recording its `class`: `room` is a pattern (teaching-*), `source` a source.
    """

    classes: Annotated[
        tuple[RetentionClass, ...], _doc('The classes: { name = "standard", days = 3650, at_end = "dispose" }.')
    ] = ()
    rules: Annotated[
        tuple[RetentionRule, ...], _doc('Which recording is in which: { class = "teaching", room = "teaching-*" }.')
    ] = ()
    default: Annotated[
        str, _doc("The class where no rule fits. Empty: such recordings are kept until somebody says otherwise.")
    ] = ""
    dispose_every_hours: Annotated[
        float,
        _doc(
            "How often the server disposes of what is due. 0: never by itself, but when it is told to.", ge=0, le=8760
        ),
    ] = 0.0

    def __post_init__(self) -> None:
        self.policy.check()

    @property
    def policy(self) -> Policy:
        return Policy(self.classes, self.rules, self.default)


class BreakGlassSettings(_Section, kw_only=True, frozen=True):
    """Opening a recording that the token does not reach, in an emergency (docs/retention.md)."""

    roles: Annotated[
        tuple[Literal["doctor", "archivist", "operator"], ...],
        _doc("Whose tokens may do so: doctor, archivist, operator. Empty: nobody's."),
    ] = ()
    minutes: Annotated[float, _doc("How long it is open then, to that token alone.", gt=0, le=1440)] = 30.0
    least_reason: Annotated[int, _doc("The least number of characters of the reason.", ge=1, le=200)] = 20
    webhook: Annotated[
        str, _doc("http(s) URL that takes an alert by POST as JSON; until it does, again. Empty: none.")
    ] = ""
    restricted: Annotated[
        tuple[str, ...],
        _doc("Patterns of rooms whose recordings tokens for all rooms don't open either: psychiatry-*."),
    ] = ()

    def __post_init__(self) -> None:
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ValueError(f'webhook: "{self.webhook}" is not http://HOST or https://HOST')


class StorageSettings(_Section, kw_only=True, frozen=True):
    """Where recordings end up. Each is written to the local folder first; with S3 it goes up while it is made."""

    kind: Annotated[Literal["local", "s3"], _doc("s3: also into a bucket; `pip install mediaserver[s3]`.")] = "local"
    bucket: Annotated[str, _doc("The bucket; it must exist.")] = ""
    prefix: Annotated[str, _doc("What the names of all objects begin with; one server, one prefix.")] = ""
    endpoint: Annotated[str, _doc("https://... of the S3 server. Empty: Amazon's.")] = ""
    region: Annotated[str, _doc("The bucket's region.")] = "us-east-1"
    access_key: Annotated[
        str, _doc("Empty: the usual sources of AWS, AWS_ACCESS_KEY_ID and the machine's role among them.")
    ] = ""
    secret_key: Annotated[str, _doc("The secret to `access_key`; better as MEDIASERVER_STORAGE_SECRET_KEY.")] = ""
    uploads: Annotated[int, _doc("Files that go up at once.", ge=1, le=64)] = 4
    local_days: Annotated[
        float, _doc("Media that are safe in the bucket stay here so long after the recording's end.", ge=0, le=36_500)
    ] = 7.0
    cache_mb: Annotated[int, _doc("What may be fetched back for exports and kept, in MB.", ge=100)] = 10_000
    retention_days: Annotated[
        int, _doc("Object lock: nobody may delete or change an object for so long. 0: the bucket's default.", ge=0)
    ] = 0
    retention_mode: Annotated[
        Literal["governance", "compliance"], _doc("compliance: not even the bucket's owner; it can't be taken back.")
    ] = "governance"
    legal_hold: Annotated[bool, _doc("Object lock: also a legal hold, until somebody takes it off.")] = False

    def __post_init__(self) -> None:
        if self.kind == "s3" and not self.bucket:
            raise ValueError('storage.kind is "s3", which needs a `bucket`')
        if bool(self.access_key) != bool(self.secret_key):
            raise ValueError("storage.access_key and storage.secret_key go together")


class EncryptionSettings(_Section, kw_only=True, frozen=True):
    """Encryption of recordings at rest. Each has a key of its own, which a master key wraps.

    To change the master key add another, name it in `master`, run `mediaserver archive rewrap`, take the old one out.
    """

    master: Annotated[
        str, _doc("The id of the master key for new recordings. Empty: they are not encrypted; older ones still open.")
    ] = ""
    keys: Annotated[
        tuple[str, ...],
        _doc("Master keys, each ID:KEY, the key being 32 random bytes in Base64 (openssl rand -base64 32)."),
    ] = ()
    keys_file: Annotated[
        str, _doc("A file with further master keys, one ID:KEY a line; only the server may read it.")
    ] = ""


class LogSettings(_Section, kw_only=True, frozen=True):
    """What is told on the standard error stream."""

    level: Annotated[Literal["debug", "info", "warning", "error"], _doc("The least that is told.")] = "info"
    format: Annotated[Literal["console", "json"], _doc("For people or for machines.")] = "console"


class PolicySettings(_Section, kw_only=True, frozen=True):
    """What a stream must hold; the metrics, the load test and the viewers judge by it.

    A table [policy.sources.SOURCE] changes single figures of that source, the others stay.
    """

    ultrasound: Annotated[
        Literal["guided", "robotic"], _doc("Whose figures ultrasound starts from: a hand's or a robot's.")
    ] = "guided"
    file: Annotated[
        str, _doc("A TOML file with the keys of this section, beside this file; what is set here goes before it.")
    ] = ""
    sources: dict[Source, SourceBudget] = {}
    skew: Annotated[Skew, _doc("How far two tracks of a participant may be apart.")] = Skew()

    def __post_init__(self) -> None:
        base = {Source(name): budget for name, budget in DEFAULT_BUDGETS.items()}
        if self.ultrasound == "robotic":
            base[Source.ULTRASOUND] = ROBOTIC_ULTRASOUND
        msgspec.structs.force_setattr(self, "sources", base | self.sources)


class Config(_Section, kw_only=True, frozen=True):
    """All settings of a server. Every section and every key has a default."""

    http: HttpSettings = HttpSettings()
    media: MediaSettings = MediaSettings()
    auth: AuthSettings = AuthSettings()
    signalling: SignallingSettings = SignallingSettings()
    rooms: RoomSettings = RoomSettings()
    limits: LimitSettings = LimitSettings()
    recording: RecordingSettings = RecordingSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    data: DataSettings = DataSettings()
    catalog: CatalogSettings = CatalogSettings()
    retention: RetentionSettings = RetentionSettings()
    breakglass: BreakGlassSettings = BreakGlassSettings()
    storage: StorageSettings = StorageSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    log: LogSettings = LogSettings()
    policy: PolicySettings = PolicySettings()

    def __post_init__(self) -> None:
        locks = self.storage.kind == "s3" and (self.storage.retention_days or self.storage.legal_hold)
        if self.recording.withdrawal == "erase" and locks:
            raise ValueError(
                'recording.withdrawal is "erase", but storage.retention_days or storage.legal_hold locks the media in '
                "the bucket: nobody could erase them"
            )
