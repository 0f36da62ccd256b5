"""`truth` and `dare`: a question or a task for the user who asks, for families unless they name another rating.

The questions are data (`questions/*.txt`), in the language of the room or in English. They are read when one is asked
for: a bot keeps only which ones its room has had.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ravesvc.bot.command import Context, Registry
from ravesvc.bot.command_names import GAMES
from ravesvc.bot.text import plain
from ravesvc.common.spelling import fold
from ravesvc.common.translation import ENGLISH, lines
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

_QUESTIONS = Path(__file__).parents[1] / "questions"
_PG = "PG"
# As they are compared.
_RATINGS = {"pg": _PG, "pg13": "PG13", "r": "R"}
_MAX_WORD_CHARS = 32


def register(registry: Registry) -> None:
    """Register both."""
    decks = Decks()
    usage = _("[PG|PG13|R]")
    truth, dare = partial(_draw, decks, "truth"), partial(_draw, decks, "dare")
    registry.command("truth", _("Asks you a question."), group=GAMES, usage=usage, example="PG13")(truth)
    registry.command("dare", _("Gives you something to do."), group=GAMES, usage=usage, example="PG13")(dare)


class Decks:
    """Draws from lists of questions so that none comes again before all of its list have been drawn."""

    def __init__(self) -> None:
        self._left: dict[str, list[int]] = {}

    def draw(self, name: str, questions: Sequence[str]) -> str:
        """One of the questions of the list of that name, which is not empty."""
        # An upgrade may have made the list shorter.
        left = [at for at in self._left.get(name, []) if at < len(questions)]
        if not left:
            left = random.sample(range(len(questions)), len(questions))
        at = left.pop()
        self._left[name] = left
        return questions[at]


def read(language: str) -> dict[str, list[str]]:
    """The questions of a language, by headings such as `truth PG`; of English where it has none.

    Raises `RaveError` (BadFile) if they can't be read.
    """
    path = _QUESTIONS / f"{language}.txt"
    try:
        text = (path if path.exists() else _QUESTIONS / f"{ENGLISH}.txt").read_text()
    except (OSError, ValueError) as error:
        # An upgrade may be replacing them.
        raise RaveError(Code.BAD_FILE, _("the questions can't be read"), hint=_("try again later")) from error
    found: dict[str, list[str]] = {}
    for block in text.split("\n\n"):
        heading, *questions = block.strip().splitlines()
        found[heading.removeprefix("# ")] = questions
    return found


async def _draw(decks: Decks, kind: str, context: Context, *, asked: str = "") -> None:
    key = fold(asked[:_MAX_WORD_CHARS]).replace("-", "").replace(" ", "")
    rating = _RATINGS.get(key) if asked else _PG
    heading = f"{kind} {rating or _PG}"
    catalogue = context.outbox.catalogue
    language = catalogue.language if catalogue else ENGLISH
    question = decks.draw(f"{language} {heading}", read(language)[heading])
    if rating is None:
        warning = _(
            "There is no rating {word}, so this is PG. There are PG, PG13 and R", word=plain(asked, _MAX_WORD_CHARS)
        )
        question = lines(warning, question)
    await context.reply(question)
