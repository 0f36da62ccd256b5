from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ravesvc.bot import privacy
from ravesvc.errors import Code, RaveError
from tests.unit.bot_scene import ANN, Scene, incident


@dataclass
class PrivacyScene(Scene):
    """Each user has `entries` entries; `error` fails everything."""

    entries: int = 2
    error: RaveError | None = None
    forgotten: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        privacy.register(self.registry, self)

    async def forget_user(self, actor: int) -> int:
        if self.error:
            raise self.error
        self.forgotten.append(actor)
        return self.entries

    def exchange(self, text: str, sender: int | None = ANN) -> str:
        """The first answer to a text."""
        answers: list[str] = []

        async def body() -> None:
            answers.append(await self.answer(text, sender))

        self.play(body)
        return answers[0]


@pytest.mark.parametrize("text", ["?forgetme", "?forgetme no", "?forgetme yes please", "?forgetme yes yes"])
def test_it_asks_first(text: str) -> None:
    scene = PrivacyScene()
    said = scene.exchange(text)
    assert said.startswith("This removes what is kept of you in all rooms")
    assert said.endswith("To go on, write ?forgetme yes")
    assert scene.forgotten == []


@pytest.mark.parametrize(
    ("entries", "words"),
    [(0, "Nothing is kept of you"), (1, "Removed: 1 entry about you"), (5, "Removed: 5 entries about you")],
)
def test_whoever_confirms_is_forgotten(entries: int, words: str) -> None:
    scene = PrivacyScene(entries=entries)
    assert scene.exchange("?forgetme YES") == words
    assert scene.forgotten == [ANN]


def test_it_says_why_not() -> None:
    error = RaveError(Code.INVALID_ARGUMENT, "you are an admin, and can't be forgotten", hint="ask another")
    said = PrivacyScene(error=error).exchange("?forgetme yes")
    assert said.startswith("You are an admin, and can't be forgotten. Ask another")
    assert incident(said)


def test_who_is_unknown_has_nothing_to_be_forgotten() -> None:
    scene = PrivacyScene()
    assert scene.exchange("?forgetme yes", None).startswith("Rave does not tell who you are")
    assert scene.forgotten == []


def test_the_bot_forgets_the_name_of_a_user() -> None:
    scene = PrivacyScene()

    async def body() -> None:
        for _ in range(2):
            assert await scene.bot.names([ANN]) == [(ANN, "Ann")]
        assert scene.looked_up == [[ANN]]
        scene.bot.forget_user(ANN)
        scene.bot.forget_user(12345)
        assert await scene.bot.names([ANN]) == [(ANN, "Ann")]
        assert scene.looked_up == [[ANN], [ANN]]

    scene.play(body)
