"""The bot: turns what is heard in a mesh into commands and events, and runs their handlers."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ravesvc.bot.command import BotInfo, Command, Context, EventHandler, Registry
from ravesvc.bot.command_names import SETTINGS
from ravesvc.bot.display_names import DisplayNames, Lookup
from ravesvc.bot.event import Event, EventKind
from ravesvc.bot.hearing import Hearing, ReplyLoopGuard, SeenMessages
from ravesvc.bot.limits import CommandLimits, Cooldowns, RateLimited, Throttle
from ravesvc.bot.outbox import Outbox, RoomLike
from ravesvc.bot.parsing import Invocation, parse
from ravesvc.bot.permissions import Permissions
from ravesvc.bot.room_settings import RoomSettings
from ravesvc.common.task_group import Tasks
from ravesvc.common.text import printable
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.common.translation import ENGLISH, joined, load, translate
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError, new_incident, with_incident
from ravesvc.room.changes import Change, RoomKnown, UsersJoined, UsersLeft
from ravesvc.room.chat import ChatMessage

if TYPE_CHECKING:
    from ravesvc.bot.room_api import RoomApi

log = logging.getLogger(__name__)

# Failures that tell the asker something, but nothing to those who run the bot.
_USER_ERRORS = frozenset({Code.INVALID_ARGUMENT, Code.ACCESS_DENIED, Code.BUSY, Code.LAST_ADMIN})
# Failures may come from far away. More than this is no sentence.
_MAX_ERROR_CHARS = 500
_LOOP_NOTICE = _(
    "This looks like two bots that answer each other. I listen again after a minute, or when someone else writes"
)


class Bot:
    """One bot in one mesh. It lives as long as the process; rooms are attached as connections come and go.

    The methods called `on_...` are those of a room's listener. Without a room they do nothing.

    Attributes:
        permissions: asked before every command; may be replaced at any time. None while nobody has said yet who may
            run what: then all commands are refused.
        ignored_users: never heard and never answered unless they are admins; may be replaced at any time.
        outbox: for messages that answer nobody.
    """

    def __init__(
        self,
        *,
        facts: BotInfo,
        registry: Registry,
        permissions: Permissions | None,
        first_admin: str = "",
        prefixes: Sequence[str],
        lang: str = ENGLISH,
        typing_delay: float,
        lookup: Lookup,
        rave: RoomApi,
        ignored_users: Iterable[int] = (),
        limits: CommandLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        troubled: Callable[[str, str], None] = lambda source, what: None,
    ) -> None:
        """Prepare the bot; it needs no running loop yet.

        Args:
            facts: shown by commands, kept up to date by the caller, on the same `clock`.
            registry: commands and event handlers.
            permissions: see the attribute.
            first_admin: how the first admin is made, for those who are refused while there is none.
            prefixes: what a command may start with, the first that fits counts.
            lang: the language in which to answer, such as `de`; English if it is none that the bot knows.
            typing_delay: seconds of "is typing" before each message; 0 for none.
            lookup: from user ids to display names.
            rave: what can be asked of Rave for the mesh.
            ignored_users: see the attribute.
            limits: the default ones if None.
            clock: monotonic seconds.
            sleep: waits for that many seconds.
            troubled: hears of commands and handlers that somebody else wrote when they fail: their source, and what
                has happened.

        Raises:
            RaveError: Config, without a prefix or with an empty one, which would make every message a command.
        """
        if not prefixes or not all(prefixes):
            raise RaveError(Code.CONFIG, "a bot needs command prefixes, none of them empty", key="command_prefix")
        self.permissions = permissions
        self._first_admin = first_admin
        self._facts = facts
        self._registry = registry
        self._prefixes = self._usual_prefixes = tuple(prefixes)
        self._usual_lang = lang
        self._settings = RoomSettings()
        self.ignored_users = frozenset(ignored_users)
        self._limits = limits or CommandLimits()
        self._clock = clock
        self._throttle = Throttle(self._limits, clock)
        self._cooldowns = Cooldowns(clock)
        self._troubled = troubled
        self._people = DisplayNames(lookup, clock=clock)
        self._rave = rave
        self._seen = SeenMessages()
        self._loops = ReplyLoopGuard(clock)
        self.outbox = Outbox(
            typing_delay=typing_delay, limits=self._limits, clock=clock, sleep=sleep, saying=self._loops.said
        )
        self.use_settings(self._settings)
        self._room: RoomLike | None = None
        self._watchers: list[Callable[[Change], None]] = []
        self._commands = Tasks(self._limits.running)
        # For admins, when what others have asked for takes all places.
        self._commands_of_admins = Tasks(self._limits.reserved)
        self._others = Tasks(self._limits.running)
        self._losses = TokenBucket(Rate(1, 1 / 60), clock())
        # By source: what is slow, or never ends, takes no place away from anything else.
        self._foreign: dict[tuple[str, Tasks], Tasks] = {}

    @property
    def room(self) -> RoomLike | None:
        """The room that it talks in; None while there is none."""
        return self._room

    @property
    def settings(self) -> RoomSettings:
        """Those in force."""
        return self._settings

    def watch(self, on_change: Callable[[Change], None]) -> None:
        """Call a part of this program for each change of the room, in their order; it must not block.

        Each room begins with `RoomKnown`, unless it ends before it has told what plays.
        """
        self._watchers.append(on_change)

    def use_settings(self, settings: RoomSettings) -> None:
        """Answer from now on as the room wants it."""
        self._settings = settings
        self._prefixes = (settings.prefix,) if settings.prefix else self._usual_prefixes
        self.outbox.catalogue = load(settings.lang or self._usual_lang)

    def attach(self, room: RoomLike) -> None:
        """Talk in this room from now on; call it when the room is open."""
        self._room = room
        self.outbox.attach(room)
        self._emit(EventKind.CONNECTED, [None])
        if room.state.known:
            # It came, and was lost, before we were told that we are in.
            self.on_change(RoomKnown(room.state))

    def detach(self) -> None:
        """The room is gone. Handlers go on; what they send fails until the next room."""
        self._room = None
        self.outbox.detach()

    async def close(self) -> None:
        """Detach, cancel all handlers and return when they have ended."""
        self.detach()
        for tasks in (self._commands, self._commands_of_admins, self._others, *self._foreign.values()):
            await tasks.close()
        await self.outbox.close()

    async def name(self, user: int) -> str:
        """A user's display name, fit for a chat text."""
        return await self._people.name(user)

    async def names(self, users: Sequence[int]) -> list[tuple[int, str]]:
        """Users with their display names, for people; with a stand-in where a name can't be had."""
        await self._people.learn(users)
        return [(user, await self._people.name(user)) for user in users]

    def forget_user(self, user: int) -> None:
        """Remember nothing of a user."""
        self._people.forget(user)

    async def settle(self) -> None:
        """Return when all that was begun has ended: commands, event handlers and answers."""
        # A command may have others begin.
        for _round in range(2):
            for tasks in (*self._foreign.values(), self._commands, self._commands_of_admins, self._others):
                await tasks.settle()

    def on_chat(self, message: ChatMessage) -> None:
        """Somebody wrote something."""
        room = self._room
        if room is None or not self._hears(room, message):
            return
        invocation = self._invocation(message)
        command = self._registry.get(invocation.name) if invocation else None
        if invocation is None or command is None:
            self._emit(EventKind.MESSAGE, [message.sender], message)
        elif self._may_run(command, message):
            context = self._context(room, command, invocation, message)
            if not self._start(context):
                # Unlike the rate, this is no fault of the asker's: somebody may want to know what takes so long.
                incident = new_incident()
                log.warning("%s", with_incident(f"command {command.title} not run: too many are running", incident))
                self._tell(message, _with_id(_("Too many commands are running. Try again in a minute"), incident))

    def on_joined(self, users: frozenset[int]) -> None:
        """Users came."""
        self.on_change(UsersJoined(users))
        self._emit(EventKind.USER_JOIN, sorted(users))

    def on_left(self, users: frozenset[int]) -> None:
        """Users went."""
        self.on_change(UsersLeft(users))
        self._emit(EventKind.USER_LEFT, sorted(users))

    def on_change(self, change: Change) -> None:
        """Something in the room is different now."""
        if self._room is None:
            return
        for watcher in self._watchers:
            try:
                watcher(change)
            except Exception:
                # A bug in one part must not cost the others a change.
                log.exception("a watcher failed at %s", type(change).__name__)

    def on_kicked(self) -> None:
        """The bot was thrown out."""
        self._emit(EventKind.KICKED, [None])

    def _hears(self, room: RoomLike, message: ChatMessage) -> bool:
        """Whether to listen to a message."""
        user = message.sender
        # Its own account may be in the room with other devices as well.
        if user == room.own_user_id or self._seen.again(message):
            return False
        if self.permissions and user in self.permissions.admins:
            self._loops.trust(user)
            return True
        if user in self.ignored_users:
            return False
        answers_us = message.reply_to is not None and room.is_own(message.reply_to)
        hearing = self._loops.hear(user, message.text, answers_us=answers_us)
        if hearing is Hearing.STOP:
            log.warning("User %s seems to be a bot that answers ours: not heard for a while", user)
            self._tell(message, _LOOP_NOTICE)
        return hearing is Hearing.HEAR

    def _invocation(self, message: ChatMessage) -> Invocation | None:
        """What a message asks for, with a prefix that counts here."""
        found = parse(message.text, self._prefixes)
        if found or not self._settings.prefix:
            return found
        # Else a room would be lost whose admins can't type its prefix, or have forgotten it.
        usual = parse(message.text, self._usual_prefixes)
        is_admin = self.permissions is not None and message.sender in self.permissions.admins
        return usual if usual and usual.name == SETTINGS and is_admin else None

    def _may_run(self, command: Command, message: ChatMessage) -> bool:
        admins = self.permissions.admins if self.permissions else frozenset()
        count = self._throttle.refusal_of_admin if message.sender in admins else self._throttle.refusal
        refusal = count(message.sender)
        if refusal:
            wait = _("Too many commands. Try again in {n} s", n=math.ceil(refusal.wait))
            self._refuse(command, message, refusal, wait)
            return False
        if self._settings.is_off(command.group):
            self._tell(
                message,
                _(
                    "That is switched off in this room. Admins can change it with {command}",
                    command=f"{self._prefixes[0]}settings",
                ),
            )
            return False
        if self.permissions is None:
            why = _("The service behind this bot does not answer yet. Try again in a while")
        elif not self.permissions.allows(command, message.sender):
            text = _("Only admins may use {command}", command=f"{self._prefixes[0]}{command.name}")
            why = joined(". ", [text, self._way_to_be_admin(self.permissions)])
        else:
            cooling = self._cooldowns.refusal(command.name, command.cooldown, message.sender)
            if cooling:
                name = f"{self._prefixes[0]}{command.name}"
                wait = _("You may use {command} again in {n} s", command=name, n=math.ceil(cooling.wait))
                self._refuse(command, message, cooling, wait)
            return cooling is None
        incident = new_incident()
        log.info("%s", with_incident(f"command {command.name} refused to user {message.sender}", incident))
        self._tell(message, _with_id(why, incident))
        return False

    def _way_to_be_admin(self, permissions: Permissions) -> str:
        if permissions.without_admin and self._first_admin:
            return _("There is no admin yet: {what}", what=self._first_admin)
        return _("Ask an admin")

    def _refuse(self, command: Command, message: ChatMessage, refusal: RateLimited, text: str) -> None:
        # No id, as nothing has failed: with a line for each, whoever floods the chat would flood the log as well.
        log.debug("command %s of user %s exceeds the rate", command.name, message.sender)
        if refusal.first:
            self._tell(message, text)

    def _start(self, context: Context) -> bool:
        """Run a command; False when too many are running."""
        source = context.command.source
        if self._tasks(source, self._commands).start(self._run, context):
            return True
        is_admin = context.user_id in context.permissions.admins
        return is_admin and not source and self._commands_of_admins.start(self._run, context)

    def _tasks(self, source: str, own: Tasks) -> Tasks:
        """Where something of a source runs: `own` for what is the program's, for others a place like it."""
        return self._foreign.setdefault((source, own), Tasks(self._limits.running)) if source else own

    def _context(self, room: RoomLike, command: Command, invocation: Invocation, message: ChatMessage) -> Context:
        assert self.permissions, "without them no command runs"
        return Context(
            command=command,
            args=invocation.args,
            message=message,
            mesh_id=room.mesh_id,
            own_user_id=room.own_user_id,
            users=room.users,
            room=room.state,
            server_now=room.server_clock.now(),
            prefixes=self._prefixes,
            facts=self._facts,
            now=self._clock(),
            registry=self._registry,
            settings=self._settings,
            permissions=self.permissions,
            outbox=self.outbox,
            people=self._people,
            rave=self._rave,
        )

    async def _run(self, context: Context) -> None:
        command, message = context.command, context.message
        seconds, title = command.seconds, command.title
        incident = new_incident()
        try:
            async with asyncio.timeout(self._limits.seconds if seconds is None else seconds):
                await command.handler(context)
        except RaveError as error:
            if error.code is Code.INVALID_ARGUMENT:
                # Who has mistyped tries again at once; that many in a row are too many is for the throttle to say.
                self._cooldowns.take_back(command.name, command.cooldown, message.sender)
            level = logging.INFO if error.code in _USER_ERRORS else logging.WARNING
            # The service may have logged the cause already: one id finds both.
            incident = str(error.attributes.get("incident", incident))
            details = {key: value for key, value in error.attributes.items() if key != "incident"}
            text = with_incident(f"command {title} failed", incident)
            log.log(level, "%s: %s%s", text, error, f" {details}" if details else "")
            await self._answer(message, _with_id(self._in_words(error), incident))
        except TimeoutError:
            log.warning("%s", with_incident(f"command {title} took too long", incident), exc_info=True)
            self._note(command.source, f"the command {command.name} took too long")
            await self._answer(message, _with_id(_("That took too long"), incident))
        except Exception as error:
            log.exception("%s", with_incident(f"command {title} failed", incident))
            self._note(command.source, f"the command {command.name} failed: {type(error).__name__}")
            await self._answer(message, _with_id(_("Something went wrong"), incident))

    def _note(self, source: str, what: str) -> None:
        if source:
            self._troubled(source, what)

    def _tell(self, message: ChatMessage, text: str) -> None:
        if not self._others.start(self._answer, message, text):
            log.warning("too busy to answer a message")

    async def _answer(self, message: ChatMessage, text: str) -> None:
        try:
            await self.outbox.send(text, reply_to=message.id or None)
        except RaveError as error:
            log.info("cannot answer a message: %s", error)

    def _emit(self, kind: EventKind, users: Sequence[int | None], message: ChatMessage | None = None) -> None:
        if self._room is None:
            return
        for part in self._registry.parts:
            handlers = part.handlers(kind)
            if handlers:
                events = [self._event(self._room, kind, user, message) for user in users]
                if not self._tasks(part.source, self._others).start(self._handle_all, part.source, handlers, events):
                    self._warn_of_loss(kind, part.source)

    def _warn_of_loss(self, kind: EventKind, source: str) -> None:
        """Once a minute: each message of the chat would be another."""
        now = self._clock()
        if self._losses.take(now) == 0:
            where = f" for {source}" if source else ""
            log.warning("too many event handlers are running: %s is lost%s, more may be", kind, where)

    def _event(self, room: RoomLike, kind: EventKind, user_id: int | None, message: ChatMessage | None) -> Event:
        mentions = message.mentions if message else ()
        reply_to = message.reply_to if message else None
        return Event(
            kind=kind,
            mesh_id=room.mesh_id,
            user_id=user_id,
            message=message,
            mentions_bot=any(mention.user_id == room.own_user_id for mention in mentions),
            replies_to_bot=reply_to is not None and room.is_own(reply_to),
            outbox=self.outbox,
            people=self._people,
            rave=self._rave,
        )

    def _in_words(self, error: RaveError) -> str:
        """A failure as sentences on one line, the last one without its stop."""
        said = [translate(text, self.outbox.catalogue) for text in (error.message, error.hint) if text]
        return printable(". ".join(text[:1].upper() + text[1:] for text in said), _MAX_ERROR_CHARS)

    async def _handle_all(self, source: str, handlers: Sequence[EventHandler], events: Sequence[Event]) -> None:
        if len(events) > 1:
            # In one go rather than one by one as handlers ask for them.
            await self._people.learn([event.user_id for event in events if event.user_id is not None])
        for event in events:
            for handler in handlers:
                await self._handle(source, handler, event)

    async def _handle(self, source: str, handler: EventHandler, event: Event) -> None:
        try:
            async with asyncio.timeout(self._limits.seconds):
                await handler(event)
        except Exception as error:
            log.exception("a handler of %s failed%s", event.kind, f" in {source}" if source else "")
            # Ours are about the room, such as one that is gone.
            if not isinstance(error, RaveError):
                what = "took too long" if isinstance(error, TimeoutError) else f"failed: {type(error).__name__}"
                self._note(source, f"a handler of {event.kind} {what}")


def _with_id(text: str, incident: str) -> str:
    """`with_incident` for the chat."""
    return _("{text} (error {id})", text=text, id=incident)
