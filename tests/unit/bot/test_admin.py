from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from ravesvc.bot import admin
from ravesvc.bot.backend import Counts
from ravesvc.bot.command import Context
from ravesvc.bot.command_names import ADMIN_COMMANDS, FIXED_COMMANDS, Permission
from ravesvc.bot.limits import CommandLimits
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.errors import Code, RaveError
from ravesvc.room.chat import Mention
from tests.unit.bot_scene import ANN, BOB, MANY, Room, Scene, incident

CARL, UNKNOWN_USER = 5, 123456789
BOBS, CARLS = Mention(BOB, "bob"), Mention(CARL, "carl the great")

# One of each, as an admin may say it.
EACH = [
    "?admin 3",
    "?admin 3 remove",
    "?ignore 3",
    "?ignore 3 remove",
    "?setperm ping admin",
    "?removeperm ping",
    "?listperms",
    "?refresh",
    "?relogin",
    "?leave",
]
FOR_ALL = {"dare", "hello", "help", "info", "meshinfo", "ping", "status", "truth", "whoami"}
# Those that ask the backend for something.
ASKING = [text for text in EACH if text != "?listperms"]


@dataclass
class FakeBackend:
    """Notes what it is asked for. `error` fails everything, `login_error` the login that has begun."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    done: bool = True
    counts: Counts = field(default_factory=lambda: Counts(2, 3))
    seconds: int = 599
    error: RaveError | None = None
    login_error: RaveError | None = None
    logged_in: asyncio.Event | None = None

    def _note(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.error:
            raise self.error

    async def add_admin(self, actor: int, user: int) -> bool:
        self._note("add", actor, user)
        return self.done

    async def claim_admin(self, actor: int, code: str) -> bool:
        self._note("claim", actor, code)
        return self.done

    async def remove_admin(self, actor: int, user: int) -> bool:
        self._note("remove", actor, user)
        return self.done

    async def ignore_user(self, actor: int, user: int) -> bool:
        self._note("ignore", actor, user)
        return self.done

    async def unignore_user(self, actor: int, user: int) -> bool:
        self._note("unignore", actor, user)
        return self.done

    async def set_permission(self, actor: int, command: str, permission: Permission, description: str) -> None:
        self._note("set", actor, command, permission, description)

    async def remove_permission(self, actor: int, command: str) -> bool:
        self._note("unset", actor, command)
        return self.done

    async def refresh(self, actor: int) -> Counts:
        self._note("refresh", actor)
        return self.counts

    async def relogin(self, actor: int) -> int:
        self._note("relogin", actor)
        return self.seconds

    async def allow_leave(self, actor: int) -> None:
        self._note("leave", actor)

    async def login_ended(self) -> None:
        if self.logged_in:
            await self.logged_in.wait()
        if self.login_error:
            raise self.login_error


@dataclass
class AdminScene(Scene):
    """Ann is an admin; the others are not."""

    permissions: StaticPermissions = field(default_factory=lambda: StaticPermissions(admins=frozenset({ANN})))
    names: dict[int, str] = field(default_factory=lambda: {ANN: "Ann", BOB: "Bob", CARL: "Carl"})
    backend: FakeBackend = field(default_factory=FakeBackend)
    left: list[str] = field(default_factory=list)
    leave_error: RaveError | None = None
    unloaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.has_left = asyncio.Event()
        admin.register(self.registry, self.backend, self.leave, lambda: self.unloaded)

    async def leave(self) -> None:
        self.left.append(self.room.mesh_id)
        self.has_left.set()
        if self.leave_error:
            raise self.leave_error

    async def gone(self) -> None:
        """The bot was told to leave."""
        async with asyncio.timeout(5):
            await self.has_left.wait()

    def exchange(self, text: str, sender: int | None = ANN, **more: Any) -> str:
        """The first answer to a text."""
        answers: list[str] = []

        async def body() -> None:
            answers.append(await self.answer(text, sender, **more))

        self.play(body)
        return answers[0]


@pytest.mark.parametrize(
    ("text", "done", "asked", "answer"),
    [
        ("?ignore @bob", True, "ignore", "Ignored from now on: Bob (3)"),
        ("?ignore 3", False, "ignore", "Ignored already: Bob (3)"),
        ("?ignore \uff20Bob \uff32emove", True, "unignore", "Listening again to: Bob (3)"),
        ("?ignore 3 remove", False, "unignore", "Not ignored by this command anyway: Bob (3)"),
    ],
)
async def test_a_user_is_ignored_and_heard_again(text: str, done: bool, asked: str, answer: str) -> None:
    scene = AdminScene()
    scene.backend.done = done

    async with scene.running():
        mentions = () if "3" in text else (BOBS,)
        assert await scene.answer(text, mentions=mentions) == answer
        assert scene.backend.asked == [(asked, ANN, BOB)]
        usage = "Write ?ignore <@user or user id> [remove]. For example ?ignore @Ann (error "
        assert (await scene.answer("?ignore")).startswith(usage)
        assert "Only admins" in await scene.answer("?ignore 3", CARL)


def test_they_are_for_admins_and_only_leave_can_be_for_others() -> None:
    scene = AdminScene()
    commands = {command.name: command for command in scene.registry.commands()}
    assert set(commands) == FIXED_COMMANDS | {"leave"} | FOR_ALL
    for_admins = {name for name, command in commands.items() if command.permission is Permission.ADMIN}
    assert for_admins == ADMIN_COMMANDS | {"leave"}
    assert not commands["leave"].fixed


@pytest.mark.parametrize("text", EACH)
@pytest.mark.parametrize("sender", [BOB, None])
def test_a_stranger_is_refused_in_words_and_nothing_happens(
    text: str, sender: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    scene = AdminScene()
    answer = scene.exchange(text, sender)
    assert answer.startswith(f"Only admins may use {text.split()[0]}. Ask an admin (error ")
    assert incident(answer) in caplog.text
    assert (scene.backend.asked, scene.left) == ([], [])


def test_help_shows_them_to_admins_alone() -> None:
    scene = AdminScene()
    for_admins, for_others = scene.exchange("?help"), scene.exchange("?help", BOB)
    assert (
        "• **Service**: admin, claim, ignore, leave, listperms, refresh, relogin, removeperm, setperm\n" in for_admins
    )
    assert "• **Service**: claim\n" in for_others


def test_a_code_makes_the_user_who_writes_it_an_admin() -> None:
    scene = AdminScene()
    assert scene.exchange("?claim abcd 2345", BOB) == "You are an admin now, in all rooms"
    assert scene.backend.asked == [("claim", BOB, "abcd 2345")]
    assert AdminScene(backend=FakeBackend(done=False)).exchange("?claim ABCD-2345") == "You are an admin already"


def test_what_is_wrong_with_a_code_is_answered_in_words() -> None:
    error = RaveError(Code.ACCESS_DENIED, "that is not the code", hint="on the host, ravectl admin claim shows one")
    scene = AdminScene(backend=FakeBackend(error=error))
    answer = scene.exchange("?claim", BOB)
    assert answer.startswith("That is not the code. On the host, ravectl admin claim shows one (error ")
    assert scene.exchange("?claim x", None).startswith("Rave does not tell who you are (error ")


def test_of_a_long_code_only_the_beginning_is_asked_about() -> None:
    """A bot that sends the service more than 64 KiB is held to be taken over, and killed."""
    scene = AdminScene()
    scene.exchange(f"?claim {'x' * 65_350}", BOB)
    assert scene.backend.asked == [("claim", BOB, "x" * 100)]


def test_users_are_told_who_they_are() -> None:
    assert AdminScene().exchange("?whoami") == f"Your user id is {ANN}, and you are an admin"
    assert AdminScene().exchange("?whoami", BOB) == f"Your user id is {BOB}, and you are not an admin"
    assert AdminScene().exchange("?whoami", None) == "Rave does not tell who you are"


class Trusting(StaticPermissions):
    """Permissions that let every user do everything."""

    def allows(self, command: object, user_id: int | None) -> bool:
        return True


@pytest.mark.parametrize("text", [text for text in ASKING if text != "?leave"])
def test_who_has_no_user_id_can_be_no_actor(text: str) -> None:
    scene = AdminScene(permissions=Trusting())
    assert "Rave does not tell who you are" in scene.exchange(text, None)
    assert scene.backend.asked == []


@pytest.mark.parametrize("text", ASKING)
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RaveError(Code.ACCESS_DENIED, "only admins may do that"), "Only admins may do that (error "),
        (RaveError(Code.BUSY, "a login is under way", hint="wait"), "A login is under way. Wait (error "),
        (
            RaveError(Code.STORE, "the store is down", hint="try later", file="/x.db"),
            "The store is down. Try later (error ",
        ),
        (RaveError(Code.NOT_RUNNING, "the service does not answer"), "The service does not answer (error "),
    ],
)
def test_a_failure_of_the_backend_is_answered_in_words(
    text: str, error: RaveError, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    scene = AdminScene(backend=FakeBackend(error=error))
    answer = scene.exchange(text)
    assert answer.startswith(said)
    assert "/x.db" not in answer
    assert incident(answer) in caplog.text
    assert scene.left == []


@pytest.mark.parametrize("text", ASKING)
def test_a_bug_in_the_backend_shows_no_internals(text: str) -> None:
    scene = AdminScene(backend=FakeBackend(error=ZeroDivisionError("internal")))  # type: ignore[arg-type]
    assert scene.exchange(text).startswith("Something went wrong (error ")


# --- admin ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mentions", "asked", "said"),
    [
        ("?admin @bob", [BOBS], ("add", ANN, BOB), "Now an admin: Bob (3)"),
        ("? ADMIN   @bob", [BOBS], ("add", ANN, BOB), "Now an admin: Bob (3)"),
        ("?admin @whatever", [BOBS], ("add", ANN, BOB), "Now an admin: Bob (3)"),
        ("?admin @bob", [BOBS, BOBS], ("add", ANN, BOB), "Now an admin: Bob (3)"),
        ("?admin @bob  Remove", [BOBS], ("remove", ANN, BOB), "No longer an admin: Bob (3)"),
        ("?admin @carl the great", [CARLS], ("add", ANN, CARL), "Now an admin: Carl (5)"),
        ("?admin @carl the great remove", [CARLS], ("remove", ANN, CARL), "No longer an admin: Carl (5)"),
        ("?admin @carl remove", [CARLS], ("remove", ANN, CARL), "No longer an admin: Carl (5)"),
        ("?admin @ remove", [Mention(BOB, "")], ("remove", ANN, BOB), "No longer an admin: Bob (3)"),
        ("?admin 3", [], ("add", ANN, BOB), "Now an admin: Bob (3)"),
        ("?admin 3 REMOVE", [], ("remove", ANN, BOB), "No longer an admin: Bob (3)"),
        ("?admin 3", [CARLS, BOBS], ("add", ANN, BOB), "Now an admin: Bob (3)"),
        (f"?admin {UNKNOWN_USER}", [], ("add", ANN, UNKNOWN_USER), f"Now an admin: User {UNKNOWN_USER}"),
        ("?admin 2 remove", [], ("remove", ANN, ANN), "No longer an admin: Ann (2)"),
    ],
)
def test_admins_are_made_and_unmade_by_mention_or_id(
    text: str, mentions: list[Mention], asked: tuple[object, ...], said: str
) -> None:
    scene = AdminScene()
    assert scene.exchange(text, mentions=tuple(mentions)) == said
    assert scene.backend.asked == [asked]


@pytest.mark.parametrize(
    ("text", "said"), [("?admin 3", "Already an admin: Bob (3)"), ("?admin 3 remove", "Not an admin anyway: Bob (3)")]
)
def test_what_is_so_already_is_said_to_be_so(text: str, said: str) -> None:
    assert AdminScene(backend=FakeBackend(done=False)).exchange(text) == said


@pytest.mark.parametrize("prefixes", [("?", "!"), ("?",)])
def test_without_a_user_it_is_answered_with_the_usage(prefixes: tuple[str, ...]) -> None:
    scene = AdminScene(prefixes=prefixes)
    answer = scene.exchange("?admin", mentions=(BOBS,))
    assert answer.startswith("Write ?admin <@user or user id> [remove]. For example ?admin @Ann remove (error ")
    assert scene.backend.asked == []


@pytest.mark.parametrize(
    "text",
    [
        "?admin bob",
        "?admin remove 3",
        "?admin 0",
        "?admin -3",
        "?admin 3.0",
        "?admin ٣",
        "?admin 99999999999999999999",
        "?admin 9223372036854775808",
    ],
)
def test_what_is_no_user_is_named(text: str) -> None:
    scene = AdminScene()
    answer = scene.exchange(text, mentions=(BOBS,))
    word = text.split()[1]
    assert answer.startswith(f"“{word}” is no user. Write ?admin <@user or user id> [remove] (error ")
    assert scene.backend.asked == []


@pytest.mark.parametrize(("text", "word"), [("?admin 3 rm", "rm"), ("?admin @bob @carl", "@carl")])
def test_a_word_that_does_not_fit_is_named(text: str, word: str) -> None:
    scene = AdminScene()
    answer = scene.exchange(text, mentions=(BOBS,))
    assert answer.startswith(f"“{word}” is none of: remove. Write ?admin <@user or user id> [remove] (error ")
    assert scene.backend.asked == []


@pytest.mark.parametrize("text", ["?admin 3 remove now", "?admin @bob remove now"])
def test_a_word_too_many_is_named(text: str) -> None:
    scene = AdminScene()
    answer = scene.exchange(text, mentions=(BOBS,))
    assert answer.startswith("“now” is a word too many. Write ?admin <@user or user id> [remove] (error ")
    assert scene.backend.asked == []


def test_hints_use_the_whole_first_prefix() -> None:
    scene = AdminScene(prefixes=("bot! ", "?"))
    assert "bot! admin <@user or user id>" in scene.exchange("?admin")
    assert "bot! setperm <command>" in scene.exchange("?setperm")
    assert "bot! removeperm <command>" in scene.exchange("?removeperm")
    assert "bot! admin <user id>" in scene.exchange("?admin @bob")
    assert "bot! help" in scene.exchange("?setperm xyzxyz user")


def test_a_word_that_mentions_nobody_gets_a_hint_and_two_mentions_are_one_too_many() -> None:
    scene = AdminScene()
    assert scene.exchange("?admin @bob").startswith("That word mentions no user. Pick a user from the list")
    said = scene.exchange("?admin @someone", mentions=(BOBS, CARLS))
    assert said.startswith("That mentions several users. Name one at a time (error ")
    assert scene.backend.asked == []


def test_the_last_admin_stays_in_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = AdminScene(backend=FakeBackend(error=RaveError(Code.LAST_ADMIN, "the last admin can't be removed")))
    answer = scene.exchange("?admin 2 remove")
    assert answer.startswith("The last admin can't be removed (error ")
    (record,) = [record for record in caplog.records if incident(answer) in record.getMessage()]
    assert record.levelno == logging.INFO


# --- setperm and removeperm -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "asked", "said"),
    [
        (
            "?setperm ping admin",
            ("set", ANN, "ping", Permission.ADMIN, "Answers Pong."),
            "The command ping is for admins only now",
        ),
        (
            "?setperm  !PING  User",
            ("set", ANN, "ping", Permission.USER, "Answers Pong."),
            "The command ping is for all users now",
        ),
        (
            "?setperm ?leave user",
            ("set", ANN, "leave", Permission.USER, "Makes the bot leave this mesh."),
            "The command leave is for all users now",
        ),
        (
            "?setperm !A admin",
            ("set", ANN, "!a", Permission.ADMIN, "Shouts."),
            "The command !a is for admins only now",
        ),
    ],
)
def test_a_command_gets_a_permission(text: str, asked: tuple[object, ...], said: str) -> None:
    scene = AdminScene()

    @scene.registry.command("!a", "Shouts.")
    async def shout(context: Context) -> None: ...

    assert scene.exchange(text) == said
    assert scene.backend.asked == [asked]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("?setperm", "Write ?setperm <command> <admin|user>. For example ?setperm ping admin (error "),
        ("?setperm ping", "Write ?setperm <command> <admin|user>. For example ?setperm ping admin (error "),
        ("?setperm ping all", "“all” is none of: admin, user. Write ?setperm <command> <admin|user> (error "),
        ("?setperm admin ping", "“ping” is none of: admin, user. Write ?setperm <command> <admin|user> (error "),
        ("?setperm ping admin now", "“now” is a word too many. Write ?setperm <command> <admin|user> (error "),
        ("?setperm pnig admin", "There is no command pnig. Did you mean ping? (error "),
        ("?setperm ?Helo user", "There is no command helo. Did you mean hello? (error "),
        ("?setperm relogn user", "There is no command relogn. See ?help (error "),
        ("?setperm xyzxyz user", "There is no command xyzxyz. See ?help (error "),
        ("?setperm ** user", "There is no command of that name. See ?help (error "),
        ("?setperm ! user", "There is no command of that name. See ?help (error "),
        ("?removeperm", "Write ?removeperm <command>. For example ?removeperm ping (error "),
        ("?removeperm ping now", "“now” is a word too many. Write ?removeperm <command> (error "),
        ("?removeperm pign", "There is no command pign. See ?help (error "),
        ("?removeperm colour", "There is no command colour. Did you mean color? (error "),
        ("?removeperm serch", "There is no command serch. Did you mean search? (error "),
    ],
)
def test_mistakes_are_answered_in_words(text: str, said: str) -> None:
    scene = AdminScene()
    scene.permissions = StaticPermissions(frozenset({ANN}), {"search": Permission.ADMIN, "**color": Permission.USER})
    assert scene.exchange(text).startswith(said)
    assert scene.backend.asked == []


@pytest.mark.parametrize("name", sorted(FIXED_COMMANDS))
def test_fixed_commands_stay_as_they_are(name: str) -> None:
    scene = AdminScene()
    for text in (f"?setperm {name} user", f"?setperm !{name.upper()} admin", f"?removeperm {name}"):
        whom = "admins" if name in ADMIN_COMMANDS else "all users"
        assert scene.exchange(text).startswith(f"The command {name} is for {whom}, which can't be changed (error ")
    assert scene.backend.asked == []


@pytest.mark.parametrize(
    ("text", "done", "said"),
    [
        ("?removeperm ping", True, "The command ping is for all users again"),
        ("?removeperm !Leave", True, "The command leave is for admins only again"),
        ("?removeperm ping", False, "Nothing is set for ping: it is for all users"),
        ("?removeperm ?search", True, "Forgotten: search, which is no command here"),
        ("?removeperm search", False, "Nothing is set for search"),
        ("?removeperm ?odd", True, "Forgotten: ?odd, which is no command here"),
    ],
)
def test_a_permission_is_removed_also_that_of_a_command_which_is_no_more(text: str, done: bool, said: str) -> None:
    scene = AdminScene(backend=FakeBackend(done=done))
    scene.permissions = StaticPermissions(
        frozenset({ANN}),
        {"search": Permission.ADMIN, "?odd": Permission.USER, "ping": Permission.ADMIN, "leave": Permission.USER},
    )
    assert scene.exchange(text) == said
    ((what, actor, name),) = scene.backend.asked
    assert (what, actor) == ("unset", ANN)
    assert name in said


# --- listperms --------------------------------------------------------------------------------------------------


def test_permissions_are_listed_as_they_are_in_force() -> None:
    scene = AdminScene()
    fixed = ", ".join(sorted(ADMIN_COMMANDS))
    assert scene.exchange("?listperms") == (
        "Permissions:\n"
        "• 1 admin\n"
        "• Admins only: admin, ignore, leave, listperms, refresh, relogin, removeperm, setperm\n"
        "• All users: claim, dare, hello, help, info, meshinfo, ping, status, truth, whoami"
    )
    scene.permissions = StaticPermissions(
        frozenset({ANN, CARL}),
        {
            "leave": Permission.USER,
            "ping": Permission.ADMIN,
            "info": Permission.USER,
            "setperm": Permission.USER,
            "zz": Permission.ADMIN,
            "**a\n?leave": Permission.USER,
        },
    )
    assert fixed == "admin, ignore, listperms, refresh, relogin, removeperm, setperm"
    assert scene.exchange("?listperms") == (
        "Permissions:\n"
        "• 2 admins\n"
        "• Admins only: admin, ignore, listperms, ping (set), refresh, relogin, removeperm, setperm\n"
        "• All users: claim, dare, hello, help, info (set), leave (set), meshinfo, status, truth, whoami\n"
        "• Set, but no commands here: a ?leave, zz"
    )
    assert scene.backend.asked == []


def test_of_the_commands_for_all_only_claim_can_not_be_kept_from_them() -> None:
    scene = AdminScene(permissions=StaticPermissions(frozenset({ANN}), dict.fromkeys(FOR_ALL, Permission.ADMIN)))
    assert "• All users: claim" in scene.exchange("?listperms")


# --- refresh, relogin and leave ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (Counts(2, 3), "Refreshed: 2 admins, 3 command permissions"),
        (Counts(1, 1), "Refreshed: 1 admin, 1 command permission"),
    ],
)
def test_refresh_tells_what_there_is(counts: Counts, said: str) -> None:
    scene = AdminScene(backend=FakeBackend(counts=counts))
    assert scene.exchange("?refresh") == said
    assert scene.backend.asked == [("refresh", ANN)]


def test_refresh_names_plugins_that_fail() -> None:
    scene = AdminScene(unloaded=["greet.py", "a\nb.py", "x" * 40])
    assert scene.exchange("?refresh") == (
        "Refreshed: 2 admins, 3 command permissions\n"
        f"• Plugins that fail to load, as the log explains: greet.py, a b.py, {'x' * 31}…"
    )


@pytest.mark.parametrize(
    ("seconds", "words"), [(600, "10 minutes"), (599, "10 minutes"), (90, "2 minutes"), (89, "89 seconds")]
)
async def test_relogin_tells_how_long_there_is_and_how_it_ended(seconds: int, words: str) -> None:
    scene = AdminScene(limits=CommandLimits(user_rate=MANY.user_rate, room_rate=MANY.room_rate, handler_timeout_s=0))
    scene.backend.seconds = seconds

    async with scene.running():
        scene.backend.logged_in = asyncio.Event()
        message_id = scene.say("?relogin")
        said = f"A mail with a link is on its way: follow it within {words}"
        assert await scene.room.heard() == (said, message_id)
        # It may take longer than other commands, and the bot goes on listening.
        assert "took too long" in await scene.answer("?ping")
        scene.backend.logged_in.set()
        assert await scene.room.heard() == ("Logged in again", message_id)


async def test_a_login_that_fails_is_answered_in_words(caplog: pytest.LogCaptureFixture) -> None:
    error = RaveError(Code.NOT_CONFIRMED, "nobody followed the link in time", hint="try again")
    scene = AdminScene(backend=FakeBackend(login_error=error))

    async with scene.running():
        assert "A mail" in await scene.answer("?relogin")
        answer, _ = await scene.room.heard()
        assert answer.startswith("Nobody followed the link in time. Try again (error ")
        assert incident(answer) in caplog.text


class Mute(Room):
    """A room in which the next message can't be said."""

    async def chat(self, text: str, **more: Any) -> str:
        if not hasattr(self, "refused"):
            self.refused = text
            raise RaveError(Code.REFUSED, "Rave refused the message")
        return await super().chat(text, **more)


