"""The bot: turns the messages and changes of a mesh into commands and events, and runs their handlers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING

from ravesvc.bot.command import BotInfo, Command, Context, EventHandler, PluginTimer, Registry
from ravesvc.bot.command_names import SETTINGS
from ravesvc.bot.dialogue import Dialogue, NoAnswerError, Questions
from ravesvc.bot.display_names import DisplayNames, Lookup
from ravesvc.bot.event import Event, EventKind
from ravesvc.bot.limits import CommandLimits, Cooldowns, Per, RateLimited, Throttle, held_back
from ravesvc.bot.message_filter import LoopVerdict, ReplyLoopGuard, SeenMessages
from ravesvc.bot.outbox import Outbox
from ravesvc.bot.parsing import Invocation, parse
from ravesvc.bot.plugin_store import PluginStore, RoomPluginDocument, SharedPluginDocument
from ravesvc.bot.room_settings import RoomSettings
from ravesvc.bot.video_finder import VideoFinder
from ravesvc.common.error_text import Audience, present
from ravesvc.common.task_group import Idle, Tasks
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.common.translation import ENGLISH, joined, load
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError, new_incident, with_incident
from ravesvc.room.changes import Change, RoomKnown, RoomState, UsersJoined, UsersLeft, VideoChanged, VideoEnded
from ravesvc.room.chat import ChatMessage

if TYPE_CHECKING:
    from ravesvc.bot.dialogue import TimeLimit
    from ravesvc.bot.http import Http
    from ravesvc.bot.outbox import RoomLike
    from ravesvc.bot.permissions import Permissions
    from ravesvc.bot.plugin_store import Documents
    from ravesvc.bot.room_api import RoomApi

log = logging.getLogger(__name__)

# Failures that are the user's own to correct. The operator need not see them, so they are logged as INFO only.
_USER_ERRORS = frozenset({Code.INVALID_ARGUMENT, Code.ACCESS_DENIED, Code.BUSY, Code.LAST_ADMIN})
# The words of a failure may come from Rave, which sets them no bound.
_MAX_ERROR_CHARS = 500
# For what a plugin says of a failure of its own.
_EXPLAIN_S = 10.0
# For what a plugin does when it is no longer in force. A bot that is stopped has some seconds in all.
_UNLOAD_S = 2.0
# Of the event loop, until a task that was woken has started another.
_TURNS = 20
_LOOP_NOTICE = _(
    "This looks like two bots that answer each other. I listen again after a minute, or when another user writes"
)


class Bot:
    """One bot in one mesh. It lives as long as the worker; each connection to the mesh is attached to it as a `Room`.

    The methods called `on_...` are those of a room's listener. Without a room they do nothing.

    Attributes:
        permissions: checked before every command; may be replaced at any time. None until the parent has sent the
            first ones: until then the bot refuses all commands.
        ignored_users: the bot ignores their messages unless they are admins; may be replaced at any time.
        outbox: for messages that are no answer.
        idle: which of the tasks that run handlers do nothing but wait.
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
        http: Http,
        documents: Documents,
        videos: VideoFinder,
        secrets: Mapping[str, str],
        ignored_users: Iterable[int] = (),
        limits: CommandLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        rate_clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        pause: Callable[[float], Awaitable[None]] | None = None,
        time_limit: Callable[[float], AbstractAsyncContextManager[TimeLimit]] = asyncio.timeout,
        on_plugin_failure: Callable[[str, str], None] = lambda source, what: None,
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
            http: what can be asked of other servers.
            documents: where plugins keep what they know of the mesh.
            videos: finds those that users mean.
            secrets: what the operator hands over to plugins, by name.
            ignored_users: see the attribute.
            limits: the default ones if None.
            clock: monotonic seconds.
            rate_clock: likewise, for the rates of commands and messages; `clock` if None.
            sleep: waits for that many seconds.
            pause: likewise before a message is sent; `sleep` if None.
            time_limit: ends with TimeoutError what takes longer than that many seconds of `clock`.
            on_plugin_failure: called when a command or handler of a plugin fails, with its source and what happened.

        Raises:
            RaveError: Config, without a prefix or with an empty one, which would make every message a command.
        """
        if not prefixes or not all(prefixes):
            raise RaveError(Code.CONFIG, "a bot needs command prefixes, none of them empty", key="command_prefix")
        self.permissions = permissions
        self._first_admin = first_admin
        self._facts = facts
        self._registry = registry
        self._prefixes = self._default_prefixes = tuple(prefixes)
        self._default_lang = lang
        self._settings = RoomSettings()
        self.ignored_users = frozenset(ignored_users)
        self._limits = limits or CommandLimits()
        self._clock = clock
        self._throttle = Throttle(self._limits, rate_clock or clock)
        self._cooldowns = Cooldowns(clock)
        self._report_failure = on_plugin_failure
        self._display_names = DisplayNames(lookup, clock=clock)
        self._rave = rave
        self._http = http
        self._seen_messages = SeenMessages()
        self._loop_guard = ReplyLoopGuard(clock)
        self.outbox = Outbox(
            typing_delay=typing_delay,
            limits=self._limits,
            clock=rate_clock or clock,
            sleep=pause or sleep,
            on_send=self._loop_guard.record_sent,
        )
        self.apply_settings(self._settings)
        self._room: RoomLike | None = None
        # Empty before the first room.
        self._mesh_id = ""
        self._watchers: list[Callable[[Change], None]] = []
        self._command_tasks = Tasks(self._limits.max_running)
        # For admins, when commands of other users take all places.
        self._admin_command_tasks = Tasks(self._limits.reserved_for_admins)
        self._background_tasks = Tasks(self._limits.max_running)
        self._loss_warnings = TokenBucket(Rate(1, 1 / 60), clock())
        # By source: a plugin whose handlers are slow, or never end, takes no place of another.
        self._plugin_tasks: dict[tuple[str, Tasks], Tasks] = {}
        self._timers: dict[Registry, list[asyncio.Task[None]]] = {}
        self._timer_tasks = Tasks(self._limits.max_running)
        # Plugins in force whose `on_load` waits for a room.
        self._unwelcomed: set[Registry] = set()
        self._sleep = sleep
        self._time_limit = time_limit
        self.idle = Idle()
        self._questions = Questions(clock, sleep, self.idle)
        self._documents = documents
        self._videos = videos
        self._secrets = secrets
        # By source.
        self._kept: dict[str, tuple[RoomPluginDocument, SharedPluginDocument]] = {}

    @property
    def room(self) -> RoomLike | None:
        """The room that it is attached to; None while there is none."""
        return self._room

    @property
    def settings(self) -> RoomSettings:
        """The settings in force."""
        return self._settings

    def _settings_now(self) -> RoomSettings:
        return self._settings

    def watch(self, on_change: Callable[[Change], None]) -> None:
        """Call `on_change` for each change of the room, in their order; it must not block.

        Each room begins with `RoomKnown`, unless the connection ends before the server has said what plays.
        """
        self._watchers.append(on_change)

    def apply_settings(self, settings: RoomSettings) -> None:
        """Use these prefixes and this language from now on."""
        self._settings = settings
        self._prefixes = (settings.prefix,) if settings.prefix else self._default_prefixes
        self.outbox.catalogue = load(settings.lang or self._default_lang)

    def attach(self, room: RoomLike) -> None:
        """Use this room from now on; call it when the room is open."""
        self._room, self._mesh_id = room, room.mesh_id
        self.outbox.attach(room)
        for part in self._registry.parts:
            if part in self._unwelcomed:
                self._welcome(part)
            else:
                self._emit_to(part, EventKind.CONNECTED, [None])
        if room.state.known:
            # The state came before `attach`, so `on_change` has dropped its `RoomKnown`.
            self.on_change(RoomKnown(room.state))

    def detach(self) -> None:
        """The room is gone. Handlers go on; what they send fails until the next room."""
        self._room = None
        self.outbox.detach()

    async def close(self) -> None:
        """Detach, cancel all handlers and return when they have ended."""
        self.detach()
        for part in list(self._timers):
            await self._end_timers(part)
        for tasks in (
            self._command_tasks,
            self._admin_command_tasks,
            self._background_tasks,
            *self._plugin_tasks.values(),
        ):
            await tasks.close()
        await self.outbox.close()

    def start_plugin(self, part: Registry) -> None:
        """A plugin is in force: run its timers, and its handlers of `on_load` as soon as there is a room."""
        part.tasks.on_failure = partial(self._report_plugin_failure, part.source)
        self._timers[part] = [asyncio.create_task(self._repeat(part.source, timer)) for timer in part.timers]
        self._unwelcomed.add(part)
        if self._room:
            self._welcome(part)

    async def end_plugin(self, part: Registry) -> None:
        """A plugin is no longer in force: end its timers, and run its handlers of `on_unload`."""
        self._questions.end(part.source)
        await self._end_timers(part)
        if part not in self._unwelcomed:
            event = self._event(part.source, EventKind.UNLOAD)
            with contextlib.suppress(TimeoutError):
                async with self._time_limit(_UNLOAD_S):
                    for handler in part.handlers(EventKind.UNLOAD):
                        await self._handle(part.source, handler, event)
        self._unwelcomed.discard(part)

    def _welcome(self, part: Registry) -> None:
        """Tell a plugin that it is in force, and that the bot is in the room, one after the other."""
        self._unwelcomed.discard(part)
        kinds = [kind for kind in (EventKind.LOAD, EventKind.CONNECTED) if part.handlers(kind)]
        events = [(part.handlers(kind), [self._event(part.source, kind)]) for kind in kinds]

        async def welcome() -> None:
            for handlers, event in events:
                await self._handle_all(part.source, handlers, event)

        if events and not self._tasks(part.source, self._background_tasks).start(welcome):
            self._warn_of_loss(EventKind.LOAD, part.source)

    async def _end_timers(self, part: Registry) -> None:
        timers = self._timers.pop(part, [])
        for timer in timers:
            timer.cancel()
        await asyncio.gather(*timers, return_exceptions=True)
        if running := self._plugin_tasks.pop((part.source, self._timer_tasks), None):
            await running.close()

    async def _repeat(self, source: str, timer: PluginTimer) -> None:
        """Run a timer's handler, again and again; what it takes is part of the time between two runs."""
        due = self._clock()
        while True:
            # After a suspend, or a run that took longer, the runs that were missed are not made up for.
            due = max(due + timer.seconds, self._clock())
            await self._sleep(due - self._clock())
            ended = asyncio.Event()
            if self._room and self._tasks(source, self._timer_tasks).start(self._tick, source, timer, ended):
                await ended.wait()

    async def _tick(self, source: str, timer: PluginTimer, ended: asyncio.Event) -> None:
        try:
            await self._handle(source, timer.handler, self._event(source, EventKind.TIMER))
        finally:
            ended.set()

    async def name(self, user: int) -> str:
        """A user's display name, fit for a chat text."""
        return await self._display_names.name(user)

    async def names(self, users: Sequence[int]) -> list[tuple[int, str]]:
        """Users with their display names, for people; with a stand-in where a name can't be had."""
        await self._display_names.prefetch(users)
        return [(user, await self._display_names.name(user)) for user in users]

    def forget_user(self, user: int) -> None:
        """Delete the stored name of a user, and what plugins keep of them."""
        self._display_names.forget(user)
        for documents in self._kept.values():
            for document in documents:
                document.forget(user)

    def _store(self, source: str) -> PluginStore:
        """What a file or package keeps of the room."""
        return PluginStore(self._documents_of(source)[0])

    def _shared(self, source: str) -> PluginStore:
        """What a file or package keeps for all rooms."""
        return PluginStore(self._documents_of(source)[1])

    def _documents_of(self, source: str) -> tuple[RoomPluginDocument, SharedPluginDocument]:
        if source not in self._kept:
            documents = self._documents
            self._kept[source] = RoomPluginDocument(source, documents), SharedPluginDocument(source, documents)
        return self._kept[source]

    async def settle(self) -> None:
        """Return when all that was begun has ended or does nothing but wait: commands, event handlers and answers."""
        # What was woken, or has just been started, begins its work.
        for _turn in range(_TURNS):
            await asyncio.sleep(0)
        # A command may start further tasks, so look a second time.
        for _round in range(2):
            for tasks in (
                *self._plugin_tasks.values(),
                self._command_tasks,
                self._admin_command_tasks,
                self._background_tasks,
            ):
                await self.idle.settle(tasks)

    def on_chat(self, message: ChatMessage) -> None:
        """Run the command in a message, or else the handlers for messages or reactions."""
        room = self._room
        if room is None or not self._accepts(room, message):
            return
        if message.reaction:
            self._emit(EventKind.REACTION, [message.sender], message)
            return
        invocation = self._invocation(message)
        found = self._registry.find(invocation.name, invocation.text) if invocation else None
        if found is None:
            is_answer = self._questions.take(message)
            self._emit(EventKind.MESSAGE, [message.sender], message, is_answer=is_answer)
            return
        command, text = found
        if self._may_run(command, message):
            context = self._context(room, command, text, message)
            if not self._start(context):
                # Unlike an exceeded rate this is not the user's doing: the operator may look for what takes so long.
                incident = new_incident()
                log.warning("%s", with_incident(f"command {command.title} not run: too many are running", incident))
                busy = _("Too many commands are running. Try again in a minute")
                self._start_answer(message, self._present(RaveError(Code.BUSY, busy, incident=incident)))

    def on_joined(self, users: frozenset[int]) -> None:
        """Report users who joined."""
        self.on_change(UsersJoined(users))
        self._emit(EventKind.USER_JOIN, sorted(users))

    def on_left(self, users: frozenset[int]) -> None:
        """Report users who left."""
        self.on_change(UsersLeft(users))
        self._emit(EventKind.USER_LEFT, sorted(users))

    def on_change(self, change: Change) -> None:
        """Pass a change of the room on to the watchers."""
        if self._room is None:
            return
        for watcher in self._watchers:
            try:
                watcher(change)
            except Exception:
                # A bug in one part must not cost the others a change.
                log.exception("a watcher failed at %s", type(change).__name__)
        if isinstance(change, VideoChanged | VideoEnded):
            self._emit(EventKind.VIDEO, [None])

    def on_kicked(self) -> None:
        """Report that the bot was kicked."""
        self._emit(EventKind.KICKED, [None])

    def _accepts(self, room: RoomLike, message: ChatMessage) -> bool:
        """Whether to act on a message."""
        user = message.sender
        # The bot's account may be in the room with other devices as well.
        if user == room.own_user_id or self._seen_messages.is_repeat(message):
            return False
        if self.permissions and user in self.permissions.admins:
            self._loop_guard.trust(user)
            return True
        if user in self.ignored_users:
            return False
        answers_us = message.reply_to is not None and room.is_own(message.reply_to)
        # Users react to one message in their numbers: only to repeat the bot's own emoji is as an answer.
        text = message.reaction.emoji if message.reaction else message.text
        verdict = self._loop_guard.check(user, text, answers_us=answers_us)
        if verdict is LoopVerdict.WARN:
            log.warning("User %s seems to be a bot that answers ours; ours ignores it for a minute", user)
            self._start_answer(message, _LOOP_NOTICE)
        return verdict is LoopVerdict.ACCEPT

    def _invocation(self, message: ChatMessage) -> Invocation | None:
        """What a message asks for, with a prefix that counts here."""
        found = parse(message.text, self._prefixes)
        if found or not self._settings.prefix:
            return found
        # Without this, a room whose admins can't type its prefix, or have forgotten it, could not change it back.
        usual = parse(message.text, self._default_prefixes)
        is_admin = self.permissions is not None and message.sender in self.permissions.admins
        return usual if usual and usual.name == SETTINGS and is_admin else None

    def _may_run(self, command: Command, message: ChatMessage) -> bool:
        admins = self.permissions.admins if self.permissions else frozenset()
        count = self._throttle.count_admin_command if message.sender in admins else self._throttle.count_command
        refusal = count(message.sender)
        if refusal:
            wait = _("Too many commands. Try again in {n} s", n=math.ceil(refusal.wait_s))
            self._refuse(command, message, refusal, wait)
            return False
        if self._settings.is_off(command.group):
            self._start_answer(
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
            why = joined(". ", [text, self._how_to_become_admin(self.permissions)])
        else:
            cooldown = command.cooldown
            is_exempt = message.sender in admins and not cooldown.admins
            whom = held_back(cooldown.per, message.sender, admins)
            cooling = None if is_exempt else self._cooldowns.count_run(command.name, cooldown, whom)
            if cooling:
                name, n = f"{self._prefixes[0]}{command.name}", math.ceil(cooling.wait_s)
                if cooldown.per is Per.USER:
                    wait = _("You may use {command} again in {n} s", command=name, n=n)
                else:
                    wait = _("{command} can be used again in {n} s", command=name, n=n)
                self._refuse(command, message, cooling, wait)
            return cooling is None
        incident = new_incident()
        log.info("%s", with_incident(f"command {command.name} refused to user {message.sender}", incident))
        self._start_answer(message, self._present(RaveError(Code.ACCESS_DENIED, why, incident=incident)))
        return False

    def _how_to_become_admin(self, permissions: Permissions) -> str:
        if permissions.without_admin and self._first_admin:
            return _("There is no admin yet: {what}", what=self._first_admin)
        return _("Ask an admin")

    def _refuse(self, command: Command, message: ChatMessage, refusal: RateLimited, text: str) -> None:
        # No incident id, as nothing has failed. Not INFO: a user who floods the chat would flood the log as well.
        log.debug("command %s of user %s exceeds the rate", command.name, message.sender)
        if refusal.first_in_burst:
            self._start_answer(message, text)

    def _start(self, context: Context) -> bool:
        """Run a command; False when too many are running."""
        source = context.command.source
        if self._tasks(source, self._command_tasks).start(self._run, context):
            return True
        is_admin = context.user_id in context.permissions.admins
        return is_admin and self._tasks(source, self._admin_command_tasks).start(self._run, context)

    def _tasks(self, source: str, own: Tasks) -> Tasks:
        """The tasks for a source: `own` for the program itself, tasks of its own for each plugin."""
        return self._plugin_tasks.setdefault((source, own), Tasks(own.limit)) if source else own

    def _context(self, room: RoomLike, command: Command, text: str, message: ChatMessage) -> Context:
        assert self.permissions, "without them no command runs"
        return Context(
            command=command,
            text=text,
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
            settings_now=self._settings_now,
            permissions=self.permissions,
            outbox=self.outbox,
            people=self._display_names,
            rave=self._rave,
            http=self._http,
            dialogue=self._dialogue(command.source),
            secrets=self._secrets,
            store=self._store(command.source),
            shared=self._shared(command.source),
        )

    async def _run(self, context: Context) -> None:
        command, message = context.command, context.message
        seconds, title = command.seconds, command.title
        incident = new_incident()
        try:
            async with self._time_limit(self._limits.handler_timeout_s if seconds is None else seconds) as limit:
                context.dialogue.begin(limit)
                await command.handler(context)
        except RaveError as error:
            admins, cooldown = context.permissions.admins, command.cooldown
            is_exempt = message.sender in admins and not cooldown.admins
            if error.code is Code.INVALID_ARGUMENT and not is_exempt:
                # A user who mistyped may try again at once. The throttle still bounds how often.
                self._cooldowns.undo_count(command.name, cooldown, held_back(cooldown.per, message.sender, admins))
            level = logging.INFO if error.code in _USER_ERRORS else logging.WARNING
            # The service may have logged the cause already: one id finds both.
            error.incident = error.incident or incident
            text = with_incident(f"command {title} failed", error.incident)
            log.log(level, "%s: %s%s", text, error, f" {error.attributes}" if error.attributes else "")
            await self._answer(message, self._present(error))
        except TimeoutError:
            log.warning("%s", with_incident(f"command {title} took too long", incident), exc_info=True)
            self._report_plugin_failure(command.source, f"the command {command.name} took too long")
            late = RaveError(Code.TIMEOUT, _("That took too long"), incident=incident)
            await self._answer(message, self._present(late))
        except Exception as error:
            log.exception("%s", with_incident(f"command {title} failed", incident))
            self._report_plugin_failure(command.source, f"the command {command.name} failed: {type(error).__name__}")
            if not await self._explains(context, error):
                unexpected = RaveError(Code.INTERNAL, _("Something went wrong"), incident=incident)
                await self._answer(message, self._present(unexpected))

    async def _explains(self, context: Context, error: Exception) -> bool:
        """Whether the plugin of the command has told the user itself what went wrong."""
        handler = self._registry.error_handler(context.command.source)
        if handler is None:
            return False
        try:
            async with self._time_limit(_EXPLAIN_S):
                await handler(context, error)
        except Exception:
            log.exception("the handler of errors of %s failed", context.command.source)
            return False
        return True

    def _report_plugin_failure(self, source: str, what: str) -> None:
        if source:
            self._report_failure(source, what)

    def _start_answer(self, message: ChatMessage, text: str) -> None:
        if not self._background_tasks.start(self._answer, message, text):
            log.warning("too busy to answer a message")

    async def _answer(self, message: ChatMessage, text: str) -> None:
        try:
            await self.outbox.send(text, reply_to=message.answered_as)
        except RaveError as error:
            log.info("cannot answer a message: %s", error)

    def _emit(
        self,
        kind: EventKind,
        users: Sequence[int | None],
        message: ChatMessage | None = None,
        *,
        is_answer: bool = False,
    ) -> None:
        for part in self._registry.parts:
            self._emit_to(part, kind, users, message, is_answer=is_answer)

    def _emit_to(
        self,
        part: Registry,
        kind: EventKind,
        users: Sequence[int | None],
        message: ChatMessage | None = None,
        *,
        is_answer: bool = False,
    ) -> None:
        handlers = part.handlers(kind)
        if self._room and handlers:
            events = [self._event(part.source, kind, user, message, is_answer=is_answer) for user in users]
            if not self._tasks(part.source, self._background_tasks).start(
                self._handle_all, part.source, handlers, events
            ):
                self._warn_of_loss(kind, part.source)

    def _warn_of_loss(self, kind: EventKind, source: str) -> None:
        """Once a minute: each message of the chat would be another."""
        now = self._clock()
        if self._loss_warnings.take(now) == 0:
            where = f" for {source}" if source else ""
            log.warning("too many event handlers are running: %s is lost%s, more may be", kind, where)

    def _event(
        self,
        source: str,
        kind: EventKind,
        user_id: int | None = None,
        message: ChatMessage | None = None,
        *,
        is_answer: bool = False,
    ) -> Event:
        room = self._room
        mentions = message.mentions if message else ()
        reaction = message.reaction if message else None
        reply_to = reaction.to if reaction else message.reply_to if message else None
        # Of a message that is an event, which names no command.
        unknown = self._invocation(message) if message else None
        return Event(
            kind=kind,
            mesh_id=self._mesh_id,
            user_id=user_id,
            is_admin=self.permissions is not None and user_id in self.permissions.admins,
            message=None if reaction else message,
            emoji=reaction.emoji if reaction else "",
            reacted_to=reaction.to if reaction else "",
            mentions_bot=room is not None and any(mention.user_id == room.own_user_id for mention in mentions),
            replies_to_bot=room is not None and reply_to is not None and room.is_own(reply_to),
            unknown_command=unknown.name if unknown else "",
            is_answer=is_answer,
            others=room.users - {room.own_user_id} if room else frozenset(),
            room=room.state if room else RoomState(),
            server_now=room.server_clock.now() if room else 0.0,
            prefixes=self._prefixes,
            settings_now=self._settings_now,
            outbox=self.outbox,
            people=self._display_names,
            rave=self._rave,
            http=self._http,
            store=self._store(source),
            shared=self._shared(source),
            dialogue=self._dialogue(source),
            secrets=self._secrets,
        )

    def _dialogue(self, source: str) -> Dialogue:
        room = self._room
        users = (lambda: room.users) if room else frozenset
        return Dialogue(self._questions, source, self.outbox, self._display_names, users, self._videos)

    def _present(self, error: RaveError) -> str:
        return present(error, Audience.CHAT, self.outbox.catalogue)

    async def _handle_all(self, source: str, handlers: Sequence[EventHandler], events: Sequence[Event]) -> None:
        if len(events) > 1:
            # One request for all names, rather than one for each as handlers ask for them.
            await self._display_names.prefetch([event.user_id for event in events if event.user_id is not None])
        for event in events:
            for handler in handlers:
                await self._handle(source, handler, event)

    async def _handle(self, source: str, handler: EventHandler, event: Event) -> None:
        try:
            async with self._time_limit(self._limits.handler_timeout_s) as limit:
                event.dialogue.begin(limit)
                await handler(event)
        except NoAnswerError as error:
            log.info("a handler of %s has asked in vain: %s", event.kind, error)
        except Exception as error:
            if isinstance(error, RaveError) and error.code is Code.CLOSED:
                # As for `on_unload` of a bot that was kicked.
                log.info("a handler of %s could not speak: %s", event.kind, error)
                return
            log.exception("a handler of %s failed%s", event.kind, f" in {source}" if source else "")
            # A RaveError is about the room, such as a connection that is gone, and not the plugin's fault.
            if not isinstance(error, RaveError):
                what = "took too long" if isinstance(error, TimeoutError) else f"failed: {type(error).__name__}"
                self._report_plugin_failure(source, f"a handler of {event.kind} {what}")
