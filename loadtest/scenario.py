"""What a load test plays: a documented TOML file, or the flags of the command line in its place.

docs/loadtest.md describes the file; a few ship in `loadtest/scenarios`.
"""

from __future__ import annotations

import difflib
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

SOURCES = ("ultrasound", "camera", "microphone", "stethoscope")
"""The streams that can be played; the position of a source is its number in the swarm. The order is that in which
`/whep` fills m-lines of one kind."""

SHIPPED = Path(__file__).parent / "scenarios"

SourceName = Literal["ultrasound", "camera", "microphone", "stethoscope"]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]


class ScenarioError(ValueError):
    """A scenario that can't be played; the message names the key and says what to do."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class SourceSpec(_Section, kw_only=True, frozen=True):
    """What a cart sends of one source. Without a codec or a rate it is that of `DEFAULT_SPECS`."""

    codec: Literal["", "H264", "VP8", "AV1", "opus"] = ""
    kbit: Annotated[float, Meta(ge=0, le=100_000)] = 0
    """a second; 0: the default of the source"""
    fps: Literal[30, 15, 10, 6] = 30
    width: Annotated[int, Meta(ge=0, le=3840)] = 0
    height: Annotated[int, Meta(ge=0, le=2160)] = 0
    keyframes: Literal["periodic", "on-request"] = "periodic"
    """about one a second, or one in ten seconds and when a viewer asks"""


DEFAULT_SPECS: Mapping[str, SourceSpec] = {
    "ultrasound": SourceSpec(codec="H264", kbit=5000, width=640, height=480),
    "camera": SourceSpec(codec="VP8", kbit=2000, width=640, height=360),
    "microphone": SourceSpec(codec="opus", kbit=32),
    "stethoscope": SourceSpec(codec="opus", kbit=128),
}
"""Rates are the targets of the budgets."""


class Line(_Section, kw_only=True, frozen=True):
    """A line between a peer and the server: delay and jitter each way, `kbit` 0 is without limit. What comes faster
    waits for `queue_ms` at most; `loss` is of each packet by itself, each way."""

    delay_ms: NotNegative = 0
    jitter_ms: NotNegative = 0
    loss: Fraction = 0
    kbit_up: NotNegative = 0
    """from the peer to the server"""
    kbit_down: NotNegative = 0
    queue_ms: Positive = 300


class Outage(_Section, kw_only=True, frozen=True):
    """Once in the measured part, the named lines carry nothing."""

    at_seconds: NotNegative
    seconds: Positive
    lines: tuple[str, ...]


class Viewers(_Section, kw_only=True, frozen=True):
    """Viewers of a room that are alike. Those who stay `stay_seconds`, on average, come back `away_seconds` later, on
    average; both times are exponential, so that joins and leaves are Poisson. 0: they stay to the end."""

    count: Annotated[int, Meta(ge=0)] = 1
    line: str = ""
    stay_seconds: NotNegative = 0
    away_seconds: Positive = 5


class Group(_Section, kw_only=True, frozen=True):
    """Consultations that are alike: `share` of all of them, each with so many `rooms`. A group that is `beside` another
    has no share: its rooms are further ones of that group's consultations."""

    name: str
    share: Annotated[float, Meta(gt=0, le=1)] = 1
    beside: str = ""
    rooms: Annotated[int, Meta(ge=1)] = 1
    cart_line: str = ""
    sources: dict[SourceName, SourceSpec]
    viewers: tuple[Viewers, ...] = ()


class Scenario(_Section, kw_only=True, frozen=True):
    """A whole load test. The command line's flags go before what is said here."""

    name: str = "flags"
    description: str = ""
    consultations: Annotated[int, Meta(ge=1)] = 1
    seconds: Annotated[float, Meta(ge=1)] = 20
    """of the measured part"""
    ramp_seconds: NotNegative = 0
    """over which the rooms open, before the measured part"""
    settle_seconds: NotNegative = 1
    """between the last join and the measured part"""
    join: Literal["ws", "whip"] = "ws"
    record: Literal["off", "on"] = "off"
    """whether the server records that is started for the run"""
    at_once: Annotated[int, Meta(ge=1)] = 8
    """joins under way at a time"""
    max_loss: Fraction = 0
    """of the packets, after repair, where no line is in the way"""
    decoded_viewers: Annotated[int, Meta(ge=0)] = 1
    """whose pictures are decoded, for the time from glass to glass"""
    seed: int = 1
    storm: bool = False
    """the transports of all viewers of the one room come up within `storm_seconds`"""
    storm_seconds: Positive = 1
    lines: dict[str, Line] = {}
    outage: Outage | None = None
    groups: tuple[Group, ...]


