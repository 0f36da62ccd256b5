from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.media.settings import VideoOptions
from ravesvc.orchestrator import media
from ravesvc.orchestrator.media import Videos
from ravesvc.video import Video
from tests.unit.fake_systemd import MESH, OTHER

Run = Callable[[Any], Any]
VIDEO = Video(provider="youtube", id="dQw4w9WgXcQ", url="https://youtu.be/dQw4w9WgXcQ")
OPTIONS = VideoOptions(searches_per_user=2, searches_per_room=3, searches_per_host=5)


class Source:
    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def search(self, words: str) -> Sequence[Video]:
        self.asked.append(("search", words))
        return [VIDEO]

    async def look_up(self, link: str) -> Video:
        self.asked.append(("look_up", link))
        return VIDEO

    async def picture(self, provider: str, video_id: str) -> bytes:
        self.asked.append(("picture", provider, video_id))
        return b"picture"


class Site:
    def __init__(self) -> None:
        self.now = 1000.0
        self.source = Source()
        self.videos = Videos(self.source, OPTIONS, lambda: self.now)

    async def refusal(self, mesh: str, actor: int) -> str:
        with pytest.raises(RaveError) as e:
            await self.videos.search(mesh, actor, "x")
        assert e.value.code is Code.RATE_LIMITED
        return str(e.value)


def test_everything_is_passed_on(run: Run) -> None:
    async def body() -> None:
        site = Site()
        assert await site.videos.search(MESH, 1, "words") == [VIDEO]
        assert await site.videos.look_up(MESH, 1, "link") == VIDEO
        assert await site.videos.picture(MESH, 1, "youtube", "x") == b"picture"
        assert site.source.asked == [("search", "words"), ("look_up", "link"), ("picture", "youtube", "x")]

    run(body())


def test_a_user_a_room_and_the_host_have_limits(run: Run) -> None:
    async def body() -> None:
        site = Site()
        for _ in range(2):
            await site.videos.search(MESH, 1, "x")
        assert (
            await site.refusal(MESH, 1) == "you have asked for many videos in the last hour (try again in 30 minutes)"
        )
        # In another room it is the same user.
        assert (await site.refusal(OTHER, 1)).startswith("you have asked")
        await site.videos.search(MESH, 2, "x")
        assert (await site.refusal(MESH, 2)).startswith("this room has asked")
        await site.videos.search(OTHER, 3, "x")
        await site.videos.search(OTHER, 4, "x")
        assert (await site.refusal(OTHER, 5)).startswith("the rooms of this bot have asked")
        assert len(site.source.asked) == 5
        site.now += 1800.0
        await site.videos.search(MESH, 1, "x")

    run(body())


def test_whom_a_bot_does_not_know_is_a_user_of_its_room(run: Run) -> None:
    async def body() -> None:
        site = Site()
        for _ in range(2):
            await site.videos.search(MESH, 0, "x")
        assert (await site.refusal(MESH, 0)).startswith("you have asked")
        await site.videos.search(OTHER, 0, "x")

    run(body())


def test_look_ups_and_pictures_have_limits_of_their_own(run: Run) -> None:
    async def body() -> None:
        site = Site()
        for _ in range(6):
            await site.videos.look_up(MESH, 1, "x")
            await site.videos.picture(MESH, 1, "youtube", "x")
        for ask in site.videos.look_up(MESH, 1, "x"), site.videos.picture(MESH, 1, "youtube", "x"):
            with pytest.raises(RaveError, match="you have asked"):
                await ask
        await site.videos.search(MESH, 1, "x")

    run(body())


def test_those_who_were_not_seen_for_longest_are_forgotten(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "_MAX_BUCKETS", 4)

    async def body() -> None:
        site = Site()
        for _ in range(2):
            await site.videos.search(MESH, 1, "x")
        await site.videos.search(OTHER, 2, "x")
        assert len(site.videos._searches._buckets) == 4
        # The host and what was used last are still there.
        assert ("user", 1) not in site.videos._searches._buckets
        assert "host" in site.videos._searches._buckets

    run(body())
