from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ravesvc.common.video import Video
from ravesvc.config.media_settings import VideoOptions
from ravesvc.core import video_requests
from ravesvc.core.video_requests import Videos
from ravesvc.errors import Code, RaveError
from tests.unit.conftest import until
from tests.unit.fake_systemd import MESH, OTHER

VIDEO = Video(provider="youtube", id="dQw4w9WgXcQ", url="https://youtu.be/dQw4w9WgXcQ")
OPTIONS = VideoOptions(searches_per_user=2, searches_per_room=3, searches_per_host=5)


class Source:
    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.release = asyncio.Event()
        self.release.set()

    async def search(self, words: str) -> Sequence[Video]:
        self.asked.append(("search", words))
        await self.release.wait()
        return [VIDEO]

    async def look_up(self, link: str) -> Video:
        self.asked.append(("look_up", link))
        await self.release.wait()
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


async def test_everything_is_passed_on() -> None:
    site = Site()
    assert await site.videos.search(MESH, 1, "words") == [VIDEO]
    assert await site.videos.look_up(MESH, 1, "link") == VIDEO
    assert await site.videos.picture(MESH, 1, "youtube", "x") == b"picture"
    assert site.source.asked == [("search", "words"), ("look_up", "link"), ("picture", "youtube", "x")]


async def test_a_user_a_room_and_the_host_have_limits() -> None:
    site = Site()
    for _ in range(2):
        await site.videos.search(MESH, 1, "x")
    assert await site.refusal(MESH, 1) == "you have asked for many videos in the last hour (try again in 30 minutes)"
    await site.videos.search(MESH, 2, "x")
    assert (await site.refusal(MESH, 2)).startswith("this room has asked")
    await site.videos.search(OTHER, 3, "x")
    await site.videos.search(OTHER, 4, "x")
    assert (await site.refusal(OTHER, 5)).startswith("the rooms of this bot have asked")
    assert len(site.source.asked) == 5
    site.now += 1800.0
    await site.videos.search(MESH, 1, "x")


async def test_whom_a_bot_does_not_know_is_a_user_of_its_room() -> None:
    site = Site()
    for _ in range(2):
        await site.videos.search(MESH, 0, "x")
    assert (await site.refusal(MESH, 0)).startswith("you have asked")
    await site.videos.search(OTHER, 0, "x")


async def test_look_ups_and_pictures_have_limits_of_their_own() -> None:
    site = Site()
    for _ in range(6):
        await site.videos.look_up(MESH, 1, "x")
        await site.videos.picture(MESH, 1, "youtube", "x")
    for ask in site.videos.look_up(MESH, 1, "x"), site.videos.picture(MESH, 1, "youtube", "x"):
        with pytest.raises(RaveError, match="you have asked"):
            await ask
    await site.videos.search(MESH, 1, "x")


async def test_a_bot_that_asks_as_another_user_uses_up_nothing_of_the_users_other_rooms() -> None:
    site = Site()
    for _ in range(2):
        await site.videos.search(MESH, 1, "x")
    assert (await site.refusal(MESH, 1)).startswith("you have asked")
    await site.videos.search(OTHER, 1, "x")


async def test_a_request_that_is_refused_costs_nothing() -> None:
    site = Site()
    for actor in 1, 2, 3:
        await site.videos.search(MESH, actor, "x")
    for _ in range(3):
        assert (await site.refusal(MESH, 1)).startswith("this room has asked")
    # The room has a search again; of the user's two one is left.
    site.now += 1200.0
    await site.videos.search(MESH, 1, "x")


async def test_invented_users_change_no_limit_of_others() -> None:
    site = Site()
    for actor in 1, 1:
        await site.videos.search(OTHER, actor, "x")
    for actor in 1, 2, 3:
        await site.videos.search(MESH, actor, "x")
    for actor in range(4, 3000):
        await site.refusal(MESH, actor)
    assert (await site.refusal(OTHER, 1)).startswith("you have asked")
    assert (await site.refusal(OTHER, 2)).startswith("the rooms of this bot have asked")
    assert len(site.source.asked) == 5


async def test_only_what_an_hour_can_have_used_is_kept() -> None:
    site = Site()
    for number in range(40):
        await site.videos.search(f"mesh {number}", number, "x")
        await site.videos.search("busy", 7, "x")
        site.now += 1800.0
    for buckets in site.videos._searches._users, site.videos._searches._rooms:
        assert len(buckets._kept) <= 2 * OPTIONS.searches_per_host


async def test_a_room_has_few_requests_under_way_and_holds_up_no_other() -> None:
    site = Site()
    site.source.release.clear()
    asking = [
        asyncio.create_task(site.videos.look_up(MESH, number % 3, "slow"))
        for number in range(video_requests._AT_ONCE + 5)
    ]
    await until(lambda: len(site.source.asked) >= video_requests._AT_ONCE)
    other = asyncio.create_task(site.videos.search(OTHER, 1, "x"))
    await until(lambda: ("search", "x") in site.source.asked)
    assert site.source.asked == [("look_up", "slow")] * video_requests._AT_ONCE + [("search", "x")]
    site.source.release.set()
    assert await asyncio.gather(*asking) == [VIDEO] * len(asking)
    assert await other == [VIDEO]
    assert not site.videos._turns
