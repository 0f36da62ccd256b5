"""An answer of Rave's HTTP servers, from its first byte: the transport, then whatever reads its content."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import socket
import ssl
from typing import cast

from ravesvc.api import login_messages, models, upload
from ravesvc.api.failures import MAX_PAUSE_S, document, pause
from ravesvc.api.transport import USERS_ANSWER_BYTES, HttpRequest, HttpTransport
from ravesvc.common.json_fields import Object
from ravesvc.config.worker_settings import user_of_peer
from ravesvc.errors import RaveError
from ravesvc.media import youtube_answers

_REQUEST = HttpRequest("GET", "/meshes/self", {}, None)
_READERS = (
    models.mesh,
    lambda answer: models.page(answer, invited=True),
    models.users,
    models.account_id,
    models.profile,
    models.video_id,
    models.video_base,
    login_messages.state_id,
    login_messages.parse_user,
    lambda answer: login_messages.confirmation(answer, "bot@rave.test"),
    youtube_answers.search_hits,
    youtube_answers.details,
    lambda answer: youtube_answers.embedded(answer, "dQw4w9WgXcQ"),
    lambda answer: youtube_answers.refusal(403, answer),
    upload.place,
    lambda answer: user_of_peer(answer.get("peerId")),
)


class _Answered(HttpTransport):
    """A transport whose server has sent its answer already, and nothing after it."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("api.rave.test", 443, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), 5)
        self._answer = answer
        self._theirs: socket.socket

    async def _dial(self) -> ssl.SSLSocket:
        ours, self._theirs = socket.socketpair()
        self._theirs.sendall(self._answer)
        self._theirs.shutdown(socket.SHUT_WR)
        return cast("ssl.SSLSocket", ours)

    def hang_up(self) -> None:
        """Close the server's end."""
        self._theirs.close()


async def _sent(answer: bytes) -> Object:
    transport = _Answered(answer)
    try:
        received = await transport.send(_REQUEST)
    finally:
        transport.close()
        transport.hang_up()
    assert len(received.body) <= USERS_ANSWER_BYTES
    try:
        return document(received, now=1.8e9)
    except RaveError as e:
        _check_error(e)
        raise


def _check_error(error: RaveError) -> None:
    assert 0 <= (pause(error) or 0) <= MAX_PAUSE_S
    assert error.message.isprintable()


_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)


def check(data: bytes) -> None:
    """Nothing but a RaveError comes out of the transport, nor out of any that reads what it brought."""
    answer = _LOOP.run_until_complete(_sent(data))
    for read in _READERS:
        with contextlib.suppress(RaveError):
            read(answer)