async def test_relogin_and_leave_need_no_voice_to_begin_with(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = AdminScene()

    async with scene.running():
        scene.bot.attach(room := Mute())
        scene.say("?relogin")
        assert (await room.heard())[0] == "Logged in again"
        scene.bot.attach(Mute())
        scene.say("?leave")
        await scene.gone()
        assert caplog.text.count("cannot answer a message: Rave refused the message") == 2


async def test_leave_says_goodbye_and_then_goes() -> None:
    scene = AdminScene()

    async with scene.running():
        message_id = scene.say("?leave")
        assert await scene.room.heard() == ("Goodbye!", message_id)
        await scene.gone()
        assert scene.left == [Room.mesh_id]
        assert scene.backend.asked == [("leave", ANN)]
        assert scene.room.silent


def test_who_may_leave_can_be_changed() -> None:
    scene = AdminScene(permissions=StaticPermissions(overrides={"leave": Permission.USER}))
    assert scene.exchange("?leave", BOB) == "Goodbye!"
    assert scene.exchange("?leave", None) == "Goodbye!"
    assert scene.backend.asked == [("leave", BOB), ("leave", 0)], "the service has the last word"


async def test_a_failed_leave_is_answered_in_words() -> None:
    scene = AdminScene(leave_error=RaveError(Code.NETWORK, "Rave can't be reached"))

    async with scene.running():
        assert await scene.answer("?leave") == "Goodbye!"
        assert (await scene.room.heard())[0].startswith("Rave can't be reached (error ")


# --- what strangers wrote ---------------------------------------------------------------------------------------

NASTY = ["?leave", "!leave", "**?leave**", "x\n?leave", "\u202e?leave", "\x00\x1b[2J?leave", "`?leave", "?" * 300]


@pytest.mark.parametrize("word", NASTY)
def test_nothing_that_a_stranger_chose_begins_a_line_or_formats_what_follows(word: str) -> None:
    scene = AdminScene(names={BOB: word})
    bare = word.replace("\n", "\r")
    overrides = dict.fromkeys(bare.split(), Permission.USER)
    for permissions in scene.permissions, StaticPermissions(frozenset({ANN}), overrides):
        scene.permissions = permissions
        for text in (
            "?admin 3",
            f"?admin @{word}",
            f"?admin {word}",
            f"?admin 3 {word}",
            f"?setperm {word} admin",
            f"?setperm ?{word} admin",
            f"?setperm ping {word}",
            f"?removeperm {word}",
            f"?removeperm ?{word}",
            "?listperms",
        ):
            answer = scene.exchange(text, mentions=(BOBS,))
            assert not any(line.startswith(("?", "!")) for line in answer.splitlines()), answer
            assert not set(answer) & set("*`\x00\x1b\u202e"), answer
            assert len(answer) < 500
