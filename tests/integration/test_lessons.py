"""The lessons of tests/lessons.py with a real bot; a unit test plays them in a FakeRoom."""

from __future__ import annotations

import re

import pytest

from ravesvc import names
from tests.integration.conftest import Site, eventually
from tests.integration.test_admins import user_id
from tests.integration.test_plugins import drop, refresh
from tests.lessons import ADMIN, LESSONS, USERS, Join, Lesson, React, Say

DIRECTORY = names.COMMANDS_DIRECTORY
_ANSWER_S = 15.0
# After which no answer is none.
_SILENCE_S = 1.0


@pytest.fixture(scope="module")
def mesh(shared_site: Site) -> str:
    (mesh,) = shared_site.run_fleet(1)
    shared_site.sh(f"ravectl admin add {user_id(shared_site, mesh, ADMIN)}")
    shared_site.control.join(mesh, *USERS)
    return mesh


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_lesson_is_as_it_is_printed(shared_site: Site, mesh: str, lesson: Lesson) -> None:
    site = shared_site
    for name, text in lesson.programs().items():
        drop(site, name, text)
    seen = site.control.state()["seq"]
    refresh(site)
    for step in lesson.steps:
        match step:
            case Say(user, text, answers, mentions):
                wait = _ANSWER_S if answers else _SILENCE_S
                said = site.control.chat(mesh, text, user=user, mentions=mentions, wait=wait, answers=None)
            case React(user, emoji):
                said = site.control.react(mesh, emoji, user=user, wait=_ANSWER_S)
            case _:
                if isinstance(step, Join):
                    site.control.join(mesh, step.user)
                many = len(step.answers)
                eventually(lambda many=many: len(heard(site, seen)) >= many, "the bot speaks")
                said = heard(site, seen)[:many]
        assert len(said) == len(step.answers), (step, said)
        for answer, expected in zip(said, step.answers, strict=True):
            assert re.fullmatch(expected, answer), (step, said)
    site.sh(f"rm -f {DIRECTORY}/*.py")
    refresh(site)


def heard(site: Site, seen: int) -> list[str]:
    """What the bot has said since then, in this order."""
    events = site.control.events(seen)
    return [each["text"] for each in events if each["type"] == "chat" and each.get("user") == "botty"]
