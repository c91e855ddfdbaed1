"""The settings of a server, and the only reader of files and of the environment for them.

A value comes from, in rising order: the defaults below, one TOML file, the environment variable
`MEDIASERVER_SECTION_KEY`, a flag of the command line. An unknown key is an error that names it.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Meta

from mediaserver.budgets import DEFAULT_BUDGETS, ROBOTIC_ULTRASOUND, Skew, SourceBudget
from mediaserver.protocol import IceServer
from mediaserver.sfu.session.model import Source

ENV_PREFIX = "MEDIASERVER_"
# Variables with our prefix that are not settings: the build's switches, the clients' own, and what Kubernetes sets
# in every container beside a service called "mediaserver".
FOREIGN_ENV = ("ONLY", "SANITIZE", "TRACE", "URL", "TOKEN", "SERVICE_HOST", "SERVICE_PORT", "PORT")

Tree = dict[str, Any]
Port = Annotated[int, Meta(ge=0, le=65535)]


class ConfigError(ValueError):
    """A setting that can't be used; the message names it and where it came from."""


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
    memory_mb: Annotated[int, _doc("What the packets held by one worker may take, in MiB.", ge=16)] = 1024

    def __post_init__(self) -> None:
        endpoint = parse_endpoint(self.udp)
        for address in (endpoint.host, *self.announce):
            if address:
                try:
                    ipaddress.ip_address(address)
                except ValueError:
                    raise ValueError(f'"{address}" is not an IPv4 or IPv6 address') from None
        if endpoint.port and endpoint.port + max(self.workers, 1) - 1 > 65535:
            raise ValueError(f"{self.workers} workers from port {endpoint.port} go past port 65535")

    @property
    def endpoint(self) -> Endpoint:
        return parse_endpoint(self.udp)


class AuthSettings(_Section, kw_only=True, frozen=True):
    """Who may come in: JSON Web Tokens with the claims room, role, rights, name and exp."""

    secret: Annotated[str, _doc("HS256 secret, 32 bytes or more. Empty and no keys: a random one for each run.")] = ""
    public_keys: Annotated[
        tuple[str, ...], _doc("PEM files with RSA (RS256) or P-256 (ES256) public keys of those who make tokens.")
    ] = ()
    leeway_seconds: Annotated[float, _doc("How far the token makers' clocks may be off.", ge=0, le=300)] = 10.0
    audience: Annotated[str, _doc("The `aud` that a token must have; empty: not looked at.")] = ""
    issuer: Annotated[str, _doc("The `iss` that a token must have; empty: not looked at.")] = ""


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
        tuple[IceServer, ...],
        _doc('STUN and TURN servers for the clients: { urls = ["turn:..."], username = "...", credential = "..." }.'),
    ] = ()


class RoomSettings(_Section, kw_only=True, frozen=True):
    """Limits of rooms."""

    max_rooms: Annotated[int, _doc("Rooms at once.", ge=1)] = 5000
    max_participants: Annotated[int, _doc("Participants of one room, viewers by WHEP included.", ge=1)] = 200
    max_tracks: Annotated[int, _doc("Tracks published in one room.", ge=1)] = 200


class RecordingSettings(_Section, kw_only=True, frozen=True):
    """What is kept."""

    policy: Annotated[
        Literal["off", "on", "request"],
        _doc('"on": every room from its first track; "request": when a participant with the right asks; "off": never.'),
    ] = "request"
    ring_packets: Annotated[int, _doc("Packets of one track that may wait for the disk.", ge=256, le=1 << 20)] = 8192
    settle_seconds: Annotated[
        float, _doc("A recording whose room has no track any more ends after so long.", ge=0, le=3600)
    ] = 30.0


class DataSettings(_Section, kw_only=True, frozen=True):
    """Where things are kept."""

    dir: Annotated[str, _doc("The folder of the archive, its catalog, the audit trail and a self-signed key.")] = "data"


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
    recording: RecordingSettings = RecordingSettings()
    data: DataSettings = DataSettings()
    log: LogSettings = LogSettings()
    policy: PolicySettings = PolicySettings()


def load(
    path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """The settings from a TOML file, the environment (the process's own by default) and flags.

    `flags` are section -> key -> value; a value of None means that the flag was not given. Raises `ConfigError`.
    """
    tree: Tree = {}
    if path is not None:
        tree = _read_file(Path(path))
        _check_keys(Config, tree, "", f"{path}: ")
    for name, section, key, text in _environment(os.environ if environ is None else environ):
        _set(tree, section, key, _from_text(section, key, text, name))
    for section, values in (flags or {}).items():
        for key, value in values.items():
            if value is not None:
                _set(tree, section, key, value)
    _check_keys(Config, tree, "", "")
    _complete_policy(tree)
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(error)) from None


def example() -> str:
    """The documented file with every key at its default."""
    lines = ["# All settings of mediaserver with their defaults. Each can also be given in the environment, as", ""]
    lines[1:] = ["# MEDIASERVER_SECTION_KEY (MEDIASERVER_HTTP_ADDRESS=:8080; lists with commas). Flags go above both."]
    for section in msgspec.structs.fields(Config):
        settings = section.type
        lines += ["", *(f"# {line}".rstrip() for line in _docstring(settings)), f"[{section.name}]"]
        value = section.default
        tables: list[str] = []
        for field in msgspec.structs.fields(settings):
            current = getattr(value, field.name)
            kind, text = _unwrap(field.type)
            if isinstance(current, dict):
                for name, budget in current.items():
                    tables += ["", f"[{section.name}.{field.name}.{name}]", *_assignments(budget)]
            elif isinstance(current, msgspec.Struct):
                tables += ["", f"# {text}", f"[{section.name}.{field.name}]", *_assignments(current)]
            else:
                choices = f" One of: {', '.join(get_args(kind))}." if get_origin(kind) is Literal else ""
                lines += [f"# {text}{choices}", f"{field.name} = {_toml(current)}"]
        lines += tables
    return "\n".join(lines) + "\n"


