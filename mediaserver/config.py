"""The only reader of files and of the environment.

A setting comes from, in rising order: its default in `mediaserver.settings`, one TOML file, the environment variable
`MEDIASERVER_SECTION_KEY`, a flag of the command line. An unknown key is an error that names it.
"""

from __future__ import annotations

import copy
import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from mediaserver.budgets import DEFAULT_BUDGETS, ROBOTIC_ULTRASOUND, SourceBudget
from mediaserver.settings import Config

ENV_PREFIX = "MEDIASERVER_"
# Variables with our prefix that are not settings: the build's switches, the clients' own, and what Kubernetes sets
# in every container beside a service called "mediaserver".
FOREIGN_ENV = ("IPSEC_MB", "ONLY", "SANITIZE", "TRACE", "URL", "TOKEN", "SERVICE_HOST", "SERVICE_PORT", "PORT")

Tree = dict[str, Any]


class ConfigError(ValueError):
    """A setting that can't be used; the message names it and where it came from."""


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
    _include_policy(tree, Path(path).parent if path is not None else Path())
    _complete_policy(tree, "")
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


def _include_policy(tree: Tree, base: Path) -> None:
    """Lay the file that `policy.file` names, relative to `base`, under the section [policy]."""
    policy = tree.get("policy")
    name = policy.get("file") if isinstance(policy, dict) else None
    if policy is None or not name or not isinstance(name, str):
        return
    file = base / name
    included = _read_file(file)
    if "file" in included:
        raise ConfigError(f"{file}: a policy file can't name another one")
    # Judged by itself first, so that a mistake in it is told with its name.
    alone = {"policy": copy.deepcopy(included)}
    _check_keys(Config, alone, "", f"{file}: ")
    _complete_policy(alone, f"{file}: ")
    try:
        msgspec.convert(alone, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {_explain(error)}") from None
    tree["policy"] = _merged(included, policy)


def _complete_policy(tree: Tree, origin: str) -> None:
    """Fill the figures that a [policy.sources.X] table leaves out from that source's defaults. Raises `ConfigError`."""
    policy = tree.get("policy")
    if not isinstance(policy, dict) or not isinstance(policy.get("sources"), dict):
        return
    defaults = dict(DEFAULT_BUDGETS)
    if policy.get("ultrasound") == "robotic":
        defaults["ultrasound"] = ROBOTIC_ULTRASOUND
    for name, changes in policy["sources"].items():
        if isinstance(changes, dict):
            policy["sources"][name] = _merged(msgspec.to_builtins(defaults[name]), changes)
            try:  # each by itself: of a table in a table msgspec does not say which
                msgspec.convert(policy["sources"][name], SourceBudget)
            except msgspec.ValidationError as error:
                raise ConfigError(f"{origin}{_explain(error, f'policy.sources.{name}')}") from None


def _merged(base: Tree, changes: Tree) -> Tree:
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = _merged(base[key], value) if both else value
    return result


def _explain(error: msgspec.ValidationError, root: str = "") -> str:
    """msgspec's "Expected `int`, got `str` - at `$.media.workers`" with the key first."""
    message, _, where = str(error).partition(" - at `$")
    where = f"{root}{where.rstrip('`')}".removeprefix(".")
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
