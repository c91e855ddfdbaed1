"""Tokens: who comes in, who does not, and no way round the signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.auth import AuthError, Grant, Verifier, bearer, mint, valid_room
from mediaserver.sfu.session.model import Right, Role

NOW = 1_800_000_000.0
SECRET = "s" * 32


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def claims(**changes: object) -> dict[str, object]:
    return {"room": "r1", "role": "doctor", "exp": NOW + 60} | changes


def signed(secret: str = SECRET, **changes: object) -> str:
    return jwt.encode(claims(**changes), secret, algorithm="HS256")


def refusal(token: str, verifier: Verifier | None = None, now: float = NOW) -> str:
    with pytest.raises(AuthError) as refused:
        (verifier or Verifier(SECRET)).verify(token, now)
    assert refused.value.code == "unauthorized"
    return refused.value.message


def test_minted_token_gives_what_was_asked() -> None:
    token = mint(SECRET, room="r1", role=Role.CART, now=NOW, name="Cart 7")
    grant = Verifier(SECRET).verify(token, NOW)
    assert grant == Grant("r1", Role.CART, frozenset({Right.PUBLISH, Right.SUBSCRIBE}), "Cart 7", NOW + 86400)
    assert grant.allows_room("r1")
    assert not grant.allows_room("r2")
    with pytest.raises(AuthError, match="record") as refused:
        grant.require(Right.RECORD)
    assert refused.value.code == "forbidden"


def test_short_secret_works_without_a_warning() -> None:
    assert Verifier("short").verify(mint("short", room="a", role=Role.DOCTOR, now=NOW), NOW).role is Role.DOCTOR


def test_rights_can_be_named() -> None:
    token = mint(SECRET, room="r1", role=Role.OBSERVER, now=NOW, rights=[])
    assert Verifier(SECRET).verify(token, NOW).rights == frozenset()


@pytest.mark.parametrize("role", [Role.ARCHIVIST, Role.OPERATOR])
def test_token_for_all_rooms(role: Role) -> None:
    grant = Verifier(SECRET).verify(mint(SECRET, room="*", role=role, now=NOW), NOW)
    assert grant.allows_room("anything")
    assert grant.sees_archive


def test_token_for_all_rooms_is_not_for_doctors() -> None:
    with pytest.raises(ValueError, match="every room"):
        mint(SECRET, room="*", role=Role.DOCTOR, now=NOW)
    assert "room" in refusal(signed(room="*"))


def test_expiry_and_leeway() -> None:
    verifier = Verifier(SECRET, leeway=10)
    token = signed(exp=NOW)
    assert verifier.verify(token, NOW + 9)
    assert "expired" in refusal(token, verifier, NOW + 11)
    assert "not valid yet" in refusal(signed(nbf=NOW + 20), verifier)


@pytest.mark.parametrize("exp", [None, "soon", float("nan"), float("inf"), True, [], -1])
def test_strange_expiry(exp: object) -> None:
    refusal(signed(exp=exp))


def test_no_expiry() -> None:
    given_claims = claims()
    del given_claims["exp"]
    assert "exp" in refusal(jwt.encode(given_claims, SECRET, algorithm="HS256"))


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "god"},
        {"role": None},
        {"rights": ["publish", "fly"]},
        {"rights": "publish"},
        {"room": "../etc"},
        {"room": "a\n"},
        {"room": ""},
        {"room": 5},
        {"name": 5},
        {"nbf": "x"},
    ],
)
def test_strange_claims(changes: dict[str, object]) -> None:
    refusal(signed(**changes))


def test_wrong_secret_and_garbage() -> None:
    assert "signature" in refusal(signed("t" * 32))
    for token in ("", "a", "a.b.c", "....", "é.é.é", "e30.e30.", "A" * 9000, signed() + "x", signed()[:-2]):
        refusal(token)


def unsigned(header: dict[str, object], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims()).encode()]
    texts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts]
    return b".".join([*texts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@pytest.mark.parametrize("alg", ["none", "None", "", None, 5, ["HS256"], {"a": 1}])
def test_algorithm_none(alg: object) -> None:
    refusal(unsigned({"alg": alg, "typ": "JWT"}))
    refusal(unsigned({"typ": "JWT"}))


def test_public_key_is_never_a_secret() -> None:
    """The classic confusion: HS256 with the text of the RSA public key."""
    text = pem(RSA_KEY)
    head, body, _ = unsigned({"alg": "HS256", "typ": "JWT"}).split(".")
    mac = hmac.new(text.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    forged = f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    assert "RS256" in refusal(forged, Verifier(public_keys=[("k", text)]))
    assert "signature" in refusal(forged, Verifier(SECRET, [("k", text)]))


def test_public_keys() -> None:
    verifier = Verifier(public_keys=[("ec", pem(EC_KEY)), ("rsa", pem(RSA_KEY))])
    assert verifier.verify(jwt.encode(claims(), EC_KEY, algorithm="ES256"), NOW).role is Role.DOCTOR
    assert verifier.verify(jwt.encode(claims(), RSA_KEY, algorithm="RS256"), NOW).role is Role.DOCTOR
    assert "RS256" in refusal(jwt.encode(claims(), RSA_KEY, algorithm="PS256"), verifier)
    assert "signature" in refusal(
        jwt.encode(claims(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"), verifier
    )
    assert "HS256" not in refusal(signed(), verifier)


def test_second_key_of_a_kind_counts() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    verifier = Verifier(public_keys=[("a", pem(other)), ("b", pem(EC_KEY))])
    assert verifier.verify(jwt.encode(claims(), EC_KEY, algorithm="ES256"), NOW)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rubbish", "not a public key"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "neither"),
        (pem(rsa.generate_private_key(65537, 1024)), "too short"),
    ],
)
def test_keys_that_cannot_be_used(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Verifier(public_keys=[("k.pem", text)])


def test_no_key_at_all() -> None:
    with pytest.raises(ValueError, match="nobody"):
        Verifier()


def test_audience_and_issuer() -> None:
    verifier = Verifier(SECRET, audience="media", issuer="clinic")
    assert verifier.verify(signed(aud="media", iss="clinic"), NOW)
    refusal(signed(aud="other", iss="clinic"), verifier)
    refusal(signed(aud="media"), verifier)
    refusal(signed(), verifier)
    assert Verifier(SECRET).verify(signed(aud="whatever"), NOW)


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("", ""), ("Bearer", ""), ("abc", "")],
)
def test_bearer(header: str, token: str) -> None:
    assert bearer(header) == token


def test_names_are_fit_to_be_shown() -> None:
    token = mint(SECRET, room="r", role=Role.DOCTOR, now=NOW, name=" Dr.\n\x1b[31m A\u202e" + "x" * 100)
    assert Verifier(SECRET).verify(token, NOW).name == "Dr. [31m A" + "x" * 70


@pytest.mark.parametrize("room", ["a", "A.b_c-9", "x" * 64])
def test_rooms(room: str) -> None:
    assert valid_room(room)


@pytest.mark.parametrize("room", ["", ".", "..", "-a", "a/b", "a b", "a\n", "ä", "x" * 65, "a\0"])
def test_no_rooms(room: str) -> None:
    assert not valid_room(room)


@given(st.text(max_size=200))
def test_any_text_is_refused_in_words(token: str) -> None:
    refusal(token)