class Room(msgspec.Struct, frozen=True):
    name: str
    group: Group
    number: int


PROFILES: dict[str, dict[SourceName, SourceSpec]] = {
    "ultrasound": {
        "ultrasound": SourceSpec(),
        "camera": SourceSpec(),
        "microphone": SourceSpec(),
        "stethoscope": SourceSpec(),
    },
    "plain": {"camera": SourceSpec(), "microphone": SourceSpec()},
    "video": {"ultrasound": SourceSpec(kbit=2500)},
    "audio": {"microphone": SourceSpec()},
    # A packet or two a frame, so that one machine carries a thousand viewers and the server.
    "storm": {"ultrasound": SourceSpec(kbit=300, keyframes="on-request")},
}
"""What `--profile` names: sources of a cart; `video` is what servers are compared by."""


def of_profile(profile: str, viewers: int, **fields: Any) -> Scenario:
    """The scenario of a profile, each consultation with so many viewers. `fields` are of the scenario."""
    group = Group(name=profile, sources=PROFILES[profile], viewers=(Viewers(count=viewers),))
    return Scenario(groups=(group,), **fields)


def override(scenario: Scenario, fields: Mapping[str, Any], profile: str | None, viewers: int | None) -> Scenario:
    """With fields of the scenario, what every cart publishes and how many view it in place of the file's words. Raises
    `ScenarioError`."""
    groups = scenario.groups
    if profile is not None:
        groups = tuple(msgspec.structs.replace(group, sources=PROFILES[profile]) for group in groups)
    if viewers is not None:
        groups = tuple(_with_viewers(group, viewers) for group in groups)
    changed = msgspec.structs.replace(scenario, groups=groups, **fields)
    check(changed)
    return changed


def _with_viewers(group: Group, count: int) -> Group:
    """As many, in the proportions of the group."""
    listed = viewers_of(group) or [Viewers()]
    counts = Counter(listed[number % len(listed)] for number in range(count))
    return msgspec.structs.replace(
        group, viewers=tuple(msgspec.structs.replace(viewers, count=many) for viewers, many in counts.items())
    )


def load(name: str) -> Scenario:
    """A scenario from a TOML file, or one that ships, by its name. Raises `ScenarioError`."""
    path = Path(name)
    if not path.suffix and not path.exists():
        path = SHIPPED / f"{name}.toml"
        if not path.exists():
            raise ScenarioError(
                f"{name}: no such file, and no scenario of this name ships; there are {', '.join(shipped())}"
            )
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        return parse(text)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from None


def shipped() -> list[str]:
    return sorted(file.stem for file in SHIPPED.glob("*.toml"))


