"""The scenes of tests/lessons.py with a real bot, where each answer has to be as in FakeRoom."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import pytest

from ravesvc import names
from tests.integration.conftest import Site, eventually
from tests.integration.test_admins import user_id
from tests.integration.test_plugins import drop, refresh
from tests.lessons import ADMIN, SCENES, USERS, Scene, Step, compare, files, lines

DIRECTORY = names.COMMANDS_DIRECTORY
# A bot says five things at once, and one a second in the long run: while it rests, others speak.
ROOMS = 4
# How long an answer may take.
PATIENCE_S = 15.0


class Room:
    """A room with a bot. What the bot has done and no step has asked for is heard at the next."""

    def __init__(self, site: Site, mesh: str) -> None:
        self.mesh = mesh
        self._site = site
        self._control = site.control
        for user in USERS:
            self._control.join(mesh, user)
        # FakeRoom lets all calls of Rave succeed.
        self._control.leader(mesh, "botty")
        self.skip()

    def skip(self) -> None:
        """Hear no more of what was done until now: a plugin may speak in all rooms."""
        self._heard = self._control.state()["seq"]

    def play(self, told: Step) -> None:
        """Do what a step says."""
        match told.verb:
            case "says":
                mentions = re.findall(r"@(\w+)", told.text)
                self._control.chat(self.mesh, told.text, user=told.user, mentions=mentions)
            case "reacts":
                self._control.react(self.mesh, told.text, user=told.user)
            case "joins":
                self._control.join(self.mesh, told.user)
            case "leaves":
                self._control.part(self.mesh, told.user)
            case "waits":
                pass  # The clock runs while the answers are awaited.
            case "removes":
                self._site.sh(f"rm {DIRECTORY}/{told.text}")
                refresh(self._site)

    def hear(self, count: int) -> list[str]:
        """What the bot has done since the last step, once it is so much, or has been for too long."""
        end = time.monotonic() + PATIENCE_S
        while len(done := self._done(events := self._control.events(self._heard))) < count and time.monotonic() < end:
            self._control.events(events[-1]["seq"] if events else self._heard, wait=1)
        if events:
            self._heard = events[-1]["seq"]
        return done

    def _done(self, events: Sequence[dict[str, Any]]) -> list[str]:
        """What the bot has done in these events."""
        mine = [each for each in events if each.get("user") == "botty" and each.get("mesh") == self.mesh]
        chat = [each for each in mine if each["type"] == "chat"]
        mentioned = [name for each in chat for name in each["mentions"]]
        return lines([each["text"] for each in chat], mentioned, [each["emoji"] for each in mine if "emoji" in each])


@pytest.fixture(scope="module")
def rooms(shared_site: Site) -> list[Room]:
    """Public ones, as that of FakeRoom is."""
    site = shared_site
    meshes = site.control.create(ROOMS, kinds=["public"])
    site.control.invite(meshes)
    site.sh("systemctl start rave-orchestrator")
    site.wait_state(meshes, "connected")
    site.sh(f"ravectl admin add {user_id(site, meshes[0], ADMIN)}")
    return [Room(site, mesh) for mesh in meshes]


@pytest.mark.parametrize(("place", "scene"), list(enumerate(SCENES.values())), ids=list(SCENES))
def test_a_scene_in_a_real_room(place: int, scene: Scene, shared_site: Site, rooms: list[Room]) -> None:
    room = rooms[place % ROOMS]
    room.skip()
    for name, text in files(scene).items():
        drop(shared_site, name, text)
    refresh(shared_site)
    try:
        for told in scene.steps:
            room.play(told)
            compare(told, room.hear(len(told.answers)))
        failures = {f"{DIRECTORY}/{each}" for each in scene.failures}
        eventually(lambda: set(shared_site.manager("CommandErrors")) == failures, "the service names what has failed")
    finally:
        shared_site.sh(f"rm -f {DIRECTORY}/*.py")
        refresh(shared_site)
    assert room.hear(0) == []
