"""STUN and TURN servers as the clients are told of them, with credentials that are good for a while."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable

from mediaserver.clock import Clock
from mediaserver.protocol import IceServer
from mediaserver.settings import IceServerSettings


class IceServers:
    """Makes credentials from a secret that is shared with the TURN server: the name says until when they are good,
    the password proves the name (draft-uberti-behave-turn-rest; coturn's `use-auth-secret`)."""

    def __init__(self, servers: Iterable[IceServerSettings], clock: Clock) -> None:
        self._servers = tuple(servers)
        self._clock = clock

    def for_client(self, participant: str) -> list[IceServer]:
        """What a participant may use from now on."""
        return [self._for_client(server, participant) for server in self._servers]

    def _for_client(self, server: IceServerSettings, participant: str) -> IceServer:
        if not server.secret:
            return IceServer(urls=server.urls, username=server.username, credential=server.credential)
        username = f"{int(self._clock.wall() + server.ttl_seconds)}:{participant}"
        digest = hmac.digest(server.secret.encode(), username.encode(), "sha1")
        return IceServer(urls=server.urls, username=username, credential=base64.b64encode(digest).decode())
