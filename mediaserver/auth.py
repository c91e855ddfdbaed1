"""Who may come in: JSON Web Tokens (RFC 7519) with a room, a role and rights.

Claims: `room` (a room's name, or "*" for archivists and operators), `role`, `exp`, and optionally `rights` (those of
the role by default), `name`, `nbf`, `recording` (whose tracks may be recorded in the room) and `consent` (what its
holder has already said to that, to the application that makes the token). Signed with HS256 and the secret, or RS256 or
ES256 and a known public key.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jwt
import msgspec
from jwt.warnings import InsecureKeyLengthWarning
from msgspec import Meta

from mediaserver.consent import Whose
from mediaserver.recording.sidecars import Identifiers
from mediaserver.sfu.session.model import Right, Role, Source

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey = EllipticCurvePublicKey | RSAPublicKey

ANY_ROOM = "*"
MAX_TOKEN = 8192
MAX_NAME = 80
STRONG_SECRET = 32
"""Bytes that RFC 7518, section 3.2, asks of an HS256 secret."""
DEFAULT_TTL = 24 * 3600.0
MAX_TIME = 4e9
"""Unix time in s: nobody has consented later."""

_ROOM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

ROLE_RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.CART: frozenset({Right.PUBLISH, Right.SUBSCRIBE}),
    Role.DOCTOR: frozenset({Right.PUBLISH, Right.SUBSCRIBE, Right.RECORD}),
    Role.OBSERVER: frozenset({Right.SUBSCRIBE}),
    Role.ARCHIVIST: frozenset(),
    Role.OPERATOR: frozenset({Right.ADMIN}),
}
ROOMLESS_ROLES = frozenset({Role.ARCHIVIST, Role.OPERATOR})
"""Roles whose token may hold for every room."""


class AuthError(Exception):
    """Access is refused: "unauthorized" when the token is not good, "forbidden" when it does not reach so far."""

    def __init__(self, code: Literal["unauthorized", "forbidden"], message: str) -> None:
        super().__init__(message)
        self.code: Literal["unauthorized", "forbidden"] = code
        self.message = message


class ConsentClaim(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an application was told about recording before the participant joined: yes or no, at which Unix time in s,
    to which text, who has asked, and to which sources (None: to all)."""

    given: bool
    at: float
    version: Annotated[str, msgspec.Meta(max_length=64)] = ""
    by: Annotated[str, msgspec.Meta(max_length=80)] = ""
    sources: Annotated[tuple[Source, ...], msgspec.Meta(min_length=1, max_length=16)] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.at < MAX_TIME:
            raise ValueError("consent.at is a Unix time in seconds")
        if self.sources == ():
            raise ValueError("consent.sources names what the word is about; leave it out where that is everything")
        if not (self.version.isprintable() and self.by.isprintable()):
            raise ValueError("consent.version and consent.by can be printed")


class Grant(msgspec.Struct, frozen=True):
    """What a verified token gives. `room` may be `ANY_ROOM`; `expires` is Unix time in seconds. `recording` and
    `consent` are what it says of recording, None where it says nothing."""

    room: str
    role: Role
    rights: frozenset[Right]
    name: str
    expires: float
    identifiers: Identifiers | None = None
    """Whom and what the consultation is about."""
    retention: str = ""
    """The class of retention of what is recorded."""
    recording: Whose | None = None
    consent: ConsentClaim | None = None

    def allows_room(self, room: str) -> bool:
        return self.room in (ANY_ROOM, room)

    def require(self, right: Right) -> None:
        """Raises `AuthError` when the grant lacks the right."""
        if right not in self.rights:
            raise AuthError("forbidden", f'this token does not give the right "{right}"')

    @property
    def sees_archive(self) -> bool:
        return self.role in ROOMLESS_ROLES or Right.RECORD in self.rights


class _Claims(msgspec.Struct):
    room: str
    role: Role
    exp: float
    rights: list[Right] | None = None
    name: str = ""
    nbf: float | None = None
    identifiers: Identifiers | None = None
    retention: Annotated[str, Meta(max_length=64)] = ""
    recording: Whose | None = None
    consent: ConsentClaim | None = None


def valid_room(room: str) -> bool:
    """Whether it can be a room's name: up to 64 letters, digits, ".", "_", "-", a letter or digit first."""
    return _ROOM.fullmatch(room) is not None


