"""What is said in a room with the programs of docs/commands.md, and what their bot says: in a FakeRoom as in any.

`tests/unit/test_lessons.py` plays it in a FakeRoom, `tests/integration/test_lessons.py` with a bot on a machine.
What asks the internet or a provider of videos is not here: the machines of the tests reach neither.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

DOCUMENT = Path(__file__).parents[1] / "docs/commands.md"
ADMIN = "ada"
# They are there from the beginning.
USERS = ADMIN, "ann", "bob", "cat", "dan", "eve"


class Say(NamedTuple):
    """A user writes, and the bot says all of this, each a regular expression."""

    user: str
    text: str
    answers: Sequence[str]
    mentions: Sequence[str] = ()


class React(NamedTuple):
    """A user reacts to the latest message of the bot."""

    user: str
    emoji: str
    answers: Sequence[str]


class Join(NamedTuple):
    """A user comes."""

    user: str
    answers: Sequence[str]


class Wait(NamedTuple):
    """Time passes."""

    seconds: float
    answers: Sequence[str]


class Lesson(NamedTuple):
    """Programs of the page, by a text that each has and no other, under the names of their files.

    `shorter` puts shorter times in the place of those that are printed.
    """

    name: str
    files: Mapping[str, str]
    steps: Sequence[Say | React | Join | Wait]
    shorter: Mapping[str, str] = MappingProxyType({})

    def programs(self) -> dict[str, str]:
        """What each file has."""
        printed = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)
        found = {}
        for file, part in self.files.items():
            (text,) = [each for each in printed if part in each]
            for long, short in self.shorter.items():
                text = text.replace(long, short)
            found[file] = text
        return found


LESSONS = [
    Lesson(
        "parameters",
        {"team.py": '@command("team"'},
        [
            Say("ann", "?remind 1h30min The  tea", ["In 5400 seconds: The  tea"]),
            Say("bob", "?squad Blue @ann", ["Team blue: Ann"], ["ann"]),
            Say(
                "cat",
                "?team green",
                [r"“green” is none of: red, blue. Write \?team <red\|blue> \[@members .+"],
            ),
            Say("dan", "?team clear", [r"Only admins may use \?team clear.*"]),
            Say(ADMIN, "?team clear", ["The teams are empty"]),
        ],
    ),
    Lesson(
        "bounds, and words of an author's own",
        {"pizza.py": '@command("pizza"'},
        [
            Say("ann", "?pizza 6 large", ["12 pounds of pizza"]),
            Say("bob", "?pizza 7", [r".*[wW]rite \?pizza <1-6> \[small\|large\].*"]),
            Say("cat", "?socks 3", [r".*hat is odd\. Take one more.*"]),
            Say("dan", "?socks 4", ["4 socks"]),
            Say("eve", "?socks 9", [".*e are closed.*"]),
        ],
    ),
    Lesson(
        "errors and rests",
        {"coin.py": '@command("flip"'},
        [
            Say("ann", "?flip edge", [r"A coin has no such side\. Write heads or tails \(error .+\)"]),
            Say("ann", "?flip", ["Sorry, the coin is lost"]),
            Say("bob", "?flip", [r"\?flip can be used again in \d+ s"]),
        ],
    ),
    Lesson(
        "mentions",
        {"praise.py": '@command("praise"'},
        [Say("bob", "?praise @ann", ["Well done @Ann, says @Bob"], ["ann"])],
    ),
    Lesson(
        "reactions",
        {"vote.py": '@command("vote"'},
        [
            Say("ann", "?vote", [r"Pizza\? React with 👍 or 👎"]),
            React("bob", "👍🏽", ["Bob is for it"]),
        ],
    ),
    Lesson(
        "questions",
        {"order.py": '@command("order"'},
        [
            Say("ann", "?order", [r"How many\?"]),
            Say("ann", "two", ["“two” is no whole number"]),
            Say("ann", "2", [r"Of what\?"]),
            Say("ann", "tea", ["2 tea, coming up"]),
            Say("bob", "?quiz", [r"What is 6 times 7\?"]),
            Say("cat", "41", []),
            Say("dan", "42", ["Dan has it!"]),
        ],
    ),
    Lesson(
        "memory",
        {"points.py": '@command("points"'},
        [
            Say("ann", "?points", ["No points yet"]),
            Say("ann", "?point", ["1 of 1 points are yours"]),
            Say("bob", "?point", ["1 of 2 points are yours"]),
            Say("bob", "?points", ["Ann: 1, Bob: 1"]),
        ],
    ),
    Lesson(
        "settings",
        {"talk.py": "topic = setting("},
        [
            Say("ann", "?talk", [r"Please talk about films for 5 min\."]),
            Say(ADMIN, "?settings talk.topic music and art", [r"(?s)Changed:.*talk\.topic.*music and art.*"]),
            Say("bob", "?talk", [r"Please talk about music and art for 5 min\."]),
            Say(ADMIN, "?settings talk.topic default", ["(?s)Changed:.*films.*"]),
        ],
    ),
    Lesson(
        "files that are shared",
        {"_scores.py": "# The helper _scores", "darts.py": '@command("dart"'},
        [Say("ann", "?dart", [r"You have \d+"])],
    ),
    Lesson("events", {"welcome.py": "Welcome, {await event.display_name()}"}, [Join("fay", ["Welcome, Fay!"])]),
    Lesson(
        "time",
        {"stretch.py": '@every("30m")'},
        [Wait(6, ["1 min of 3", "2 min of 3", "3 min of 3", "Time to stretch!"])],
        # The unit test lets six seconds pass, and on a machine they pass.
        {'"30m"': '"6s"', "sleep(60)": "sleep(1)"},
    ),
]
