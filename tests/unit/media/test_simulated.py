"""The providers against the simulator's, as it is and as it errs, is slow and lies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ravesvc.common.picture import Picture
from ravesvc.common.video import Video
from ravesvc.config import rave_yaml
from ravesvc.errors import Code, RaveError
from ravesvc.media import library as library_module
from ravesvc.media.library import Library, open_library
from ravesvc.simulator.account import YOUTUBE_KEY
from ravesvc.simulator.fault_options import FAULT_MODES
from tests.unit.simulator_server import Served

Run = Callable[[Any], Any]
LANTERN = "https://www.youtube.com/watch?v=sim-lantern"
CALLS = ("provider_search", "provider_videos", "provider_oembed", "provider_picture")


@pytest.fixture
def simulated(served: Served) -> Iterator[Served]:
    yield served
    assert [violation["what"] for violation in served.control.violations()] == []


def library(served: Served, key: str = YOUTUBE_KEY) -> Library:
    text = served.account.config(server=served.server, ca_file=str(served.state_dir.ca_file), discovery_interval="1s")
    settings, problems = rave_yaml.read(text, "rave.yaml")
    assert settings, problems
    return open_library(settings.media_settings(), key, None)


def ids(videos: Any) -> list[str]:
    return [video.id for video in videos]


async def test_everything_as_it_should_be(simulated: Served) -> None:
    opened = library(simulated)
    first, *others = await opened.search("harbour lights boats")
    assert (first.title, first.author, first.seconds) == ("Harbour Lights & Fog", "Paper Boats", 187.0)
    assert ids(others) == ["sim-lantern", "sim-orchard"]
    assert others[1].mature
    (live,) = await opened.search("glacier")
    assert (live.live, live.seconds) == (True, None)
    assert await opened.search("penguins") == [], "it may not be shown outside"
    assert await opened.search("zebra") == []
    assert (await opened.look_up(LANTERN)).views == 1_234_567
    with Picture(await opened.picture("youtube", "sim-lantern")) as picture:
        assert (picture.mime, picture.width) == ("image/jpeg", 320)
    for link, code in ("sim-penguin", Code.FORBIDDEN), ("sim-nothing", Code.NOT_FOUND):
        with pytest.raises(RaveError) as e:
            await opened.look_up(f"https://youtu.be/{link}")
        assert e.value.code is code
    opened.close()


async def test_links_alone(simulated: Served) -> None:
    opened = library(simulated, key="")
    video = await opened.look_up(LANTERN)
    assert (video.title, video.author, video.seconds) == ("The Lantern Song", "Paper Boats", None)
    for link, code in ("sim-penguin", Code.FORBIDDEN), ("sim-nothing", Code.NOT_FOUND):
        with pytest.raises(RaveError) as e:
            await opened.look_up(f"https://youtu.be/{link}")
        assert e.value.code is code
    opened.close()


async def test_the_simulators_quota_and_its_key(simulated: Served) -> None:
    simulated.control.option("provider_quota", 1)

    opened = library(simulated)
    await opened.search("boats")
    with pytest.raises(RaveError, match="searches at YouTube are used up"):
        await opened.search("glacier")
    assert (await opened.look_up(LANTERN)).seconds == 212.0
    opened.close()
    opened = library(simulated, key="another-key-of-somebody")
    with pytest.raises(RaveError, match="does not accept the operator's key"):
        await opened.search("boats")
    assert (await opened.look_up(LANTERN)).title == "The Lantern Song"
    opened.close()


# What is huge takes the simulator seconds to make; test_library.py has some.
@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", [*(mode for mode in FAULT_MODES if mode not in ("refused", "huge")), "403", "429", "500"]
)
def test_whatever_it_does_is_an_answer_or_an_error_in_words(
    run: Run, simulated: Served, mode: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library_module, "TIMEOUT_S", 0.5)
    for call in CALLS:
        simulated.control.fail(call, mode)

    async def body() -> None:
        opened = library(simulated)
        asked = [opened.search("boats"), opened.look_up(LANTERN), opened.picture("youtube", "sim-lantern")]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        opened.close()
        for answer in answers:
            if isinstance(answer, BaseException):
                assert isinstance(answer, RaveError), answer
                assert simulated.server not in str(answer)
                assert YOUTUBE_KEY not in str(answer)
            elif not isinstance(answer, bytes):
                videos = [answer] if isinstance(answer, Video) else answer
                assert all(Video.from_object(video.to_object()) == video for video in videos)

    run(body())
    assert YOUTUBE_KEY not in caplog.text
