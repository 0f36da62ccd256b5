from __future__ import annotations

import json
from typing import Any

import pytest

from ravesvc.bot import moderation
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.errors import Code, RaveError
from ravesvc.room.chat import Mention
from tests.unit.bot_scene import ANN, BOB, BOT, Scene, incident

NOW = 1_800_000_000
OTHER_ADMIN = 6
BOBS = (Mention(BOB, "bob"),)


class Histories:
    """What the service keeps; `error` makes it keep nothing more."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.error: RaveError | None = None

    async def append_history(self, name: str, entry: str) -> None:
        assert name == "moderation"
        if self.error:
            raise self.error
        self.entries.append(json.loads(entry) | {"time": NOW - 90})

    async def read_history(self, name: str, count: int) -> list[str]:
        assert name == "moderation"
        if self.error:
            raise self.error
        return [json.dumps(entry) for entry in self.entries[-count:]]


class ModerationScene(Scene):
    """Ann is an admin, and so is another user; they are in the room, with Bob."""

    def __init__(self) -> None:
        super().__init__(permissions=StaticPermissions(admins=frozenset({ANN, OTHER_ADMIN})))
        self.histories = Histories()
        moderation.register(self.registry, self.histories, wall=lambda: NOW)

    def talk(self, *texts: str, sender: int | None = ANN) -> list[str]:
        answers: list[str] = []

        async def body() -> None:
            self.room.users |= {OTHER_ADMIN}
            for text in texts:
                answers.append(await self.answer(text, sender, mentions=BOBS if "@bob" in text else ()))

        self.play(body)
        return answers


@pytest.mark.parametrize(
    ("text", "asked", "said", "reason"),
    [
        ("?kick @bob", "kick", "Kicked: Bob (3)", ""),
        ("?kick 3 too  **loud**", "kick", "Kicked: Bob (3)", "too loud"),
        ("?mute @Bob sings", "mute", "Muted: Bob (3)", "sings"),
        ("?unmute 3", "unmute", "No longer muted: Bob (3)", ""),
        ("?leader @bob", "transfer_leadership", "The leader is now: Bob (3)", ""),
    ],
)
def test_a_user_is_moderated_and_that_is_kept(text: str, asked: str, said: str, reason: str) -> None:
    scene = ModerationScene()
    assert scene.talk(text.replace("@Bob", "@bob")) == [said]
    assert scene.rave.asked == [(asked, BOB)]
    action = text.split()[0][1:]
    assert scene.histories.entries == [
        {"action": action, "user": BOB, "actor": ANN, "reason": reason, "time": NOW - 90}
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"?kick {BOT}", "That is the bot itself (error "),
        (f"?mute {BOT} x", "That is the bot itself (error "),
        (f"?kick {OTHER_ADMIN}", "That user is an admin. Take that right away first (error "),
        (f"?mute {ANN}", "That user is an admin. Take that right away first (error "),
        ("?kick 77", "That user is not in this room (error "),
        ("?leader 77", "That user is not in this room (error "),
        ("?kick", "Write ?kick <@user or user id> [reason]. For example ?kick @Ann spam (error "),
        ("?unmute bob", "“bob” is no user. Write ?unmute <@user or user id> [reason] (error "),
    ],
)
def test_what_must_not_be_is_refused_in_words(text: str, said: str) -> None:
    scene = ModerationScene()
    (answer,) = scene.talk(text)
    assert answer.startswith(said)
    assert (scene.rave.asked, scene.histories.entries) == ([], [])


def test_admins_and_the_bot_may_lead_and_get_their_voice_back() -> None:
    scene = ModerationScene()
    scene.talk(f"?leader {BOT}", f"?leader {OTHER_ADMIN}", f"?unmute {ANN}")
    assert [what for what, _ in scene.rave.asked] == ["transfer_leadership", "transfer_leadership", "unmute"]


@pytest.mark.parametrize("text", ["?kick 3", "?mute 3", "?unmute 3", "?leader 3", "?modlog"])
@pytest.mark.parametrize("sender", [BOB, None])
def test_they_are_for_admins(text: str, sender: int | None) -> None:
    scene = ModerationScene()
    (answer,) = scene.talk(text, sender=sender)
    assert answer.startswith("Only admins may use ")
    assert scene.rave.asked == []


def test_what_rave_refuses_is_told_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = ModerationScene()

    async def refuse(user: int) -> None:
        raise RaveError(Code.FORBIDDEN, "only the leader can do that")

    monkeypatch.setattr(scene.rave, "kick", refuse)
    (answer,) = scene.talk("?kick 3")
    assert answer.startswith("Only the leader can do that (error ")
    assert scene.histories.entries == []


def test_what_is_done_is_told_although_it_could_not_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    scene = ModerationScene()
    scene.histories.error = RaveError(Code.STORE, "the store is down")
    assert scene.talk("?kick 3") == ["Kicked: Bob (3)\nThat could not be noted: the store is down"]
    assert scene.rave.asked == [("kick", BOB)]
    assert "The history has no entry" in caplog.text


def test_the_history_shows_the_latest_first() -> None:
    scene = ModerationScene()
    scene.histories.entries = [
        {"action": "mute", "user": 77, "actor": ANN, "reason": "", "time": NOW - 86_400 + 7 * n} for n in range(9)
    ]
    *_, answer = scene.talk("?kick 3 spam", "?modlog")
    said = answer.splitlines()
    assert said[0] == "What admins did here lately:"
    assert said[1] == "• 1 min 30 s ago: Bob (3) was kicked by Ann (2): spam"
    assert said[2] == "• 23 h 59 min ago: User 77 was muted by Ann (2)"
    assert len(said) == 6


def test_an_entry_that_can_not_be_read_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    scene = ModerationScene()
    good = {"action": "leader", "user": BOB, "actor": ANN, "reason": "**?leave**\n?leave", "time": NOW + 5}
    scene.histories.entries = [good, {"action": "kick"}, {"action": "fly", "user": BOB, "actor": ANN, "time": NOW}]
    assert scene.talk("?modlog") == [
        "What admins did here lately:\n• 0 s ago: Bob (3) was made the leader by Ann (2): ?leave ?leave"
    ]
    assert "can't be read" in caplog.text
    scene.histories.entries = []
    assert scene.talk("?modlog") == ["Nothing is noted here"]


def test_a_history_that_the_service_does_not_tell_is_answered_in_words() -> None:
    scene = ModerationScene()
    scene.histories.error = RaveError(Code.NOT_RUNNING, "the service does not answer")
    (answer,) = scene.talk("?modlog")
    assert answer.startswith("The service does not answer (error ")
    assert incident(answer)
