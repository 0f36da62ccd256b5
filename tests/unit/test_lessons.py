"""The lessons of tests/lessons.py in a FakeRoom; a booted machine plays them as well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ravesvc.testing import FakeRoom
from tests.lessons import ADMIN, LESSONS, USERS, Join, Lesson, React, Say, Wait


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
async def test_a_lesson_is_as_it_is_printed(lesson: Lesson, tmp_path: Path) -> None:
    for name, text in lesson.programs().items():
        (tmp_path / name).write_text(text)
    async with FakeRoom(admins=[ADMIN.title()]) as room:
        for user in USERS:
            await room.join(user.title())
        for name in lesson.files:
            if not name.startswith("_"):
                room.load(tmp_path / name)
        for step in lesson.steps:
            # As on a machine, a name in a text is that of the user.
            match step:
                case Say(user, text, _, mentions):
                    for each in mentions:
                        text = text.replace(f"@{each}", f"@{each.title()}")
                    said = await room.say(text, user=user.title())
                case React(user, emoji):
                    said = await room.react(emoji, user=user.title())
                case Join(user):
                    said = await room.join(user.title())
                case Wait(seconds):
                    said = await room.run_for(seconds)
            assert len(said) == len(step.answers), (step, said)
            for answer, expected in zip(said, step.answers, strict=True):
                assert re.fullmatch(expected, answer), (step, said)
        room.failures.clear()