def clean_name(text: str) -> str:
    """A name or label as it may be shown and logged: one line, at most 80 characters, nothing invisible in it."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())[:MAX_NAME]


class Verifier:
    """Checks tokens against the secret and the public keys. Each key serves the one algorithm of its kind, so a
    token can't have a public key taken for a secret, nor choose "none"."""

    def __init__(
        self,
        secret: str = "",
        public_keys: Iterable[tuple[str, str]] = (),
        *,
        leeway: float = 10.0,
        audience: str = "",
        issuer: str = "",
    ) -> None:
        """`public_keys` are pairs of a name (a path) and PEM text. Raises `ValueError` for a key that can't be used."""
        self._keys: dict[str, list[Any]] = {}
        if secret:
            self._keys["HS256"] = [secret.encode()]
        for name, pem in public_keys:
            algorithm, key = _load_public_key(name, pem)
            self._keys.setdefault(algorithm, []).append(key)
        if not self._keys:
            raise ValueError("neither a secret nor a public key is given: nobody could come in")
        self._leeway = leeway
        self._audience = audience or None
        self._issuer = issuer or None

    def verify(self, token: str, now: float) -> Grant:
        """The grant of a token at the Unix time `now`. Raises `AuthError`."""
        if not token:
            raise AuthError("unauthorized", "a token is needed")
        if len(token) > MAX_TOKEN:
            raise AuthError("unauthorized", "the token is too long")
        claims = self._claims(token)
        if not math.isfinite(claims.exp) or now > claims.exp + self._leeway:
            raise AuthError("unauthorized", "the token has expired")
        if claims.nbf is not None and not now >= claims.nbf - self._leeway:
            raise AuthError("unauthorized", "the token is not valid yet")
        if not valid_room(claims.room) and not (claims.room == ANY_ROOM and claims.role in ROOMLESS_ROLES):
            raise AuthError("unauthorized", "the token's room is no valid name of a room")
        rights = ROLE_RIGHTS[claims.role] if claims.rights is None else frozenset(claims.rights)
        if claims.consent is not None and claims.consent.at > now + self._leeway:
            raise AuthError("unauthorized", "the token's consent was given in the future")
        return Grant(
            claims.room,
            claims.role,
            rights,
            clean_name(claims.name),
            claims.exp,
            claims.identifiers,
            claims.retention,
            claims.recording,
            claims.consent,
        )

    def _claims(self, token: str) -> _Claims:
        payload = self._payload(token)
        try:
            return msgspec.convert(payload, _Claims)
        except msgspec.ValidationError as error:
            raise AuthError("unauthorized", f"the token's claims are not usable: {error}") from None

    def _payload(self, token: str) -> dict[str, Any]:
        try:
            algorithm = str(jwt.get_unverified_header(token).get("alg"))
        except jwt.PyJWTError:
            raise AuthError("unauthorized", "the token is malformed") from None
        keys = self._keys.get(algorithm)
        if not keys:
            raise AuthError("unauthorized", f"the token is not signed as is asked here ({', '.join(self._keys)})")
        # Times are checked above, by the clock that is handed in.
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp"]}
        options["verify_aud"] = self._audience is not None
        reason = "the token's signature is not good"
        for key in keys:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", InsecureKeyLengthWarning)  # told once, when the server starts
                    return jwt.decode(token, key, [algorithm], options, audience=self._audience, issuer=self._issuer)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, TypeError) as error:
                reason = f"the token is not good: {error}"
        raise AuthError("unauthorized", reason)


def mint(
    secret: str,
    *,
    room: str,
    role: Role,
    now: float,
    rights: Iterable[Right] | None = None,
    name: str = "",
    ttl: float = DEFAULT_TTL,
    identifiers: Identifiers | None = None,
    retention: str = "",
    recording: Whose | None = None,
    consent: ConsentClaim | None = None,
) -> str:
    """A token signed with HS256. Raises `ValueError` for a room that no token may have."""
    if room == ANY_ROOM and role not in ROOMLESS_ROLES:
        raise ValueError('"*", every room, is for archivists and operators')
    if not valid_room(room) and room != ANY_ROOM:
        raise ValueError(f'"{room}" is no room: up to 64 letters, digits, ".", "_", "-", a letter or digit first')
    if not secret:
        raise ValueError("a secret is needed to sign a token")
    granted = ROLE_RIGHTS[role] if rights is None else frozenset(rights)
    claims: dict[str, Any] = {"room": room, "role": str(role), "rights": sorted(map(str, granted))}
    claims |= {"iat": int(now), "exp": int(now + ttl)}
    if name:
        claims["name"] = name
    if identifiers is not None:
        claims["identifiers"] = {key: text for key, text in msgspec.to_builtins(identifiers).items() if text}
    if retention:
        claims["retention"] = retention
    if recording is not None:
        claims["recording"] = recording
    if consent is not None:
        claims["consent"] = msgspec.to_builtins(consent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        return jwt.encode(claims, secret, algorithm="HS256")


def parse_rights(text: str) -> list[Right]:
    """Rights separated by commas. Raises `ValueError`."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in list(Right):
            raise ValueError(f'there is no right "{name}"; there are {", ".join(Right)}')
    return [Right(name) for name in names]


def bearer(header: str) -> str:
    """The token of an Authorization header (RFC 6750, section 2.1), "" when it holds none."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _load_public_key(name: str, pem: str) -> tuple[str, PublicKey]:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    try:
        if "BEGIN CERTIFICATE" in pem:
            key: object = load_pem_x509_certificate(pem.encode()).public_key()
        else:
            key = load_pem_public_key(pem.encode())
    except ValueError:
        raise ValueError(f"{name}: not a public key in PEM form") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            raise ValueError(f"{name}: an RSA key of {key.key_size} bits is too short; 2048 is the least")
        return "RS256", key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256", key
    raise ValueError(f"{name}: neither an RSA nor a P-256 key")
