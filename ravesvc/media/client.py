"""The service's client of the helper: one connection for each request; systemd starts the helper for it."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import stat
from collections.abc import Sequence

from ravesvc import names
from ravesvc.common.translation import gettext as _
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.media import messages, wire
from ravesvc.media.messages import Ask, MediaReply, MediaRequest

_log = logging.getLogger(__name__)

# For the start of the helper and its answer.
TIMEOUT_S = 25.0
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_LATER = _("try again in a while")


class HelperClient:
    """Asks the helper behind the socket at `path`. Errors are `RaveError` in words for the chat.

    What the helper says is passed on in its words; NotRunning when there is none, Timeout when it takes too long,
    BadData when its answer makes no sense.
    """

    def __init__(self, path: str = names.MEDIA_SOCKET) -> None:
        self._path = path

    async def search(self, words: str) -> Sequence[Video]:
        """See `Library`."""
        answer, _ = await self._ask(Ask.SEARCH, words)
        return answer.videos

    async def look_up(self, link: str) -> Video:
        """See `Library`."""
        answer, _ = await self._ask(Ask.LOOK_UP, link)
        if len(answer.videos) != 1:
            raise _bad_answer()
        return answer.videos[0]

    async def picture(self, provider: str, video_id: str) -> int:
        """See `Library`; a descriptor, the caller's to close, of a sealed file in memory."""
        answer, descriptor = await self._ask(Ask.PICTURE, f"{provider}/{video_id}")
        if descriptor is None or answer.picture_bytes is None or not _is_sealed(descriptor, answer.picture_bytes):
            if descriptor is not None:
                os.close(descriptor)
            raise _bad_answer()
        return descriptor

    async def _ask(self, ask: Ask, text: str) -> tuple[MediaReply, int | None]:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                line, descriptor = await self._exchange(MediaRequest(ask=ask, text=text).to_bytes())
        except TimeoutError:
            raise RaveError(Code.TIMEOUT, _("the video helper did not answer in time"), hint=_LATER) from None
        try:
            answer = messages.read_answer(line)
        except RaveError:
            answer = _bad_answer()
        if descriptor is not None and ask is not Ask.PICTURE:
            answer = _bad_answer()
        if isinstance(answer, RaveError):
            if descriptor is not None:
                os.close(descriptor)
            raise answer
        return answer, descriptor

    async def _exchange(self, request: bytes) -> tuple[bytes, int | None]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)  # noqa: FBT003 - the standard library's
            try:
                # Not the loop's sock_connect: it can't wait for a queue that is full.
                sock.connect(self._path)
                await wire.send(sock, request)
                return await wire.receive(sock, messages.MAX_ANSWER_BYTES)
            except BlockingIOError as e:
                raise RaveError(Code.BUSY, _("the video helper has too much to do"), hint=_LATER) from e
            except OSError as e:
                raise _not_running(f"{self._path}: {e.strerror}") from e
            except RaveError as e:
                raise (_not_running("it has ended") if e.code is Code.CLOSED else _bad_answer()) from e


def _is_sealed(descriptor: int, size: int) -> bool:
    """Whether it is a sealed file in memory of this size."""
    try:
        status = os.fstat(descriptor)
        sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:
        return False
    return sealed and stat.S_ISREG(status.st_mode) and status.st_size == size


def _not_running(why: str) -> RaveError:
    _log.error("The video helper can't be asked (%s): see systemctl status rave-media.socket rave-media.service", why)
    hint = _("the operator has to look after it")
    return RaveError(Code.NOT_RUNNING, _("the video helper is not running"), hint=hint)


def _bad_answer() -> RaveError:
    _log.error("The video helper gave an answer that makes no sense: see journalctl -u rave-media")
    return RaveError(Code.BAD_DATA, _("the video helper gives an answer that makes no sense"), hint=_LATER)
