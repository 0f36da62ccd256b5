"""What is said to the plugins of docs, and what the bot answers: in FakeRoom and in a real room alike.

These are the programs that docs/commands.md prints, and the plugins in docs/examples. What needs the internet or a
provider of videos is left out, also what `?suggest` does for the leader. The bot leads the room.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from tests.integration.manual import ROOT, programs

EXAMPLES = ROOT / "docs/examples"
# These are in the room before the programs come.
ADMIN = "Eve"
USERS = ("Ann", "Bob", ADMIN)
# One needs another server, one a video.
LEFT_OUT = ("fact", "tell")
# The id by which a failure is found in the log.
_ERROR = r" \(error [0-9a-f]{8}\)"

Verb = Literal["says", "reacts", "joins", "leaves", "waits", "removes"]


class Step(NamedTuple):
    """A user says a text, reacts with an emoji, joins or leaves; or seconds pass, or a program is removed."""

    user: str
    verb: Verb
    text: str
    answers: tuple[str | re.Pattern[str], ...]


class Scene(NamedTuple):
    """`programs` are names of functions in printed programs, and of helpers; their files have these names.

    A name with `.py` is a file in docs/examples. `changes` are replacements in the text, so that times are short and
    chance has no say, `failures` the failures of plugins that the scene is about.
    """

    programs: tuple[str, ...]
    steps: Sequence[Step]
    changes: Sequence[tuple[str, str]] = ()
    failures: tuple[str, ...] = ()


def step(user: str, verb: Verb, text: str, *answers: str | re.Pattern[str]) -> Step:
    """A step, and what `lines` makes of what the bot does then."""
    return Step(user, verb, text, answers)


def lines(said: Sequence[str], mentioned: Sequence[str], reactions: Sequence[str]) -> list[str]:
    """What a bot has done, in an order that does not depend on where it was heard."""
    return [*said, *(f"mentions {name}" for name in mentioned), *(f"reacts with {emoji}" for emoji in reactions)]


def compare(told: Step, heard: Sequence[str]) -> None:
    """Fail unless these are the answers."""
    pairs = zip(told.answers, heard, strict=False)
    fits = all(want == line if isinstance(want, str) else want.fullmatch(line) for want, line in pairs)
    assert (fits, len(heard)) == (True, len(told.answers)), f"{told}: {heard}"


def files(scene: Scene) -> dict[str, str]:
    """The programs of a scene, with its changes, by the names of their files."""
    found = dict(_file(name) for name in scene.programs)
    for old, new in scene.changes:
        assert any(old in text for text in found.values()), old
        found = {name: text.replace(old, new) for name, text in found.items()}
    return found


def _file(name: str) -> tuple[str, str]:
    """The name of the file, and its text."""
    return (name, (EXAMPLES / name).read_text()) if name.endswith(".py") else (f"{name}.py", printed(name))


def printed(name: str) -> str:
    """The program with a function of this name, or the helper that has it."""
    marks = re.compile(rf"^(async def {name}\(|# The helper {name}$)", re.M)
    (found,) = [each for each in all_printed() if marks.search(each)]
    return found


def all_printed() -> list[str]:
    """The programs of docs/commands.md, without those that are tests."""
    found = programs((ROOT / "docs/commands.md").read_text())
    return [each for each in found if "FakeRoom" not in each]


def _refused(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text) + _ERROR)


_POLL = "Poll: Pizza or pasta?\n1. Pizza\n2. Pasta\nVote with ?vote and the number or the name"

SCENES = {
    "parameters": Scene(
        ("remind", "roll"),
        [
            step("Ann", "says", "?remind 1h30min The  tea", "In 5400 seconds: The  tea"),
            step("Ann", "says", "?remind soon", re.compile(r"“soon” .+ Write \?remind <.+> <.+>" + _ERROR)),
            step("Bob", "says", "?roll 1", "Bob rolls a 1."),
            step("Bob", "says", "?roll", re.compile(r"You may use \?roll again in \d s")),
        ],
    ),
    "sub-commands and aliases": Scene(
        ("team",),
        [
            step("Ann", "says", "?squad Blue @Bob", "Team blue: Bob"),
            step(
                "Bob",
                "says",
                "?team green",
                _refused("“green” is none of: red, blue. Write ?team <red|blue> [@members ...]"),
            ),
            step("Ann", "says", "?team clear", _refused("Only admins may use ?team clear. Ask an admin")),
            step(ADMIN, "says", "?team clear", "The teams are empty"),
        ],
    ),
    "bounds, a class of the file, its check": Scene(
        ("pizza",),
        [
            step("Ann", "says", "?pizza 6 large", "12 pounds of pizza"),
            step("Bob", "says", "?pizza 7", re.compile(r".+ Write \?pizza <1-6> \[small\|large\]" + _ERROR)),
            step("Ann", "says", "?socks 4", "4 socks"),
            step("Bob", "says", "?socks 3", _refused("That is odd. Take one more")),
            step("Ann", "says", "?socks 9", _refused("We are closed")),
        ],
    ),
    "a check of a command": Scene(
        ("suggest",),
        [step("Ann", "says", "?suggest big buck bunny", _refused("Only the leader of the room may do that"))],
    ),
    "errors, cooldown": Scene(
        ("flip",),
        [
            step("Ann", "says", "?flip edge", _refused("A coin has no such side. Write heads or tails")),
            step("Ann", "says", "?flip", "Sorry, the coin is lost"),
            step("Bob", "says", "?flip", re.compile(r"\?flip can be used again in \d+ s")),
            step("Bob", "says", "?flip"),
            step(ADMIN, "says", "?flip tails", "Sorry, the coin is lost"),
        ],
        failures=("flip.py: the command flip failed: RuntimeError",),
    ),
    "mentions": Scene(
        ("praise",),
        [
            step("Ann", "says", "?praise @Bob", "Well done @Bob, says @Ann", "mentions Bob", "mentions Ann"),
        ],
    ),
    "reactions": Scene(
        ("vote",),
        [
            step("Ann", "says", "?vote", "Pizza? React with 👍 or 👎", "reacts with 👍"),
            step("Ann", "reacts", "👎"),
            step("Bob", "reacts", "👍🏽", "Bob is for it"),
            step("Ann", "reacts", "👍"),
        ],
    ),
    "questions": Scene(
        ("order",),
        [
            step("Ann", "says", "?order", "How many?"),
            step("Bob", "says", "5"),
            step("Ann", "says", "two", "“two” is no whole number"),
            step("Ann", "says", "2", "Of what?"),
            step("Ann", "says", "tea", "2 tea, coming up"),
            step("Ann", "says", "?quiz", "What is 6 times 7?"),
            step("Ann", "says", "41"),
            step("Bob", "says", "42", "Bob has it!"),
            step("Bob", "says", "?quiz", "What is 6 times 7?"),
            step("", "waits", "2", "Nobody? It is 42."),
        ],
        changes=[("timeout=20", "timeout=2")],
    ),
    "memory of user and room": Scene(
        ("point",),
        [
            step("Ann", "says", "?points", "No points yet"),
            step("Ann", "says", "?point", "1 of 1 points are yours"),
            step("Bob", "says", "?point", "1 of 2 points are yours"),
            step("Bob", "says", "?points", "Ann: 1, Bob: 1"),
        ],
    ),
    "memory of all rooms": Scene(
        ("point",),
        [
            step("Bob", "says", "?point", "1 of 1 points are yours"),
            step("Bob", "says", "?point", "2 of 2 points are yours"),
        ],
        changes=[("context.store", "context.shared")],
    ),
    "settings": Scene(
        ("talk",),
        [
            step("Ann", "says", "?talk", "Please talk about films for 5 min."),
            step("Ann", "says", "?settings talk.mood dry", _refused("Only admins may use ?settings. Ask an admin")),
            step(
                ADMIN,
                "says",
                "?settings talk.topic music and art",
                "Changed:\n• **talk.topic** = music and art: What we talk about",
            ),
            step(ADMIN, "says", "?settings talk.mood dry", "Changed:\n• **talk.mood** = dry: How the bot speaks"),
            step("Ann", "says", "?talk", "Talk about music and art for 5 min."),
            step(
                ADMIN,
                "says",
                "?settings talk.length 2h",
                _refused("The setting talk.length can't be 2h. It can be: a time from 1min to 1h"),
            ),
        ],
    ),
    "events": Scene(
        ("welcome",),
        [
            step("Dan", "joins", "", "Welcome, Dan!"),
            step("Dan", "leaves", ""),
            step("Dan", "joins", "", "Welcome, Dan!"),
        ],
    ),
    "time": Scene(
        ("stretch",),
        [
            step("", "waits", "5", "1 min of 3", "2 min of 3", "3 min of 3", "Time to stretch!"),
            step("", "removes", "stretch.py", "No more stretching."),
        ],
        changes=[('"30m"', '"5s"'), ("sleep(60)", "sleep(1)")],
    ),
    "a helper": Scene(
        ("_scores", "dart"),
        [step("Ann", "says", "?dart", re.compile("You have [0-9]+"))],
    ),
    "dice": Scene(
        ("dice.py",),
        [
            step("Bob", "says", "?roll 2d6 + 1", re.compile(r"Bob rolls [1-6] \+ [1-6] \+ 1 = [0-9]+")),
            step("Ann", "says", "?roll 0d6", _refused("I have 1 to 20 dice")),
            step(
                "Dan",
                "says",
                "?roll high",
                _refused("These are no dice. Write 2d6+1 for two dice with six sides, and one more"),
            ),
        ],
    ),
    "welcome": Scene(
        ("welcome.py",),
        [
            step(
                ADMIN,
                "says",
                "?settings welcome.greeting Hi {names}, write {prefix}help",
                re.compile("Changed:.+", re.S),
            ),
            step("Flo", "joins", ""),
            step("Gus", "joins", ""),
            step("", "waits", "1", "Hi Flo and Gus, write ?help"),
            step("Flo", "leaves", ""),
            step("Flo", "joins", ""),
            step(ADMIN, "says", "?welcome off", "I no longer greet users who join"),
            step("Hal", "joins", ""),
            step(ADMIN, "says", "?welcome", "The welcome is off: Hi {names}, write {prefix}help"),
            step(ADMIN, "says", "?settings welcome.greeting default", re.compile("Changed:.+", re.S)),
        ],
        changes=[("GATHER_S = 5", "GATHER_S = 1")],
    ),
    "a poll that is closed": Scene(
        ("poll.py",),
        [
            step("Ann", "says", '?poll "Pizza or pasta?" Pizza Pasta', _POLL),
            step("Bob", "says", "?vote 2", "You vote for Pasta"),
            step("Ann", "says", "?vote pizza", "You vote for Pizza"),
            step("Ann", "says", "?vote pasta", "You vote for Pasta"),
            step(
                "Dan",
                "says",
                "?vote 3",
                _refused("The poll has no such option. Write a number from 1 to 2, or a name"),
            ),
            step(
                "Bob",
                "says",
                "?poll close",
                _refused("Only an admin or the user who made the poll may close it"),
            ),
            step("Ann", "says", "?poll close", "The poll is closed: Pizza or pasta?\nPizza: 0\nPasta: 2\nPasta wins"),
        ],
    ),
    "a poll that closes by itself": Scene(
        ("poll.py",),
        [
            step("Bob", "says", '?poll "Pizza or pasta?" Pizza Pasta', _POLL),
            step("", "waits", "1", "The poll is closed: Pizza or pasta?\nPizza: 0\nPasta: 0\nThere was no vote"),
        ],
        changes=[("OPEN_S = 300", "OPEN_S = 1")],
    ),
    "a quiz": Scene(
        ("quiz.py",),
        [
            step("Ann", "says", "?quiz start 2", "Question 1 of 2: Which planet is closest to the Sun?"),
            step("Ann", "says", "Venus"),
            step("Bob", "says", "the MERCURY!", "Bob is right: Mercury"),
            step("", "waits", "1", "Question 2 of 2: Which planet is called the Red Planet?"),
            step("Bob", "says", "?quiz stop", _refused("Only an admin or the user who started the quiz may stop it")),
            step("Ann", "says", "mars", "Ann is right: Mars", "The quiz is over. Bob: 1, Ann: 1"),
            step("Dan", "says", "?quiz scores", re.compile("1[.] .+: 1\n2[.] .+: 1")),
        ],
        changes=[("random.sample(QUESTIONS, rounds)", "QUESTIONS[:rounds]"), ("PAUSE_S = 3", "PAUSE_S = 1")],
    ),
    "custom commands": Scene(
        ("custom_commands.py",),
        [
            step(ADMIN, "says", "?cmd add rules Be  kind", "From now on ?rules is answered with that"),
            step("Ann", "says", "? RULES", "Be  kind"),
            step(ADMIN, "says", "?cmd alias r rules", "From now on ?r is another name of it"),
            step("Bob", "says", "?r", "Be  kind"),
            step(
                ADMIN, "says", "?cmd add ping Pang", _refused("The bot has a command ping already. Take another name")
            ),
            step("Ann", "says", "?cmd list", "Text commands: ?rules = ?r"),
            step("Bob", "says", "?cmd remove rules", _refused("Only admins may use ?cmd remove. Ask an admin")),
            step(ADMIN, "says", "?cmd remove rules", "Removed: ?rules"),
        ],
        changes=[("REST_S = 3", "REST_S = 0")],
    ),
    "announcements": Scene(
        ("announcements.py",),
        [
            step(ADMIN, "says", "?announce add 30m Drink water", "Announcement 1 comes every 30 min"),
            step("Ann", "says", "hello"),
            step("", "waits", "5", "Drink water"),
            step(ADMIN, "says", "?announce list", "1. every 30 min: Drink water"),
            step(ADMIN, "says", "?announce remove 1", "Announcement 1 is removed"),
        ],
        # Half an hour is three seconds.
        changes=[('@every("1m")', "@every(1)"), ('each["minutes"] * 60', 'each["minutes"] / 10')],
    ),
    "word filter": Scene(
        ("word_filter.py",),
        [
            step(ADMIN, "says", "?filter add spoiler", "Users may no longer write that"),
            step(ADMIN, "says", "?filter links off", "Users may not write links"),
            step("Bob", "says", "no spoilers"),
            step("Bob", "says", "SP0ILER!", "Bob, that word is not welcome here"),
            step("Ann", "says", "see https://evil.example/", "Ann, such links are not welcome here"),
            step(ADMIN, "says", "?filter history @Bob", "• 0 min ago: Bob wrote “spoiler”: warned"),
            step("Bob", "says", "a s.p.o.i.l.e.r", "Bob is muted for 10 min: that word is not welcome here"),
            step(ADMIN, "says", "?filter list", "Words: spoiler\nLinks: off"),
        ],
        changes=[("GRACE_S = 3.0", "GRACE_S = 0.0")],
    ),
    "lockdown": Scene(
        ("lockdown.py",),
        [
            step(
                ADMIN,
                "says",
                "?lockdown limit 5 20s",
                "Not closed. Closes by itself: when more than 5 users join within 20 s",
            ),
            step("Ann", "says", "?lockdown on", _refused("Only admins may use ?lockdown on. Ask an admin")),
            step(ADMIN, "says", "?lockdown on 1h30min", "For 1 h 30 min only invited users get in"),
            step(ADMIN, "says", "?lockdown off", "The lockdown is over"),
            step(ADMIN, "says", "?lockdown off", _refused("There is no lockdown")),
        ],
    ),
    # No server answers here, so neither room has a key.
    "AI": Scene(
        ("ai.py",),
        [step("Ann", "says", "?ai Well?", re.compile("The operator has handed over no secret ai-url.*" + _ERROR))],
    ),
}
