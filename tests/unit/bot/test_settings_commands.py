from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.bot import settings_commands
from ravesvc.bot.command import Registry
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.bot.room_settings import OPTIONS, RoomSettings
from ravesvc.bot.settings_keeper import SettingsKeeper
from ravesvc.errors import Code, RaveError
from tests.unit.bot_scene import ANN, BOB, Scene

Run = Callable[[Coroutine[Any, Any, Any]], Any]
OPTION = {option.name: option for option in OPTIONS}


def changed(**texts: str) -> RoomSettings:
    settings = RoomSettings()
    for name, text in texts.items():
        settings = settings.with_value(OPTION[name], text)
    return settings


# --- the settings -----------------------------------------------------------------------------------------------


def test_each_setting_is_an_option() -> None:
    assert set(OPTION) | {"plugins"} == set(RoomSettings._fields)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("prefix", "!", "!"),
        ("prefix", "bot>", "bot>"),
        ("lang", "DE", "de"),
        ("max_per_user", "1", 1),
        ("max_per_user", "２０", 20),
        ("skip_percent", "0", 0),
        ("games", "OFF", False),
        ("video", "off", False),
    ],
)
def test_a_value_is_read_and_survives_the_document(name: str, text: str, value: object) -> None:
    settings = changed(**{name: text})
    assert getattr(settings, name) == value
    assert RoomSettings.from_json(settings.to_json()) == settings
    assert settings.with_value(OPTION[name], "Default") == RoomSettings()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prefix", "a"),
        ("prefix", "?a"),
        ("prefix", "123456789"),
        ("prefix", "@"),
        ("prefix", "**"),
        ("prefix", "\u202e!"),
        ("lang", "fr"),
        ("lang", "../de"),
        ("max_per_user", "0"),
        ("max_per_user", "21"),
        ("max_per_user", "many"),
        ("skip_percent", "100"),
        ("skip_percent", "-1"),
        ("moderation", "yes"),
        ("moderation", "x" * 5000),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_those_that_are_in(name: str, text: str) -> None:
    with pytest.raises(RaveError) as caught:
        changed(**{name: text})
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert OPTION[name].values in caught.value.hint
    assert len(str(caught.value)) < 200


def test_the_document_has_what_differs() -> None:
    assert RoomSettings().to_json() == "{}"
    assert changed(games="off", max_per_user="3").to_json() == '{"max_per_user": "3", "games": "off"}'


@pytest.mark.parametrize(
    "text",
    [
        '{"max_per_user": "999"}',
        '{"max_per_user": 3}',
        '{"prefix": null, "lang": ["de"]}',
        '{"games": "", "new": "x"}',
    ],
)
def test_what_can_not_be_read_is_the_default(text: str) -> None:
    assert RoomSettings.from_json(text) == RoomSettings()


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from([*OPTION, "other"]), st.one_of(st.text(), st.integers(), st.none())))
def test_no_document_makes_settings_that_admins_could_not(values: dict[str, object]) -> None:
    settings = RoomSettings.from_json(json.dumps(values))
    for option in OPTIONS:
        value = settings.get(option)
        default = RoomSettings().get(option)
        assert value == default or changed(**{option.name: str(values[option.name])}).get(option) == value


# --- the keeper -------------------------------------------------------------------------------------------------


@dataclass
class Documents:
    """What the service has; `away` makes it answer nothing."""

    text: str | None = None
    away: bool = False
    written: list[str] = field(default_factory=list)

    async def read_document(self, name: str) -> str | None:
        assert name == "settings"
        self._insist()
        return self.text

    async def write_document(self, name: str, text: str) -> None:
        assert name == "settings"
        self._insist()
        self.text = text
        self.written.append(text)

    def _insist(self) -> None:
        if self.away:
            raise RaveError(Code.NOT_RUNNING, "the service does not answer")


async def test_they_are_taken_up_as_soon_as_the_service_answers() -> None:
    documents = Documents('{"lang": "de"}', away=True)
    applied: list[RoomSettings] = []
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        assert keeper.settings == RoomSettings()
        waited.append(seconds)
        documents.away = len(waited) < 8

    keeper = SettingsKeeper(documents, applied.append, Registry(), sleep=sleep)
    await keeper.load()
    assert applied == [changed(lang="de")] == [keeper.settings]
    assert 1 <= waited[0] <= 3
    assert max(waited) <= 90


