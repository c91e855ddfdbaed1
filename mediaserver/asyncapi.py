"""The AsyncAPI 3 document of `/ws` and the pages' typings, made from the message types.

`python -m mediaserver.asyncapi` prints the document, `python -m mediaserver.asyncapi --typings` the typings.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, get_args

import msgspec
from msgspec import inspect

from mediaserver import __version__, protocol
from mediaserver.protocol import ClientMessage, ServerMessage

Document = dict[str, Any]

CLIENT: tuple[type[msgspec.Struct], ...] = get_args(ClientMessage)
PARTS_OF_CLIENT = (protocol.Publication, protocol.Subscription, protocol.ViewWish)
SERVER: tuple[type[msgspec.Struct], ...] = get_args(ServerMessage)


@cache
def document() -> Document:
    """The AsyncAPI 3.0 document."""
    _, schemas = msgspec.json.schema_components((*CLIENT, *SERVER), ref_template="#/components/schemas/{name}")
    client = {f"client.{_tag(kind)}": kind for kind in CLIENT}
    server = {f"server.{_tag(kind)}": kind for kind in SERVER}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mediaserver signalling",
            "version": f"{protocol.VERSION}.0.0",
            "description": (protocol.__doc__ or "").strip(),
            "license": {"name": "Apache-2.0"},
            "x-server-version": __version__,
        },
        "defaultContentType": "application/json",
        "channels": {
            "signalling": {
                "address": "/ws",
                "title": "The WebSocket of one participant",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in (client | server)},
                "bindings": {"ws": {"method": "GET"}},
            }
        },
        "operations": {
            "fromClient": _operation("receive", "What a client sends.", client),
            "toClient": _operation("send", "What the server sends.", server),
        },
        "components": {
            "messages": {name: _message(name, kind) for name, kind in (client | server).items()},
            "schemas": schemas,
        },
    }


def typings() -> str:
    """TypeScript declarations of all messages."""
    lines = [
        "// Made from mediaserver/protocol.py by `python -m mediaserver.asyncapi --typings`; do not edit.",
        "",
        f"export declare const VERSION: {protocol.VERSION};",
    ]
    named: dict[str, list[str]] = {}
    for kind in (*CLIENT, *SERVER):
        _declare(inspect.type_info(kind), named)
    for name in sorted(named):
        lines += ["", *named[name]]
    for name, kinds in (("ClientMessage", CLIENT), ("ServerMessage", SERVER)):
        lines += ["", f"export type {name} =", *(f"  | {kind.__name__}" for kind in kinds)]
        lines[-1] += ";"
    return "\n".join(lines) + "\n"


def _tag(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _operation(action: str, summary: str, messages: Document) -> Document:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/signalling"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/signalling/messages/{name}"} for name in messages],
    }


def _message(name: str, kind: type[msgspec.Struct]) -> Document:
    text = " ".join((kind.__doc__ or "").split())
    return {
        "name": name,
        "title": _tag(kind),
        "summary": text,
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
    }


def _declare(kind: inspect.Type, named: dict[str, list[str]]) -> str:
    """The TypeScript name or expression of a type; declarations that it needs go into `named`."""
    match kind:
        case inspect.StructType():
            return _declare_struct(kind, named)
        case inspect.EnumType():
            named[kind.cls.__name__] = [
                f"export type {kind.cls.__name__} = {_union(member.value for member in kind.cls)};"
            ]
            return kind.cls.__name__
        case inspect.LiteralType():
            return _union(kind.values)
        case inspect.UnionType():
            return " | ".join(_declare(one, named) for one in kind.types)
        case inspect.ListType() | inspect.VarTupleType():
            inner = _declare(kind.item_type, named)
            return f"({inner})[]" if "|" in inner else f"{inner}[]"
        case inspect.DictType():
            return f"Record<{_declare(kind.key_type, named)}, {_declare(kind.value_type, named)}>"
        case inspect.Metadata():
            return _declare(kind.type, named)
        case inspect.StrType():
            return "string"
        case inspect.BoolType():
            return "boolean"
        case inspect.IntType() | inspect.FloatType():
            return "number"
        case inspect.NoneType():
            return "null"
    raise TypeError(f"no TypeScript for {kind}")


def _declare_struct(kind: inspect.StructType, named: dict[str, list[str]]) -> str:
    name = kind.cls.__name__
    if name in named:
        return name
    lines = named[name] = [f"/** {' '.join((kind.cls.__doc__ or '').split())} */", f"export interface {name} {{"]
    if kind.tag_field is not None:
        lines.append(f'  {kind.tag_field}: "{kind.tag}";')
    from_client = kind.cls in CLIENT or kind.cls in PARTS_OF_CLIENT
    for field in kind.fields:
        # The server writes every field; a client may leave out what has a default.
        optional = "?" if from_client and not field.required else ""
        lines.append(f"  {field.encode_name}{optional}: {_declare(field.type, named)};")
    lines.append("}")
    return name


def _union(values: Any) -> str:
    return " | ".join(f'"{value}"' for value in values)


if __name__ == "__main__":
    made = (
        typings()
        if "--typings" in sys.argv
        else msgspec.json.format(msgspec.json.encode(document()), indent=2).decode()
    )
    sys.stdout.write(made.rstrip("\n") + "\n")