def parse(text: str) -> Scenario:
    """Raises `ScenarioError`."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(str(error)) from None
    _check_keys(Scenario, tree, "")
    try:
        scenario = msgspec.convert(tree, Scenario)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise ScenarioError(f"{where.strip('`.') or 'scenario'}: {message}") from None
    check(scenario)
    return scenario


def check(scenario: Scenario) -> None:
    """What no type says. Raises `ScenarioError`."""
    if not scenario.groups:
        raise ScenarioError("groups: a scenario needs a group")
    main = [group for group in scenario.groups if not group.beside]
    for group in scenario.groups:
        if group.beside and group.beside not in [other.name for other in main]:
            known = ", ".join(other.name for other in main) or "none"
            raise ScenarioError(
                f'groups.{group.name}.beside: no group with a share is named "{group.beside}"; there is {known}'
            )
    shares = sum(group.share for group in main)
    if abs(shares - 1) > 0.001:
        raise ScenarioError(f"groups: the shares add up to {shares:g}, and should to 1")
    for group in scenario.groups:
        if not group.sources:
            raise ScenarioError(f"groups.{group.name}.sources: a cart needs a source")
        for line in (group.cart_line, *(viewers.line for viewers in group.viewers)):
            _check_line(scenario, line, f"groups.{group.name}")
        for source, spec in group.sources.items():
            codec, sound = complete(source, spec).codec, source in ("microphone", "stethoscope")
            if (codec == "opus") is not sound:
                raise ScenarioError(f"groups.{group.name}.sources.{source}.codec: {codec} can't carry it")
    for line in scenario.outage.lines if scenario.outage else ():
        _check_line(scenario, line, "outage.lines")
    if scenario.outage and scenario.outage.at_seconds + scenario.outage.seconds >= scenario.seconds:
        raise ScenarioError("outage: it has to end within the measured seconds")
    _check_storm(scenario)


def _check_storm(scenario: Scenario) -> None:
    if scenario.storm and (len(scenario.groups) > 1 or scenario.consultations > 1 or scenario.groups[0].rooms > 1):
        raise ScenarioError("storm: a storm is of one room: one group, one consultation")
    if scenario.storm and any(viewers.stay_seconds for viewers in scenario.groups[0].viewers):
        raise ScenarioError("storm: the viewers of a storm stay")


def _check_line(scenario: Scenario, line: str, where: str) -> None:
    if line and line not in scenario.lines:
        known = f"there are {', '.join(scenario.lines)}" if scenario.lines else "there is no [lines] table"
        raise ScenarioError(f'{where}: no line is named "{line}"; {known}')


def complete(source: str, spec: SourceSpec) -> SourceSpec:
    """With the defaults of the source for what it leaves open."""
    default = DEFAULT_SPECS[source]
    return msgspec.structs.replace(
        spec,
        codec=spec.codec or default.codec,
        kbit=spec.kbit or default.kbit,
        width=spec.width or default.width,
        height=spec.height or default.height,
    )


def rooms_of(scenario: Scenario) -> list[Room]:
    """All rooms, as they open: each next consultation is of the group that lacks most of its share."""
    main = [group for group in scenario.groups if not group.beside]
    counts = [0] * len(main)
    rooms: list[Room] = []
    for number in range(scenario.consultations):
        owed = [group.share * (number + 1) - count for group, count in zip(main, counts, strict=True)]
        chosen = owed.index(max(owed))
        counts[chosen] += 1
        for group in (main[chosen], *(other for other in scenario.groups if other.beside == main[chosen].name)):
            rooms += [Room(f"load-{len(rooms) + more}", group, len(rooms) + more) for more in range(group.rooms)]
    return rooms


def viewers_of(group: Group) -> list[Viewers]:
    """The viewers of a room, one by one."""
    return [viewers for viewers in group.viewers for _ in range(viewers.count)]


def _check_keys(kind: Any, tree: Any, path: str) -> None:
    """Raise `ScenarioError` for the first key that is none, with the nearest one that there is."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(tree, dict):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
        for key, value in tree.items():
            if key not in fields:
                near = difflib.get_close_matches(key, list(fields), n=1)
                hint = f'did you mean "{path}{near[0]}"?' if near else f"known here: {', '.join(fields)}"
                raise ScenarioError(f'unknown key "{path}{key}"; {hint}')
            _check_keys(fields[key], value, f"{path}{key}.")
        return
    for inner in get_args(kind):
        if get_origin(kind) is dict and inner is get_args(kind)[1] and isinstance(tree, dict):
            for key, value in tree.items():
                _check_keys(inner, value, f"{path}{key}.")
        elif get_origin(kind) is tuple and inner is not Ellipsis and isinstance(tree, list):
            for number, value in enumerate(tree):
                name = value.get("name", number) if isinstance(value, dict) else number
                _check_keys(inner, value, f"{path}{name}.")
        elif get_origin(kind) not in (dict, tuple, Literal):
            _check_keys(inner, tree, path)  # one of a union
