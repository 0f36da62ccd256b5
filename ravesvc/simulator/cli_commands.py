"""The verbs of `rave-simulator` that control a running simulator: one function and one parser each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from ravesvc.common.text import count
from ravesvc.errors import Code, RaveError
from ravesvc.simulator import party_commands
from ravesvc.simulator.client import ALL, Control
from ravesvc.simulator.fault_options import FAULT_MODES, FAULT_TARGETS, FLOOD_KINDS, FaultOptions

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
# A verb returns an exit status; none is success.
Verb = Callable[[Control, argparse.Namespace], int | None]

# How long one poll for events waits.
_EVENTS_POLL_S = 60


# Arguments that several verbs have.
_Argument: TypeAlias = "tuple[str, dict[str, Any]]"
_MESH: _Argument = ("mesh", {"metavar": "MESH"})
_MESHES: tuple[_Argument, ...] = (
    ("meshes", {"metavar": "MESH", "nargs": "*"}),
    ("--all", {"action": "store_true", "help": "all meshes"}),
)
_USERS: _Argument = ("users", {"metavar": "USER", "nargs": "+"})
_FRIENDS: tuple[_Argument, ...] = (
    ("user", {"metavar": "USER"}),
    ("--other", {"metavar": "NAME", "help": "another user in place of the bot"}),
)
_TIMES: _Argument = ("--times", {"type": int, "metavar": "N", "help": "how often (for ever)"})
_CODE: _Argument = ("--code", {"type": int, "default": 4000, "help": "close code (%(default)s)"})
_MODE: _Argument = (
    "--mode",
    {
        "required": True,
        "help": f"a status, or one of: {', '.join(FAULT_MODES)}; ok ends it",
    },
)


class Parsers:
    """Adds verbs to `commands`; `control` makes the client from the options."""

    def __init__(self, commands: Commands, control: Callable[[argparse.Namespace], Control]) -> None:
        self._commands = commands
        self._control = control

    def _add(self, name: str, verb: Verb, help_text: str, *arguments: _Argument, lists: Sequence[str] = ()) -> None:
        """Add a verb; its help ends with the lines of `lists`."""
        parser = self._commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog="\n".join(lists),
            formatter_class=argparse.RawDescriptionHelpFormatter if lists else argparse.HelpFormatter,
        )
        for argument, settings in arguments:
            parser.add_argument(argument, **settings)
        parser.set_defaults(run=lambda options: verb(self._control(options), options))

    def add_all(self) -> None:
        """Add every verb."""
        mesh = self._commands.add_parser("mesh", help="make and list meshes")
        Parsers(mesh.add_subparsers(metavar="VERB", required=True), self._control).add_mesh()
        self._add_membership()
        self._add_friends()
        self._add_chat()
        for name, verb, help_text, arguments in party_commands.rows():
            self._add(name, verb, help_text, *arguments)
        self._add_connections()
        self._add_account()
        self._add_faults()
        self._add_queries()

    def add_mesh(self) -> None:
        """Add the verbs of `mesh`."""
        self._add(
            "create",
            _create,
            "make meshes and print their ids",
            ("--count", {"type": int, "default": 1, "metavar": "N"}),
            ("--title", {"default": "", "help": "the title of the video that runs there"}),
            ("--public", {"dest": "kinds", "action": "append_const", "const": "public", "default": []}),
            ("--friends", {"dest": "kinds", "action": "append_const", "const": "friends"}),
            ("--local", {"dest": "kinds", "action": "append_const", "const": "local"}),
        )
        self._add("list", _list, "list the meshes, whether the bot is in them, and what plays there")
        self._add(
            "show",
            lambda c, o: _print(party_commands.lines(c.mesh(o.mesh))),
            "show what plays in a mesh, and the votes",
            _MESH,
        )

    def _add_membership(self) -> None:
        self._add("remove", _each("remove"), "delete meshes", *_MESHES)
        self._add("invite", _each("invite"), "invite the bot", *_MESHES)
        self._add("uninvite", _each("uninvite"), "take the bot's invitation back", *_MESHES)
        self._add("join", lambda c, o: c.join(o.mesh, *o.users), "users join a mesh", _MESH, _USERS)
        self._add("part", lambda c, o: c.part(o.mesh, *o.users), "users leave a mesh", _MESH, _USERS)
        self._add(
            "crowd",
            lambda c, o: c.crowd(_meshes(o), o.users, votes=o.votes, history=o.history),
            "make the state of the meshes large; with no size, as it was",
            *(*_MESHES, ("--users", {"type": int, "default": 0, "metavar": "N"})),
            ("--votes", {"type": int, "default": 0, "metavar": "N"}),
            ("--history", {"type": int, "default": 0, "metavar": "BYTES", "help": "of past chat messages"}),
        )
        self._add(
            "hide",
            lambda c, o: c.hide(_meshes(o), o.times),
            "the meshes are missing from the next listings",
            *(*_MESHES, ("--times", {"type": int, "default": 1, "metavar": "N"})),
        )

    def _add_friends(self) -> None:
        self._add(
            "befriend",
            _befriend,
            "a user asks the bot for friendship, or accepts it if the bot has asked; prints what they are then",
            *_FRIENDS,
        )
        self._add(
            "unfriend",
            lambda c, o: c.unfriend(o.user, o.other),
            "a user ends the friendship with the bot, or declines or withdraws the request for it",
            *_FRIENDS,
        )

    def _add_chat(self) -> None:
        self._add(
            "chat",
            _chat,
            "a user writes a message; with --wait, print all that the bot says then (exit status 1: nothing)",
            *(
                _MESH,
                ("text", {"metavar": "TEXT"}),
                ("--user", {"metavar": "NAME", "help": "who writes it (by default ann, who creates the meshes)"}),
            ),
            (
                "--wait",
                {
                    "type": float,
                    "default": 0.0,
                    "metavar": "SECONDS",
                    "help": "at most so long; it ends when the bot has been quiet for two seconds",
                },
            ),
            ("--answers", {"type": int, "metavar": "N", "help": "end after so many replies to the message"}),
            ("--reply", {"metavar": "MESSAGE", "help": "the id of the message that it answers, from `events`"}),
            (
                "--mention",
                {
                    "dest": "mentions",
                    "action": "append",
                    "default": [],
                    "metavar": "USER",
                    "help": "a user whom an @handle in the text means, as the app adds it",
                },
            ),
        )
        self._add(
            "react",
            _react,
            "a user reacts to a message; with --wait, print all that the bot says then",
            *(_MESH, ("emoji", {"metavar": "EMOJI"})),
            ("--user", {"metavar": "NAME", "help": "who reacts (by default ann)"}),
            (
                "--to",
                {"metavar": "MESSAGE", "help": "the id of the message, from `events`; by default the bot's last"},
            ),
            ("--wait", {"type": float, "default": 0.0, "metavar": "SECONDS", "help": "as of chat"}),
        )
        self._add(
            "kick",
            lambda c, o: c.kick(_meshes(o), notice=o.notice, close=o.close),
            "kick the bot",
            *_MESHES,
            ("--notice", {"choices": ("both", "notification", "state"), "default": "both", "help": "to the bot"}),
            ("--close", {"choices": ("after", "before", "not"), "default": "after", "help": "close the socket"}),
        )
        self._add(
            "ask",
            _ask,
            "send the bot a request and print its answer",
            *(_MESH, ("method", {"metavar": "METHOD"}), ("data", {"metavar": "JSON", "nargs": "?", "default": "{}"})),
            ("--timeout", {"type": float, "default": 5.0, "metavar": "SECONDS"}),
        )

    def _add_connections(self) -> None:
        self._add("drop", _each("drop"), "cut the TCP connections", *_MESHES)
        self._add(
            "flood",
            lambda c, o: c.flood(_meshes(o), o.kind),
            "send frames without a break until the bot is gone",
            *(*_MESHES, ("--kind", {"choices": FLOOD_KINDS, "default": FLOOD_KINDS[0], "help": "(%(default)s)"})),
        )
        self._add(
            "close",
            lambda c, o: c.close(_meshes(o), o.code, reason=o.reason, announced=o.announced),
            "close the sockets",
            *(*_MESHES, _CODE, ("--reason", {"default": ""})),
            ("--announced", {"action": "store_true", "help": "after the notification `disconnected`"}),
        )
        self._add(
            "refuse",
            _refuse,
            "reject sockets with an HTTP status, or close them after opening",
            *(*_MESHES, _TIMES, _CODE, ("--status", {"type": int, "default": 403, "help": "(%(default)s)"})),
            ("--after-open", {"type": int, "metavar": "MS", "help": "close so long after opening"}),
        )
        self._add("accept", _each("accept"), "end what refuse began", *_MESHES)

    def _add_account(self) -> None:
        self._add(
            "confirm",
            lambda c, o: c.confirm(o.email),
            "follow the link of the latest mail",
            ("email", {"metavar": "EMAIL", "nargs": "?", "help": "of the latest to this address"}),
        )
        self._add(
            "expire",
            lambda c, o: c.expire(close=o.close),
            "end all sessions; sockets stay open",
            ("--close", {"action": "store_true", "help": "close the sockets as well"}),
        )

    def _add_faults(self) -> None:
        self._add(
            "fail",
            lambda c, o: c.fail(o.target, o.mode, times=o.times, retry_after=o.retry_after),
            "make calls fail",
            (
                "target",
                {"help": f"one of: {', '.join(FAULT_TARGETS)}"},
            ),
            *(_MODE, _TIMES, ("--retry-after", {"type": int, "metavar": "SECONDS", "help": "goes with a status"})),
        )
        self._add(
            "option",
            lambda c, o: c.option(o.name, o.value),
            "set a switch; `state` shows what is set",
            *(("name", {"metavar": "NAME"}), ("value", {"metavar": "VALUE"})),
            lists=["switches, with their values and (what they begin with):", *FaultOptions.listed()],
        )

    def _add_queries(self) -> None:
        self._add(
            "wait",
            _wait,
            "wait until the bot is in the meshes, or no longer; or until a mail waits for its link to be followed",
            *(*_MESHES, ("--gone", {"action": "store_true", "help": "wait for the end of the connections"})),
            ("--mail", {"action": "store_true", "help": "wait for a mail"}),
            ("--timeout", {"type": float, "default": 30.0, "metavar": "SECONDS"}),
        )
        self._add("users", _users, "list who is in a mesh, who leads it and who is muted", _MESH)
        self._add("state", lambda c, _: _print([json.dumps(c.state(), indent=2)]), "print everything as JSON")
        self._add(
            "events",
            _events,
            "print what happened, a JSON object a line",
            ("--follow", {"action": "store_true", "help": "go on until interrupted"}),
        )
        self._add("violations", _violations, "print the clients' mistakes (exit status 1: there are some)")


def _each(name: str) -> Verb:
    """A verb that needs no more than meshes."""

    def verb(control: Control, options: argparse.Namespace) -> None:
        getattr(control, name)(_meshes(options))

    return verb


def _meshes(options: argparse.Namespace) -> str | list[str]:
    """The meshes named, or all."""
    if bool(options.meshes) == options.all:
        raise RaveError(Code.INVALID_ARGUMENT, "which meshes", hint="give ids, or --all")
    return ALL if options.all else list(options.meshes)


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def _create(control: Control, options: argparse.Namespace) -> None:
    _print(control.create(options.count, title=options.title, kinds=options.kinds))


def _list(control: Control, _: argparse.Namespace) -> None:
    state, connected = control.state(), control.connections()
    bot = state["bot"]["user_id"]
    for mesh, facts in state["meshes"].items():
        words = ["connected" if mesh in connected else "-", "invited" if bot in facts["invited"] else "-"]
        _print([f"{mesh}  {words[0]:9}  {words[1]:7}  {count(len(facts['users']), 'user')}  {_title(facts)}"])


def _title(facts: dict[str, Any]) -> str:
    return str(facts["plays"]["title"]) if facts["plays"] else "nothing plays"


def _users(control: Control, options: argparse.Namespace) -> None:
    mesh = control.mesh(options.mesh)
    for user in mesh["users"]:
        leader, muted = "  leader" if user["leader"] else "", "  muted" if user["user_id"] in mesh["muted"] else ""
        _print([f"{user['user_id']}  {user['handle']}{leader}{muted}"])


def _befriend(control: Control, options: argparse.Namespace) -> None:
    _print([control.befriend(options.user, options.other)])


def _chat(control: Control, options: argparse.Namespace) -> None:
    answers = control.chat(
        options.mesh,
        options.text,
        user=options.user,
        wait=options.wait,
        answers=options.answers,
        reply=options.reply,
        mentions=options.mentions,
    )
    _print(answers)
    if options.wait and not answers:
        raise RaveError(Code.TIMEOUT, f"no answer came within {options.wait:g} s")


def _react(control: Control, options: argparse.Namespace) -> None:
    _print(control.react(options.mesh, options.emoji, user=options.user, to=options.to, wait=options.wait))


def _ask(control: Control, options: argparse.Namespace) -> None:
    try:
        data = json.loads(options.data)
    except ValueError as e:
        raise RaveError(Code.INVALID_ARGUMENT, "the data is not valid JSON") from e
    _print([json.dumps(control.ask(options.mesh, options.method, data, options.timeout))])


def _refuse(control: Control, options: argparse.Namespace) -> None:
    after_open = None if options.after_open is None else options.after_open / 1000
    control.refuse(
        _meshes(options), status=options.status, times=options.times, after_open=after_open, code=options.code
    )


def _wait(control: Control, options: argparse.Namespace) -> None:
    if options.mail:
        control.wait(mail=True, timeout=options.timeout)
        return
    chosen = _meshes(options)
    meshes = list(control.state()["meshes"]) if chosen == ALL else chosen
    if options.gone:
        control.wait(disconnected=meshes, timeout=options.timeout)
    else:
        control.wait(connected=meshes, timeout=options.timeout)


def _events(control: Control, options: argparse.Namespace) -> None:
    seen = 0
    while True:
        events = control.events(seen, _EVENTS_POLL_S if options.follow else 0)
        _print(json.dumps(event) for event in events)
        if not options.follow:
            return
        seen = events[-1]["seq"] if events else seen


def _violations(control: Control, _: argparse.Namespace) -> int:
    violations = control.violations()
    _print(f"{violation['where']}: {violation['what']}" for violation in violations)
    return 1 if violations else 0
