"""One connection of a bot to its mesh, from its opening to its end."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ravesvc.common.json_fields import Object
from ravesvc.common.picture import Media
from ravesvc.config.worker_options import Proxy
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.room import address
from ravesvc.room.changes import RoomState, UsersJoined, UsersLeft
from ravesvc.room.chat import ChatMessage, Mention, OwnMessages, Reaction, chat_data, parse_chat, reaction_data
from ravesvc.room.chat_form import ChatForm, ChatForms
from ravesvc.room.close import Close, CloseKind
from ravesvc.room.connection import Connection
from ravesvc.room.peer import Peer, Timings
from ravesvc.room.server_clock import ServerClock
from ravesvc.room.state import parse_state
from ravesvc.room.tracker import RoomTracker

if TYPE_CHECKING:
    from ravesvc.room.listener import RoomListener

_log = logging.getLogger(__name__)

_KICKED_CODE = 4003
# When a timer fires later than this, the process was stopped: messages that came in meanwhile are read first.
_TIMER_SLACK_S = 2.0
# For the closing handshake when `open` is cancelled: the caller waits for it.
_GOODBYE_TIMEOUT_S = 0.5


class Room:
    """One connection to one mesh, used once: `open`, then `run` until its end. A reconnection is a new Room.

    Attributes:
        mesh_id: the mesh.
        own_user_id: the user that we are.
        lang: the language of what is said; may be changed at any time.
        own_messages: ids of messages that are ours; hand it to the next Room so that it knows the older ones.
        server_clock: hand it to the next Room as well.
    """

    def __init__(
        self,
        *,
        mesh_id: str,
        server: str,
        session: Session,
        ssl_context: ssl.SSLContext,
        proxy: Proxy | None = None,
        listener: RoomListener,
        lang: str = "en",
        own_messages: OwnMessages | None = None,
        chat_forms: ChatForms | None = None,
        ask_chat_form: Callable[[ChatForms], Awaitable[None]] | None = None,
        server_clock: ServerClock | None = None,
        timings: Timings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mesh_id = mesh_id
        self.own_user_id = session.user_id
        self.lang = lang
        self.own_messages = OwnMessages() if own_messages is None else own_messages
        self.server_clock = server_clock or ServerClock()
        self._chat_forms = chat_forms or ChatForms(None, clock)
        self._ask_chat_form = ask_chat_form
        self._resend_timer: asyncio.TimerHandle | None = None
        self._resend_tasks: set[asyncio.Task[None]] = set()
        self._server = server
        self._session = session
        self._ssl_context = ssl_context
        self._proxy = proxy
        self._listener = listener
        self._timings = timings or Timings()
        self._clock = clock
        self._created_at = clock()
        self._tracker = RoomTracker()
        self._peer: Peer | None = None
        self._joined = False
        self._kicked = False
        self._failed_open: Close | None = None
        self._caught_up = False

    @property
    def connected(self) -> bool:
        """Whether the server has let us in and the connection has not begun to end."""
        return self._joined and self._peer is not None and not self._peer.ending

    @property
    def closed(self) -> Close | None:
        """How the connection ended, or what the failure of its opening means; None before."""
        return self._peer.closed if self._peer else self._failed_open

    @property
    def users(self) -> frozenset[int]:
        """Who is in the mesh, ourselves too; empty until known."""
        return self._tracker.state.users

    @property
    def state(self) -> RoomState:
        """What is known of the mesh."""
        return self._tracker.state

    @property
    def last_received_at(self) -> float:
        """When the server last sent anything, by the room's clock; until it does, when the room was made."""
        return self._peer.last_received_at if self._peer else self._created_at

    def is_own(self, message_id: str) -> bool:
        """Whether that message is ours, by our id or by the server's."""
        return message_id in self.own_messages

    def ids_of(self, message_id: str) -> frozenset[str]:
        """All ids that a message of ours is known by, this one among them."""
        return self.own_messages.ids_of(message_id)

    def set_initial_users(self, users: Iterable[int]) -> None:
        """Set the users according to Rave's API; without this call, the first state message sets them.

        Ignored after a state message with users, which is newer. Reports no joins.
        """
        self._tracker.set_initial_users(users)

    async def open(self) -> None:
        """Connect, and return once the server has granted fullyJoined. To stop it, cancel it.

        Raises `RaveError`; `closed` then says what the failure means.
            Network, Tls, Timeout, BadData: no proper connection.
            BadRequest, Unauthorized, Forbidden, NotFound, RateLimited, ServerError, or Refused, all with a `status`
                attribute: the upgrade was refused.
            Refused with an `error_code` attribute: fullyJoined was refused.
            TooLarge: the server sends more than we take.
            Closed: the connection ended before we were let in.
        """
        try:
            async with asyncio.timeout(self._timings.opening_timeout_s):
                await self._join()
        except TimeoutError as e:
            error = RaveError(
                Code.TIMEOUT, f"{self._server} did not let us in within {self._timings.opening_timeout_s:g} s"
            )
            await self._close_failed_open(error)
            raise error from e
        except RaveError as e:
            await self._close_failed_open(e)
            if self.closed and self.closed.kind is CloseKind.TOO_LARGE:
                raise RaveError(Code.TOO_LARGE, self.closed.reason) from e
            raise
        except asyncio.CancelledError:
            await self._close_cancelled_open()
            raise
        self._chat_forms.disconnected()
        self._joined = True

    async def run(self) -> Close:
        """Return when the connection has ended; at once when it failed to open."""
        if self._peer:
            return await self._peer.wait()
        assert self._failed_open, "run() belongs after open()"
        return self._failed_open

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection, if there is one, and return when it has ended."""
        if self._peer:
            self._peer.end(CloseKind.LOCAL, code, reason)
            await self._peer.wait()

    async def chat(
        self,
        text: str,
        *,
        reply_to: str | None = None,
        mentions: Sequence[Mention] = (),
        media: Sequence[Media] = (),
    ) -> str:
        """Send a chat message and return its id; with `media` the text may be empty.

        Waits a little for the server's answer or the echo, and takes silence for consent.
        Raises `RaveError`: Closed when not connected, Refused when the server says no, Timeout when it takes nothing.
        """
        if self._ask_chat_form and not self._chat_forms.known:
            # Another bot may have found out meanwhile; the parent knows.
            await self._ask_chat_form(self._chat_forms)
        peer = self._connected_peer()
        message_id = str(uuid.uuid4())
        self.own_messages.remember(message_id)
        data = chat_data(message_id, text, self.lang, reply_to, mentions, media)
        form = self._chat_forms.send(message_id, text, data)
        self._schedule_resend()
        await self._send_chat(peer, message_id, data, form)
        return message_id

    async def _send_chat(self, peer: Peer, message_id: str, data: Object, form: ChatForm) -> None:
        if form is ChatForm.NOTIFICATION:
            await peer.notify("chatMessage", data)
            return
        try:
            await peer.announce("chatMessage", data, self._timings.chat_answer_timeout_s, message_id)
        except RaveError as e:
            if e.code is not Code.REFUSED:
                raise
            other = self._chat_forms.refused(message_id, int(e.attributes["error_code"]), e.message)
            if other is None:
                raise
            _log.info("%s refuses chat as a request, so it gets notifications: %s", self._server, e.message)
            await self._send_chat(peer, message_id, data, other)

    def _schedule_resend(self) -> None:
        if self._resend_timer:
            self._resend_timer.cancel()
            self._resend_timer = None
        due = self._chat_forms.next_due
        if due is not None:
            self._resend_timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()), self._resend)

    def _resend(self) -> None:
        """Send again, in the other form, what has had no echo."""
        self._resend_timer = None
        if self._peer is None or not self.connected:
            return
        due = self._chat_forms.next_due
        if due is not None and self._clock() > due + _TIMER_SLACK_S and not self._caught_up:
            # The process was stopped, or the machine asleep: an echo may be waiting to be read.
            self._caught_up = True
            self._resend_timer = asyncio.get_running_loop().call_later(_TIMER_SLACK_S, self._resend)
            return
        self._caught_up = False
        for sent in self._chat_forms.due():
            task = asyncio.create_task(self._send_again(self._peer, sent.id, sent.data, sent.form))
            self._resend_tasks.add(task)
            task.add_done_callback(self._resend_tasks.discard)
        self._schedule_resend()

    async def _send_again(self, peer: Peer, message_id: str, data: Object, form: ChatForm) -> None:
        try:
            await self._send_chat(peer, message_id, data, form)
        except RaveError as e:
            _log.debug("a message was sent again in vain: %s", e)

    async def send_reaction(self, reaction: Reaction) -> None:
        """React to a message. Raises `RaveError` as `chat`.

        It goes out once, in the form that is known so far, and `chat_forms` does not hear of it: whether servers echo
        reactions is unknown, so a missing echo says nothing.
        """
        peer = self._connected_peer()
        reaction_id, forms = str(uuid.uuid4()), self._chat_forms
        data = reaction_data(reaction_id, reaction._replace(to=self.own_messages.shown_as(reaction.to)))
        if forms.form is ChatForm.NOTIFICATION:
            await peer.notify("chatMessage", data)
            return
        try:
            await peer.announce("chatMessage", data, self._timings.chat_answer_timeout_s, reaction_id)
        except RaveError as e:
            if e.code is not Code.REFUSED or forms.known:
                raise
            # It may be the form that it refuses.
            await peer.notify("chatMessage", data)

    async def typing(self) -> None:
        """Show that a message is being typed. Raises `RaveError`: Closed, Timeout."""
        await self._connected_peer().notify("typing", {})

    async def typing_stop(self) -> None:
        """Show that none is any more. Raises `RaveError`: Closed, Timeout."""
        await self._connected_peer().notify("typing_stop", {})

    def _connected_peer(self) -> Peer:
        if self._peer is None or not self.connected:
            raise RaveError(Code.CLOSED, "not connected to the mesh")
        return self._peer

    async def _join(self) -> None:
        server = address.parse(self._server)
        self.server_clock.connected()
        connection = await Connection.open(
            server,
            server.url(self.mesh_id, self._session.peer_id),
            token=self._session.auth_token,
            ssl_context=self._ssl_context,
            proxy=self._proxy,
            clock=self._clock,
            timeout_s=self._timings.closing_timeout_s,
        )
        handlers = {
            "stateMessage": self._on_state,
            "chatMessage": self._on_chat,
            "kicked": self._on_kicked,
            "disconnected": self._on_disconnected,
        }
        self._peer = Peer(connection, handlers, self._timings, self._clock)
        await self._peer.request("fullyJoined", {}, self._timings.answer_timeout_s)

    async def _close_failed_open(self, error: RaveError) -> None:
        """Close the connection after a failed opening, and set `closed`."""
        if self._peer is None:
            status = error.attributes.get("status")
            kind = CloseKind.LOST if status is None else CloseKind.REFUSED
            self._failed_open = Close(kind, int(status or 0), error.message, 0.0, opened=False)
            return
        if error.code is not Code.CLOSED:
            # Code 500 and above is the server's own trouble.
            rejected = error.code is Code.REFUSED and int(error.attributes["error_code"]) < 500
            self._peer.end(CloseKind.REJECTED if rejected else CloseKind.LOST, 1000, error.message)
        await self._peer.wait()

    async def _close_cancelled_open(self) -> None:
        reason = "the opening was stopped"
        if self._peer is None:
            self._failed_open = Close(CloseKind.LOCAL, 0, reason, 0.0, opened=False)
            return
        self._peer.end(CloseKind.LOCAL, 1000, reason)
        try:
            # The server may have let us in already: send it a close frame.
            async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                await self._peer.wait()
        except TimeoutError:
            pass
        finally:
            self._peer.abort()
            await self._peer.wait()

    def _on_chat(self, data: Object) -> None:
        message = parse_chat(data)
        if message.sender_peer == self._session.peer_id:
            self._on_echo(message)
        elif not self._open_peer().ending:
            self._listener.on_chat(message)

    def _on_echo(self, message: ChatMessage) -> None:
        forms = self._chat_forms
        if message.reaction:
            self._open_peer().acknowledge(message.id)
            return
        before = forms.known
        ours = forms.echoed(message.id, message.text, known_id=self.is_own(message.id))
        self.own_messages.remember(message.id, ours)
        self._open_peer().acknowledge(ours or message.id)
        if forms.known and not before and forms.form is ChatForm.NOTIFICATION:
            _log.info("%s shows chat that comes as a notification, and not as a request", self._server)
        self._schedule_resend()

    def _on_state(self, data: Object) -> None:
        state = parse_state(data)
        if state.kicked and self.own_user_id in state.kicked:
            self._on_kicked(data)
        if self._open_peer().ending:
            return
        if state.playback and state.playback.time is not None:
            self.server_clock.observe(state.playback.time)
        changes = self._tracker.update(state)
        if changes:
            # No more than the names: addresses of videos may grant access to them.
            _log.debug("the room has changed: %s", ", ".join(type(change).__name__ for change in changes))
        for change in changes:
            match change:
                case UsersJoined(users):
                    self._listener.on_joined(users)
                case UsersLeft(users):
                    self._listener.on_left(users)
                case _:
                    self._listener.on_change(change)

    def _on_kicked(self, _data: Object) -> None:
        if not self._kicked:
            self._kicked = True
            self._open_peer().end(CloseKind.KICKED, _KICKED_CODE, "kicked")
            self._listener.on_kicked()

    def _on_disconnected(self, _data: Object) -> None:
        # The reason is unknown. The worker asks Rave's API whether the mesh still exists before it reconnects.
        self._open_peer().end(CloseKind.LOST, 1000, "the server said disconnected")

    def _open_peer(self) -> Peer:
        assert self._peer, "only a peer calls the handlers"
        return self._peer
