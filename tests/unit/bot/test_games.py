from __future__ import annotations

from pathlib import Path

import pytest

from ravesvc.bot import games
from ravesvc.bot.games import Decks
from tests.unit.bot_scene import ANN, Scene

LEAST = {"PG": 40, "PG13": 25, "R": 15}


def ask(scene: Scene, *texts: str) -> list[str]:
    answers: list[str] = []

    async def body() -> None:
        answers.extend([await scene.answer(text, ANN) for text in texts])

    scene.play(body)
    return answers


@pytest.mark.parametrize("language", ["en", "de"])
def test_there_are_enough_questions_and_none_twice(language: str) -> None:
    questions = games.read(language)
    assert set(questions) == {f"{kind} {rating}" for kind in ("truth", "dare") for rating in LEAST}
    for heading, listed in questions.items():
        assert len(listed) >= LEAST[heading.split()[1]]
    everything = [question for listed in questions.values() for question in listed]
    assert len(set(everything)) == len(everything)
    for question in everything:
        assert question == question.strip()
        assert len(question) <= 200
        assert question[0].isalpha(), "a line must not begin with a prefix"


def test_a_language_without_questions_has_the_english_ones() -> None:
    assert games.read("fr") == games.read("en")


@pytest.mark.parametrize(
    ("words", "rating"),
    [("", "PG"), ("pg", "PG"), ("PG13", "PG13"), ("pG-13", "PG13"), ("PG 13", "PG13"), ("R", "R"), ("ｒ", "R")],
)
@pytest.mark.parametrize("kind", ["truth", "dare"])
def test_the_rating_is_that_which_was_asked_for(kind: str, words: str, rating: str) -> None:
    (answer,) = ask(Scene(), f"?{kind} {words}")
    assert answer in games.read("en")[f"{kind} {rating}"]


@pytest.mark.parametrize("word", ["X", "pg14", "**?leave**", "x" * 500])
def test_another_word_is_told_and_gets_pg(word: str) -> None:
    (answer,) = ask(Scene(), f"?truth {word}")
    warning, question = answer.splitlines()
    assert warning.startswith("There is no rating ")
    assert "*" not in warning
    assert len(warning) < 120
    assert question in games.read("en")["truth PG"]


def test_nothing_comes_again_before_all_have_come() -> None:
    wanted = sorted(games.read("en")["dare R"])
    answers = ask(Scene(), *["?dare r"] * 2 * len(wanted))
    assert sorted(answers[: len(wanted)]) == wanted
    assert sorted(answers[len(wanted) :]) == wanted
    assert answers[len(wanted) :] != answers[: len(wanted)], "in another order"


def test_each_list_is_drawn_from_by_itself_and_may_get_shorter() -> None:
    decks = Decks()
    assert decks.draw("a", "xyz") != decks.draw("a", "xyz")
    assert decks.draw("b", "q") == "q"
    assert decks.draw("a", "x") == "x"
    assert decks.draw("a", "x") == "x"


def test_questions_that_are_gone_are_answered_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(games, "_QUESTIONS", tmp_path)
    (answer,) = ask(Scene(), "?truth")
    assert answer.startswith("The questions can't be read. Try again later (error ")
