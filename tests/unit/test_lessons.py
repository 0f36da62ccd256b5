"""The scenes of tests/lessons.py in FakeRoom."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravesvc.testing import FakeRoom
from tests.lessons import (
    ADMIN,
    EXAMPLES,
    LEFT_OUT,
    SCENES,
    USERS,
    Scene,
    Step,
    all_printed,
    compare,
    files,
    lines,
    printed,
)


async def play(room: FakeRoom, directory: Path, told: Step) -> list[str]:
    """What the bot does at a step."""
    room.mentions.clear()
    room.reactions.clear()
    match told.verb:
        case "says":
            said = await room.say(told.text, user=told.user)
        case "reacts":
            said = await room.react(told.text, user=told.user)
        case "joins":
            said = await room.join(told.user)
        case "leaves":
            said = await room.leave(told.user)
        case "waits":
            said = await room.run_for(float(told.text))
        case "removes":
            said = await room.unload(directory / told.text)
    return lines(said, [each.handle for each in room.mentions], [emoji for emoji, _ in room.reactions])


@pytest.mark.parametrize("scene", SCENES.values(), ids=list(SCENES))
async def test_a_scene_in_a_made_up_room(scene: Scene, tmp_path: Path) -> None:
    async with FakeRoom(admins=[ADMIN]) as room:
        for user in USERS:
            await room.join(user)
        for name, text in files(scene).items():
            (tmp_path / name).write_text(text)
        for name in files(scene):
            if not name.startswith("_"):
                room.load(tmp_path / name)
        for told in scene.steps:
            compare(told, await play(room, tmp_path, told))
        assert set(room.failures) == {f"{tmp_path}/{each}" for each in scene.failures}
        room.failures.clear()


def test_every_program_is_in_a_scene() -> None:
    names = {name for scene in SCENES.values() for name in scene.programs}.union(LEFT_OUT)
    shipped = {name for name in names if name.endswith(".py")}
    assert shipped == {file.name for file in EXAMPLES.glob("*.py")}
    assert set(all_printed()) == {printed(name) for name in names - shipped}