def read_text(path: str | Path) -> str:
    """A file that a setting names. Raises `ConfigError`."""
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _read_file(path: Path) -> Tree:
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None


def _unwrap(kind: Any) -> tuple[Any, str]:
    """A field's type without its annotations, and its description."""
    if get_origin(kind) is not Annotated:
        return kind, ""
    inner, *notes = get_args(kind)
    return inner, next((note.description for note in notes if isinstance(note, Meta) and note.description), "")


def _docstring(settings: type) -> list[str]:
    return [line.strip() for line in (settings.__doc__ or "").strip().splitlines()]


def _fields(settings: type) -> dict[str, Any]:
    return {field.name: _unwrap(field.type)[0] for field in msgspec.structs.fields(settings)}


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _check_keys(settings: type, tree: Mapping[str, Any], path: str, origin: str) -> None:
    """Raise `ConfigError` for the first key that no setting has, with the nearest one that there is."""
    fields = _fields(settings)
    for key, value in tree.items():
        if key not in fields:
            raise ConfigError(f"{origin}{_unknown(path + key, key, fields, path)}")
        kind = fields[key]
        if _is_struct(kind) and isinstance(value, Mapping):
            _check_keys(kind, value, f"{path}{key}.", origin)
        elif get_origin(kind) is dict and isinstance(value, Mapping):
            names = [str(member) for member in get_args(kind)[0]]
            for name, inner in value.items():
                if name not in names:
                    raise ConfigError(f"{origin}{_unknown(f'{path}{key}.{name}', name, names, f'{path}{key}.')}")
                if isinstance(inner, Mapping):
                    _check_keys(get_args(kind)[1], inner, f"{path}{key}.{name}.", origin)


def _unknown(full: str, key: str, known: Any, prefix: str) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    hint = f'; did you mean "{prefix}{near[0]}"?' if near else f"; known here: {', '.join(sorted(known))}"
    return f'unknown key "{full}"{hint}'


def _environment(environ: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """(variable, section, key, text) of each of our variables. Raises `ConfigError` for one that is no setting."""
    sections = _fields(Config)
    found = []
    for name, text in sorted(environ.items()):
        rest = name.removeprefix(ENV_PREFIX)
        if rest == name or rest in FOREIGN_ENV or rest.startswith(("PORT_", "SERVICE_")):
            continue
        section, _, key = rest.lower().partition("_")
        if section not in sections:
            raise ConfigError(f"environment variable {name}: {_unknown(section, section, sections, '')}")
        keys = _fields(sections[section])
        if key not in keys:
            raise ConfigError(f"environment variable {name}: {_unknown(f'{section}.{key}', key, keys, f'{section}.')}")
        found.append((name, section, key, text))
    return found


def _from_text(section: str, key: str, text: str, name: str) -> Any:
    field = next(f for f in msgspec.structs.fields(_fields(Config)[section]) if f.name == key)
    kind = _unwrap(field.type)[0]
    if _is_struct(kind) or get_origin(kind) is dict:
        raise ConfigError(f"environment variable {name}: {section}.{key} is a table; set it in the file")
    value: Any = [part.strip() for part in text.split(",") if part.strip()] if get_origin(kind) is tuple else text
    try:
        return msgspec.to_builtins(msgspec.convert(value, field.type, strict=False))
    except msgspec.ValidationError as error:
        raise ConfigError(f"environment variable {name}: {_explain(error)}") from None


def _set(tree: Tree, section: str, key: str, value: Any) -> None:
    table = tree.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f'"{section}" is a section: write [{section}] and its keys below')
    table[key] = list(value) if isinstance(value, tuple) else value


def _complete_policy(tree: Tree) -> None:
    """Fill the figures that a [policy.sources.X] table leaves out from that source's defaults."""
    policy = tree.get("policy")
    if not isinstance(policy, dict) or not isinstance(policy.get("sources"), dict):
        return
    defaults = dict(DEFAULT_BUDGETS)
    if policy.get("ultrasound") == "robotic":
        defaults["ultrasound"] = ROBOTIC_ULTRASOUND
    for name, changes in policy["sources"].items():
        if isinstance(changes, dict):
            policy["sources"][name] = _merged(msgspec.to_builtins(defaults[name]), changes)


def _merged(base: Tree, changes: Tree) -> Tree:
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = _merged(base[key], value) if both else value
    return result


def _explain(error: msgspec.ValidationError) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.media.workers`" with the key first."""
    message, _, where = str(error).partition(" - at `$")
    where = where.rstrip("`").removeprefix(".")
    return f"{where}: {message}" if where else message


def _assignments(value: msgspec.Struct) -> list[str]:
    return [f"{field} = {_toml(getattr(value, field))}" for field in value.__struct_fields__]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, msgspec.Struct):
        inner = (f"{field} = {_toml(getattr(value, field))}" for field in value.__struct_fields__)
        return f"{{ {', '.join(inner)} }}"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)
