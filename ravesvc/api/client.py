"""Rave's HTTP interface as the parent and the workers use it."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

from ravesvc import names
from ravesvc.api import failures, models, retry, signing, transport
from ravesvc.api.models import Mesh, MeshMode, User
from ravesvc.api.transport import LIST_ANSWER_BYTES, SMALL_ANSWER_BYTES, USERS_ANSWER_BYTES, HttpRequest
from ravesvc.common.json_fields import Object
from ravesvc.common.text import count
from ravesvc.config.worker_options import ClientIdentity, Proxy, Servers, Tls
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError

_log = logging.getLogger(__name__)

T = TypeVar("T")
# Whether a request with this method, which has failed in this way, is to be sent again.
MayRepeat: TypeAlias = Callable[[str, RaveError], bool]

# For one attempt.
REQUEST_TIMEOUT_S = 15.0
# Between two requests of one task, so as to stay clear of limits that are not published.
REQUEST_SPACING_S = 0.5
USERS_PER_REQUEST = 80


class Api:
    """One account's requests, one at a time, over one kept-alive connection to `servers.api`.

    Every method raises `RaveError`: BadRequest, Unauthorized, Forbidden, NotFound, RateLimited, ServerError, Refused
    (as Rave answered; attributes `status`, `error_code`, `retry_after`), Network, Timeout, Tls, BadData, Closed.
    What may pass is tried again with growing pauses, or after the pause that Rave asks for: reading after any failure
    that may pass, writing only when Rave says that it has not been heard. Needs a running event loop.

    `progress` is told, in a sentence for people, what is asked of which host, and after each attempt that failed why.
    """

    def __init__(
        self,
        *,
        servers: Servers,
        identity: ClientIdentity,
        session: Session,
        tls: Tls,
        proxy: Proxy | None = None,
        progress: Callable[[str], None] = lambda _text: None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._identity = identity
        self._session = session
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self._rng = rng
        self._transport, self._base = transport.to_base(servers.api, "servers.api", tls, proxy, REQUEST_TIMEOUT_S)

    @property
    def device_id(self) -> str:
        """The device that we are, which the bodies of some requests name."""
        return self._session.device_id

    def set_session(self, session: Session) -> None:
        """Use `session` for every request from now on."""
        self._session = session

    def drop_idle(self) -> None:
        """Close the connection if it is not in use; for callers that send a request only every few hours."""
        self._transport.drop_idle()

    async def close(self) -> None:
        """End the connection; requests under way fail with Closed at once, and so does every later one."""
        self._transport.close()

    async def me(self) -> int:
        """The id of the account that the session belongs to; Unauthorized when the session is over.

        Tried once: all that it is good for is to know better what a refusal means.
        """
        return await self.call("checking the session", "GET", "/users/self", models.account_id, may_repeat=_never)

    async def page(self, source: MeshMode, size: int, cursor: str | None, lang: str) -> tuple[list[Mesh], str | None]:
        """One page of the list of one source, not `MeshMode.ALL`, and the cursor of the next page or None.

        `size` is how many meshes it may hold, `cursor` None for the first one, `lang` a language code.
        """
        read = functools.partial(models.page, invited=source is MeshMode.INVITED)
        query = {mode.value: str(mode is source).lower() for mode in MeshMode if mode is not MeshMode.ALL}
        query |= {"deviceId": self._session.device_id, "local": "false", "limit": str(size), "lang": lang}
        if cursor is not None:
            query["cursor"] = cursor
        what = f"reading the list of {source} meshes"
        return await self.call(what, "GET", f"/meshes/self?{urlencode(query)}", read, max_bytes=USERS_ANSWER_BYTES)

    async def mesh(self, mesh_id: str) -> Mesh:
        """One mesh as it is now: where its server is, and who is in it. NotFound when it is gone.

        A pause that Rave asks for is left to the caller: it concerns all bots, which should hear of it at once.
        """
        path = f"/meshes/{names.mesh_id(mesh_id)}"
        what = f"reading mesh {mesh_id}"
        return await self.call(
            what, "GET", path, models.mesh, may_repeat=_unless_paused, max_bytes=USERS_ANSWER_BYTES
        )

    async def users(self, ids: Iterable[int]) -> dict[int, User]:
        """The accounts with these ids, by id; those that Rave does not know are missing."""
        wanted = sorted(set(ids))
        found: dict[int, User] = {}
        for start in range(0, len(wanted), USERS_PER_REQUEST):
            if start:
                await self._sleep(REQUEST_SPACING_S)
            block = wanted[start : start + USERS_PER_REQUEST]
            body = {"deviceId": self._session.device_id, "ids": block, "includeOnline": True}
            what = "looking up users"
            found |= await self.call(what, "POST", "/users/list", models.users, body, max_bytes=LIST_ANSWER_BYTES)
        return found

    async def leave(self, mesh_id: str, *, may_repeat: MayRepeat | None = None) -> None:
        """Take this device out of a mesh, and the mesh out of our invitations; for `may_repeat` see `call`.

        Both are tried, even if the other fails; what is gone already counts as done. Raises what kept us from
        leaving; an invitation that stays behind is logged only.
        """
        path = f"/meshes/{names.mesh_id(mesh_id)}"
        try:
            await self._delete(f"deleting the invitation to mesh {mesh_id}", f"{path}/invites", may_repeat)
        except RaveError as e:
            _log.warning("%s", e)
        await self.depart(mesh_id, may_repeat=may_repeat)

    async def depart(self, mesh_id: str, *, may_repeat: MayRepeat | None = None) -> None:
        """Take this device out of a mesh, and stay invited; for `may_repeat` see `call`."""
        device = quote(self._session.device_id, safe="")
        path = f"/meshes/{names.mesh_id(mesh_id)}/devices/{device}/leave"
        await self._delete(f"leaving mesh {mesh_id}", path, may_repeat)

    async def call(
        self,
        what: str,
        method: str,
        path: str,
        read: Callable[[Object], T],
        body: dict[str, Any] | None = None,
        *,
        may_repeat: MayRepeat | None = None,
        max_bytes: int = SMALL_ANSWER_BYTES,
    ) -> T:
        """What `read` makes of a successful answer to a request of `path`, which begins with a slash.

        It is tried again as `may_repeat(method, error)` or the class says. An answer of more than `max_bytes` is
        BadData.

        `what` begins the sentence of an error: a path may not, for it may hold the device id.
        """
        content = None if body is None else json.dumps(body).encode()

        async def attempt() -> T:
            found = await self._attempt(what, method, path, content, max_bytes)
            # Decoding a long answer takes the most of what a turn of the event loop may take, and so does reading it.
            await asyncio.sleep(0)
            return read(found)

        self._progress(f"Asking {self._transport.host}: {what}")
        decide = functools.partial(may_repeat or is_repeatable, method)
        return await retry.repeat(what, attempt, decide, self._sleep, self._rng, self._progress)

    async def _delete(self, what: str, path: str, may_repeat: MayRepeat | None) -> None:
        try:
            await self.call(what, "DELETE", path, lambda _: None, may_repeat=may_repeat)
        except RaveError as e:
            if e.code is not Code.NOT_FOUND:
                raise

    async def _attempt(self, what: str, method: str, path: str, content: bytes | None, max_bytes: int) -> Object:
        now = self._clock()
        headers = signing.headers(self._identity, self._session, content, int(now * 1000))
        answer = await self._transport.send(HttpRequest(method, self._base + path, headers, content, max_bytes))
        _log.debug("%s: HTTP %d, %s", what, answer.status, count(len(answer.body), "byte"))
        return failures.document(answer, now)


def _never(_method: str, _error: RaveError) -> bool:
    return False


def _unless_paused(method: str, error: RaveError) -> bool:
    return failures.pause(error) is None and is_repeatable(method, error)


def is_repeatable(method: str, error: RaveError) -> bool:
    """A write that failed on the way may have been carried out; one that was refused for its rate was not."""
    return error.code is Code.RATE_LIMITED or (method == "GET" and failures.retryable(error))
