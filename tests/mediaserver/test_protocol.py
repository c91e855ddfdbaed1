"""The messages: what is read, what is refused, and that every message survives the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver import protocol
from mediaserver.asyncapi import document, typings
from mediaserver.protocol import ClientMessage, Join, Offer, Publication, ServerMessage, Source, decode, encode


def test_a_join() -> None:
    message = decode('{"type":"join","id":1,"version":1,"room":"r","token":"t"}')
    assert message == Join(id=1, version=1, room="r", token="t")


def test_unknown_fields_are_for_later_versions() -> None:
    assert decode('{"type":"ping","id":1,"later":[]}') == protocol.Ping(id=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "truncated"),
        ("[]", "array"),
        ("{}", "type"),
        ('{"type":"fly"}', "fly"),
        ('{"type":5}', "type"),
        ('{"type":"join"}', "id"),
        ('{"type":"ping","id":-1}', "id"),
        ('{"type":"ping","id":"1"}', "id"),
        ('{"type":"ping","id":9007199254740992}', "id"),
        ('{"type":"candidate","candidate":"%s"}' % ("x" * 1025), "candidate"),
        ('{"type":"offer","id":1,"sdp":""}', "sdp"),
        ('{"type":"offer","id":1,"sdp":"v","publish":[{"mid":"0","source":"xray"}]}', r"publish\[0\]\.source"),
        ('{"type":"offer","id":1,"sdp":"v","subscribe":[{"mid":"0"}]}', "track"),
        ('{"type":"mute","id":1,"track":"","muted":true}', "track"),
        ('{"type":"ok","id":1}', "ok"),
    ],
)
def test_what_is_refused_is_named(text: str, words: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=words):
        decode(text)


def test_too_many_tracks() -> None:
    lines = [{"mid": str(n), "track": "t"} for n in range(protocol.MAX_TRACKS + 1)]
    with pytest.raises(msgspec.ValidationError, match="subscribe"):
        decode(json.dumps({"type": "offer", "id": 1, "sdp": "v", "subscribe": lines}))


def test_server_messages_carry_their_type() -> None:
    assert json.loads(encode(protocol.Ok(id=4))) == {"type": "ok", "id": 4}
    error = json.loads(encode(protocol.Error(code="bad-offer", message="m", line="m=video")))
    assert error == {
        "type": "error",
        "code": "bad-offer",
        "message": "m",
        "id": None,
        "line": "m=video",
        "fatal": False,
        "retry_seconds": None,
    }


def test_every_message_is_documented_and_tagged_in_kebab_case() -> None:
    tags = set()
    for message in (*get_args(ClientMessage), *get_args(ServerMessage)):
        tag = message.__struct_config__.tag
        assert tag == tag.lower()
        assert "_" not in tag
        assert message.__doc__
        tags.add((message in get_args(ClientMessage), tag))
    assert len(tags) == len(get_args(ClientMessage)) + len(get_args(ServerMessage))


@given(st.binary(max_size=300))
def test_hostile_bytes_are_a_decode_error(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode(data)


@given(st.text(min_size=1, max_size=300), st.lists(st.sampled_from(Source), max_size=5))
def test_offers_survive_the_wire(sdp: str, sources: list[Source]) -> None:
    publish = [Publication(mid=str(mid), source=source) for mid, source in enumerate(sources)]
    offer = Offer(id=1, sdp=sdp, publish=publish)
    assert decode(msgspec.json.encode(offer)) == offer


def test_typings_are_fresh() -> None:
    path = Path(__file__).parents[2] / "mediaserver" / "web" / "protocol.d.ts"
    assert path.read_text() == typings(), f"write it anew: python -m mediaserver.asyncapi --typings > {path}"


def test_typings_name_every_message() -> None:
    text = typings()
    for message in (*get_args(ClientMessage), *get_args(ServerMessage)):
        assert f"export interface {message.__name__} {{" in text
        assert f'type: "{message.__struct_config__.tag}";' in text


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_asyncapi_holds_together() -> None:
    made = json.loads(msgspec.json.encode(document()))
    assert made["asyncapi"] == "3.0.0"
    assert len(made["operations"]["fromClient"]["messages"]) == len(get_args(ClientMessage))
    assert len(made["operations"]["toClient"]["messages"]) == len(get_args(ServerMessage))
    found = list(references(made))
    assert found
    for reference in found:
        node = made
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
    for message in made["components"]["messages"].values():
        assert message["summary"]
