"""What is said to the programs of docs/commands.md, and what the bot answers: in FakeRoom and in a real room alike.

What needs the internet or a provider of videos is left out, also what `?suggest` does for the leader.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from tests.integration.manual import ROOT, programs

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
    """`programs` are names of functions in them, and of helpers; their files have these names.

    `changes` are replacements in the printed text, `failures` the failures of plugins that the scene is about.
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
    found = {f"{name}.py": printed(name) for name in scene.programs}
    for old, new in scene.changes:
        assert any(old in text for text in found.values()), old
        found = {name: text.replace(old, new) for name, text in found.items()}
    return found


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
}
