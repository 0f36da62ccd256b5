"""A room that plays videos by chat alone: the whole service in one process, against the simulator."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ravesvc.core import inventory
from ravesvc.mesh import reconnect_policy
from ravesvc.simulator.account import YOUTUBE_KEY
from tests.unit.marking import marks_its_tests
from tests.unit.simulator_server import Served, in_thread
from tests.unit.single_site import SingleSite


class Cinema(SingleSite):
    """Such a room, in which nothing plays yet."""

    def playing(self) -> str | None:
        plays = self.control.mesh(self.mesh)["plays"]
        return plays and str(plays["video"])

    async def plays(self, video: str | None) -> None:
        async with asyncio.timeout(15):
            while await in_thread(self.playing) != video:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.05)

    async def answer(self, text: str, user: str = "ann", reply: str | None = None) -> str:
        """The first answer."""
        said = await in_thread(self.control.chat, self.mesh, text, user=user, wait=10, reply=reply)
        return str(said[0])

    async def heard(self, text: str) -> None:
        """Wait until the bot says this, answering no message."""

        def said() -> bool:
            events = self.control.events()
            return any(text in event.get("text", "") for event in events if event["type"] == "chat")

        async with asyncio.timeout(15):
            while not await in_thread(said):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.05)

    async def near_the_end(self) -> None:
        """What plays is at its last half second."""
        plays = (await in_thread(self.control.mesh, self.mesh))["plays"]
        await in_thread(self.control.playback, self.mesh, position=plays["seconds"] - 0.5)

    async def hits(self) -> list[str]:
        """The messages that show hits, by their ids."""
        events = await in_thread(self.control.events)
        return [
            event["id"] for event in events if event["type"] == "chat" and event["text"][:3] in ("1. ", "2. ", "3. ")
        ]


@pytest.fixture
@marks_its_tests("slow")
def cinema(tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> Cinema:
    monkeypatch.setattr(reconnect_policy, "_FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(inventory, "_MIN_INTERVAL_S", 0.05)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    served.control.option("playback", "none")
    cinema = Cinema(tmp_path, served)
    cinema.control.join(cinema.mesh, "ann", "bea", "cy")
    return cinema


async def test_search_set_and_a_queue_that_moves_on_and_survives_a_restart(cinema: Cinema) -> None:
    cinema.file.with_name("youtube.key").write_text(YOUTUBE_KEY)

    async with cinema.running():
        await cinema.connected()
        said = await in_thread(cinema.control.chat, cinema.mesh, "?search boats", user="ann", wait=10, answers=4)
        assert said[0] == "Searching for “boats”"
        await cinema.heard("3. ")
        assert await cinema.answer("?set 1") == "Voted for: The Lantern Song"
        await cinema.plays("sim-lantern")
        assert await cinema.answer("?play https://youtu.be/sim-harbour") == (
            "Queued at place 1: Harbour Lights & Fog"
        )
        assert await cinema.answer("?play https://youtu.be/sim-teapots") == (
            'Queued at place 2: "Teapots" (Official Video)'
        )
        assert await cinema.answer("?play https://youtu.be/sim-kittens", "bea") == (
            "Queued at place 2: Kittens and the Vacuum Cleaner"
        )
        await cinema.near_the_end()
        await cinema.plays("sim-harbour")
        await cinema.heard("Now playing: Harbour Lights & Fog, asked for by Ann")
        hit = (await cinema.hits())[0]
    async with cinema.running():
        await cinema.connected()
        assert (await cinema.answer("?nowplaying")).endswith("Asked for by Ann")
        await cinema.near_the_end()
        await cinema.plays("sim-kittens")
        assert await cinema.answer("?skip", "bea") == "Skipped: Kittens and the Vacuum Cleaner"
        await cinema.plays("sim-teapots")
        assert await cinema.answer("?queue") == "The queue is empty"
        assert await cinema.answer("?set", reply=hit) == "Voted for: The Lantern Song"


async def test_what_is_removed_after_the_bot_has_voted_for_it_is_skipped_or_told(cinema: Cinema) -> None:
    control = cinema.control
    control.option("play_mode", "AUTOPLAY")
    control.option("video_duration", "unknown")
    control.video(cinema.mesh, "sim-glacier")

    def voted() -> list[str]:
        return [vote["video"] for vote in control.mesh(cinema.mesh)["votes"]]

    async def queue_and_remove(video: str, title: str) -> None:
        await cinema.answer(f"?play https://youtu.be/{video}", "bea")
        async with asyncio.timeout(15):
            while await in_thread(voted) != [video]:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.05)
        assert await cinema.answer("?remove 1", "bea") == (
            f"Removed: {title}\nRave still has my vote for {title}. I will skip it if it starts"
        )
        await in_thread(control.video, cinema.mesh)

    async with cinema.running():
        await cinema.connected()
        await queue_and_remove("sim-seaside", "The Seaside (short clip)")
        await cinema.heard("Skipped: The Seaside (short clip). It was removed from the queue")
        await cinema.plays("sim-unicode")
        control.option("playback_rights", "leader")
        await queue_and_remove("sim-lantern", "The Lantern Song")
        await cinema.heard("Playing: The Lantern Song. It was removed from the queue, but Rave had my vote for it")


async def test_what_the_room_does_not_allow_is_said_and_the_queue_goes_on_when_it_does(cinema: Cinema) -> None:
    cinema.control.option("play_mode", "LEADER")
    cinema.control.leader(cinema.mesh, "ann")

    async with cinema.running():
        await cinema.connected()
        assert (await cinema.answer("?search boats")) == "Searching for “boats”"
        await cinema.heard("key of the YouTube Data API")
        assert await cinema.answer("?play https://youtu.be/sim-harbour", "bea") == (
            "Queued at place 1: Harbour Lights & Fog"
        )
        await cinema.heard("Only the leader chooses what plays here (play mode LEADER). Harbour Lights & Fog waits")
        assert "waits until I lead" in await cinema.answer("?queue")
        await in_thread(cinema.control.leader, cinema.mesh, "botty")
        await cinema.plays("sim-harbour")
        assert await cinema.answer("?skip", "bea") == "Skipped: Harbour Lights & Fog"
        await cinema.plays(None)


async def test_the_queue_gives_way_to_votes_and_is_in_time_where_rave_goes_on_by_itself(cinema: Cinema) -> None:
    cinema.control.option("play_mode", "AUTOPLAY")

    async with cinema.running():
        await cinema.connected()
        await in_thread(cinema.control.video, cinema.mesh, "sim-lantern")
        assert await cinema.answer("?play https://youtu.be/sim-harbour") == (
            "Queued at place 1: Harbour Lights & Fog"
        )
        for user in ("ann", "bea"):
            await in_thread(cinema.control.vote, cinema.mesh, "sim-teapots", user=user)
        await in_thread(cinema.control.video, cinema.mesh)
        await cinema.plays("sim-teapots")
        await cinema.near_the_end()
        await cinema.plays("sim-harbour")
        assert await cinema.answer("?queue") == "The queue is empty"
