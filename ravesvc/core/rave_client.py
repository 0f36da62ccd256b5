"""The way to Rave: the account's requests, over a session that is checked before its word counts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ravesvc.api import failures
from ravesvc.api.client import Api
from ravesvc.api.listing import Enough, ListReader
from ravesvc.api.models import Listing, Mesh, MeshMode
from ravesvc.common.log_fields import about
from ravesvc.config.options import Config
from ravesvc.config.worker_settings import Session
from ravesvc.core.rave_pauses import Pauses
from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)


# Seconds that the answer to the question whose session it is may take, and until one that failed is asked again.
_CHECK_TIMEOUT_S = 5.0
_CHECK_AGAIN_S = 600.0
# Seconds for the question who is in a mesh; a bot waits for the answer.
_USERS_TIMEOUT_S = 10.0
# Of a pause whose length Rave does not say.
_DEFAULT_PAUSE_S = 30.0


# What Rave says of the account as a whole, also where it is not the list that was asked for.
_REFUSALS = (Code.UNAUTHORIZED, Code.IDENTITY, Code.CLOCK)


class RaveClient:
    """Requests of the session that was given last; without one there must be none but `leave`, which does nothing.

    Attributes:
        progress: what the list of meshes waits for, in a sentence for people; empty while it is not being read.
    """

    def __init__(
        self,
        settings: Config,
        pauses: Pauses,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`pauses` are kept here, and what Rave asks for is noted there.

        `changed` is called whenever `progress` is another.
        """
        self.progress = ""
        self._changed = changed
        self._settings = settings
        self._pauses = pauses
        self._host = settings.servers.api_host
        self._clock = clock
        self._session: Session | None = None
        self._checked: Session | None = None  # Rave has said whose it is
        self._accepted: Session | None = None  # Rave has taken its signature, some time since our start
        # The session whose check has failed, and when to try that again.
        self._unchecked: tuple[Session | None, float] = (None, 0.0)
        self._first_failure = ""  # of the round that is under way, at the end of `progress`
        self._api: Api | None = None
        self._lists = ListReader(self._page)

    @property
    def scope(self) -> str:
        """What lists are lists of: those of another scope say nothing of each other."""
        user = self._session.user_id if self._session else 0
        return f"{self._settings.mesh_mode} meshes of user {user} at {self._settings.servers.api}"

    def configure(self, settings: Config) -> None:
        """Read lists by these settings from the next round on. Servers, identity, TLS and proxy must be the same."""
        self._settings = settings

    def use(self, session: Session | None) -> None:
        """Take this session from now on; needs a running event loop."""
        self._session = session
        if session is None:
            return
        if self._api:
            self._api.set_session(session)
        else:
            self._api = self._new_api(session, self._show_progress)

    @property
    def proven(self) -> bool:
        """Whether Rave has taken our signature with this session, or says that it is the session it refuses."""
        return self._session is not None and self._session == self._accepted

    async def meshes(self, enough: Enough) -> Listing:
        """The meshes that the configuration wants, until they are `enough`, as far as they can be read.

        Raises as `Api` when nothing can be read, and BadData for the session of another account.

        RateLimited also while a pause that Rave has asked for is not over: then nothing is asked.

        Closed when the account became another one meanwhile, or when the session that was refused is no longer ours.

        A session that is new, or was refused the last time, is checked first: Unauthorized then means the session.
        Any other failure of that check says nothing about the list, which is read all the same.
        """
        assert self._api, "discovery runs only with a session"
        assert self._session
        settings, session = self._settings, self._session
        if self._pauses.asked(self._host):
            raise RaveError(Code.RATE_LIMITED, self._pauses.words(self._host))
        try:
            if session != self._checked and not self._check_failed_lately(session):
                await self._check(self._api, session)
            listing = await self._lists.read(MeshMode(settings.mesh_mode), settings.limit, enough)
            self._accepted = session
            if listing.error:
                self._note_pause(listing.error)
        except RaveError as e:
            self._note_pause(e)
            if e.code is Code.UNAUTHORIZED:
                self._checked, self._unchecked = None, (None, 0.0)
                if "session_named" in e.attributes:
                    self._accepted = session
                if session != self._session:
                    raise RaveError(Code.CLOSED, "there is another session meanwhile") from e
            raise
        finally:
            self._show_progress("")
        if self._session is None or self._session.user_id != session.user_id:
            raise RaveError(Code.CLOSED, "the list was read for another account")
        return listing

    async def _page(self, source: MeshMode, size: int, cursor: str | None) -> tuple[list[Mesh], str | None]:
        assert self._api
        return await self._api.page(source, size, cursor, self._settings.lang)

    def _check_failed_lately(self, session: Session) -> bool:
        unchecked, again_at = self._unchecked
        return session == unchecked and self._clock() < again_at

    async def _check(self, api: Api, session: Session) -> None:
        """Ask Rave whose session it is. Raises Unauthorized, and BadData for the session of another account."""
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                user = await api.me()
        except (RaveError, TimeoutError) as e:
            if isinstance(e, RaveError) and (e.code in _REFUSALS or failures.pause(e)):
                raise
            self._unchecked = session, self._clock() + _CHECK_AGAIN_S
            why = e.message if isinstance(e, RaveError) else f"{self._host} did not answer in time"
            log.warning("Whose session it is could not be checked, discovery goes on without that: %s", why)
            self._first_failure = f", after this: {why}"
            return
        _compare(session, user, self._settings.advice.login)
        self._checked = session

    async def leave(self, mesh: str) -> None:
        """Leave a mesh on Rave's side, for about two minutes at most; what fails is logged.

        A failure that may pass is tried again with back-off. To leave twice does no harm.
        """
        if self._session is None:
            return
        # Over a connection of its own: discovery must not wait behind a server that takes its time over this.
        api = self._new_api(self._session)
        try:
            await asyncio.sleep(self._pauses.asked(self._host))
            await api.leave(mesh, may_repeat=lambda _method, error: failures.retryable(error))
        except RaveError as e:
            self._note_pause(e)
            log.warning("Mesh %s could not be left on Rave's side: %s", mesh, e, extra=about(mesh))
        finally:
            await api.close()

    async def users(self, mesh: str) -> frozenset[int]:
        """The ids of the users whom Rave lists in a mesh.

        Raises as `Api.mesh`, RateLimited also while a pause that Rave has asked for is not over, NotRunning without a
        session.
        """
        if self._session is None:
            raise RaveError(Code.NOT_RUNNING, "there is no session with Rave")
        if self._pauses.asked(self._host):
            raise RaveError(Code.RATE_LIMITED, self._pauses.words(self._host))
        # As in `leave`.
        api = self._new_api(self._session)
        try:
            async with asyncio.timeout(_USERS_TIMEOUT_S):
                return frozenset((await api.mesh(mesh)).users)
        except TimeoutError:
            raise RaveError(Code.TIMEOUT, f"{self._host} did not answer in time") from None
        except RaveError as e:
            self._note_pause(e)
            raise
        finally:
            await api.close()

    async def close(self) -> None:
        """End the connection."""
        if self._api:
            await self._api.close()

    def _note_pause(self, error: RaveError) -> None:
        """Keep the pause that Rave asks for, if it does, from the next request on."""
        asked = failures.pause(error)
        if asked is not None:
            self._pauses.ask(self._host, asked or _DEFAULT_PAUSE_S)

    def _new_api(self, session: Session, progress: Callable[[str], None] = lambda _text: None) -> Api:
        settings = self._settings
        return Api(
            servers=settings.servers,
            identity=settings.identity,
            session=session,
            tls=settings.tls,
            proxy=settings.proxy,
            progress=progress,
        )

    def _show_progress(self, text: str) -> None:
        if not text:
            self._first_failure = ""
        self.progress = f"{text}{self._first_failure}"
        self._changed()


def _compare(session: Session, user: int, login: str) -> None:
    if user != session.user_id:
        raise RaveError(
            Code.BAD_DATA,
            f"the credentials are for user {session.user_id}, but Rave takes them for those of user {user}",
            hint=login,
        )