def test_a_document_that_can_not_be_read_is_none(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    documents = Documents("[]")
    keeper = SettingsKeeper(documents, lambda settings: None, Registry())
    run(keeper.load())
    assert keeper.settings == RoomSettings()
    assert "The settings of the room can't be read" in caplog.text
    run(keeper.change("games", "off"))
    assert documents.text == '{"games": "off"}'


async def test_a_change_before_the_first_answer_loses_nothing_that_was_set() -> None:
    documents = Documents('{"lang": "de"}')
    keeper = SettingsKeeper(documents, lambda settings: None, Registry())
    await keeper.change("games", "off")
    assert documents.text == '{"lang": "de", "games": "off"}'


async def test_changes_at_once_are_all_kept() -> None:
    documents = Documents()
    keeper = SettingsKeeper(documents, lambda settings: None, Registry())

    await asyncio.gather(*(keeper.change(name, "off") for name in ("games", "video", "moderation")))
    assert keeper.settings == changed(games="off", video="off", moderation="off")
    assert documents.text == keeper.settings.to_json()


def test_what_is_not_safe_does_not_hold(run: Run) -> None:
    documents = Documents()
    applied: list[RoomSettings] = []
    keeper = SettingsKeeper(documents, applied.append, Registry())
    run(keeper.load())
    documents.away = True
    with pytest.raises(RaveError, match="does not answer"):
        run(keeper.change("games", "off"))
    assert keeper.settings == RoomSettings()
    assert applied == []


async def test_what_is_so_already_is_not_written() -> None:
    documents = Documents()
    keeper = SettingsKeeper(documents, lambda settings: None, Registry())
    await keeper.change("games", "on")
    assert documents.written == []


# --- in a room --------------------------------------------------------------------------------------------------


class SettingsScene(Scene):
    """Ann is an admin."""

    def __init__(self) -> None:
        super().__init__(permissions=StaticPermissions(admins=frozenset({ANN})))
        self.documents = Documents()
        self.keeper = SettingsKeeper(
            self.documents, lambda settings: self.bot.apply_settings(settings), self.registry
        )
        settings_commands.register(self.registry, self.keeper)

    def talk(self, *lines: tuple[str, int]) -> list[str]:
        answers: list[str] = []

        async def body() -> None:
            answers.extend([await self.answer(text, sender) for text, sender in lines])

        self.play(body)
        return answers


def test_settings_are_listed_and_one_is_explained() -> None:
    everything, one = SettingsScene().talk(("?settings", ANN), ("?settings MAX_per_user", ANN))
    assert "• **lang** = default: The language of answers\n" in everything
    assert len(everything.splitlines()) == 1 + len(OPTIONS)
    assert one.splitlines() == [
        "• **max_per_user** = 5: Videos of one user that may wait",
        "• Values: a number from 1 to 20, default",
    ]


def test_the_language_of_a_room_changes_at_once() -> None:
    said = SettingsScene().talk(
        ("?settings lang de", ANN), ("?ping", BOB), ("?hello", BOB), ("?settings lang default", ANN), ("?hello", BOB)
    )
    assert said[0].splitlines() == ["Geändert:", "• **lang** = de: Die Sprache der Antworten"]
    assert said[1:3] == ["Pong!", "Hallo, Bob!"]
    assert said[4] == "Hello, Bob!"


def test_the_prefix_of_a_room_takes_the_place_of_all_others() -> None:
    scene = SettingsScene()

    async def body() -> None:
        await scene.answer("?settings prefix >", ANN)
        scene.say("?ping")
        scene.say("!ping")
        scene.say("?settings prefix default", BOB)
        assert await scene.answer(">ping") == "Pong!"
        assert scene.room.silent
        assert "Write >help" in await scene.answer(">help")
        assert (await scene.answer("?settings prefix default", ANN)).startswith("Changed:")
        assert await scene.answer("?ping") == "Pong!"

    scene.play(body)


def test_a_part_that_is_off_says_so_and_is_no_longer_listed() -> None:
    off, truth, listed, on, again = SettingsScene().talk(
        ("?settings games off", ANN), ("?truth", BOB), ("?help", BOB), ("?settings games on", ANN), ("?truth", BOB)
    )
    assert off.splitlines()[0] == "Changed:"
    assert truth == "That is switched off in this room. Admins can change it with ?settings"
    assert "Games" not in listed
    assert on.splitlines()[0] == "Changed:"
    assert "switched off" not in again


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("?settings colour", "There is no setting colour. There are: prefix, lang, max_per_user, skip_percent, "),
        ("?settings lang fr", "The setting lang can't be fr. It can be: de, en (error "),
        (
            "?settings max_per_user 0",
            "The setting max_per_user can't be 0. It can be: a number from 1 to 20 (error ",
        ),
        (
            "?settings prefix a",
            "The setting prefix can't be a. It can be: up to 8 characters such as ?, no letter or digit",
        ),
        (
            "?settings lang de now",
            "The setting lang can't be de now. It can be: de, en (error ",
        ),
    ],
)
def test_mistakes_are_answered_in_words(text: str, said: str) -> None:
    (answer,) = SettingsScene().talk((text, ANN))
    assert answer.startswith(said)


def test_settings_are_for_admins() -> None:
    (answer,) = SettingsScene().talk(("?settings games off", BOB))
    assert answer.startswith("Only admins may use ?settings")
