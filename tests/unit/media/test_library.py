from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ravesvc.config.media_settings import MediaSettings
from ravesvc.config.worker_options import Proxy, Tls
from ravesvc.errors import Code, RaveError
from ravesvc.media import library as library_module
from ravesvc.media import web
from ravesvc.media.library import Library, open_library
from ravesvc.media.quota import day
from tests.unit import fake_youtube as youtube
from tests.unit.api_server import Reply, Server, playing
from tests.unit.authority import Authority
from tests.unit.connect_proxy import proxying

LINK = f"https://youtu.be/{youtube.ID}"
NOON = 1_795_953_600.0  # 2026-11-29 12:00 UTC


class Wall:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Play:
    """A library whose provider is `server`."""

    def __init__(self, authority: Authority, server: Server, cache: Path) -> None:
        self.server = server
        self.wall = Wall()
        self.cache = cache
        self.settings = MediaSettings(
            providers=("youtube", "link"),
            youtube_api=f"{server.url}/api",
            youtube_oembed=f"{server.url}/oembed",
            picture_hosts=(f"localhost:{server.port}",),
            youtube_searches_per_day=3,
            key_path="/etc/rave/youtube.key",
            tls=Tls(ca_file=str(authority.ca_file)),
        )

    def open(self, key: str = youtube.KEY) -> Library:
        return open_library(self.settings, key, self.cache, self.wall)

    @property
    def paths(self) -> list[str]:
        return [asked.path for asked in self.server.asked]


@pytest.fixture
def play(authority: Authority, tmp_path: Path) -> Callable[..., Any]:
    @contextmanager
    def playing_parts(**parts: list[Reply]) -> Iterator[Play]:
        paths = {"search": "/api/search", "videos": "/api/videos", "oembed": "/oembed", "picture": "/p.png"}
        with playing(authority, {paths[name]: replies for name, replies in parts.items()}) as server:
            yield Play(authority, server, tmp_path / "cache.db")

    return playing_parts


def asking(play: Play, ask: Callable[[Library], Any], key: str = youtube.KEY) -> Any:
    """What a library of its own says, closed afterwards: as a helper that was just started."""

    async def body() -> Any:
        library = play.open(key)
        try:
            return await ask(library)
        finally:
            library.close()

    async def bounded() -> Any:
        async with asyncio.timeout(30):
            return await body()

    return asyncio.run(bounded())


def failing(play: Play, ask: Callable[[Library], Any], key: str = youtube.KEY) -> RaveError:
    with pytest.raises(RaveError) as e:
        asking(play, ask, key)
    return e.value


def search(words: str = "never") -> Callable[[Library], Any]:
    return lambda library: library.search(words)


def look_up(link: str = LINK) -> Callable[[Library], Any]:
    return lambda library: library.look_up(link)


def test_a_search_has_titles_and_lengths_and_sends_the_key_only_there(play: Any) -> None:
    found = [youtube.hit(), youtube.hit(youtube.OTHER, "b")]
    hidden = youtube.entry(youtube.OTHER) | {"status": {"embeddable": False}}
    with play(search=[youtube.listed(*found)], videos=[youtube.listed(youtube.entry(), hidden)]) as it:
        (hit,) = asking(it, search("  NEVER   ever "))
        assert (hit.title, hit.seconds) == ("Never & ever", 213.0)
        first, second = it.server.asked
        assert (first.query["q"], first.query["type"], first.query["maxResults"]) == ("never ever", "video", "3")
        assert second.query["id"] == f"{youtube.ID},{youtube.OTHER}"
        assert first.query["key"] == second.query["key"] == youtube.KEY


def test_a_search_is_cached_across_helpers_whatever_its_spaces_and_letters(play: Any) -> None:
    with play(search=[youtube.listed(youtube.hit())], videos=[youtube.listed(youtube.entry())]) as it:
        before = asking(it, search("Never  Ever"))
        assert asking(it, search("never ever")) == before
        assert it.paths == ["/api/search", "/api/videos"]
        it.wall.now += 8 * 86_400
        asking(it, search("never ever"))
        assert it.paths.count("/api/search") == 2


def test_hits_are_shown_without_lengths_when_only_those_fail(play: Any) -> None:
    videos = [Reply(500), youtube.listed(youtube.entry())]
    with play(search=[youtube.listed(youtube.hit())], videos=videos) as it:
        (hit,) = asking(it, search())
        assert (hit.title, hit.seconds) == ("Never & ever 'gonna'", None)
        # The next one has them, and is kept.
        assert asking(it, search())[0].seconds == 213.0
        asking(it, search())
        assert it.paths.count("/api/search") == 2


def test_what_was_known_of_a_video_is_kept_when_less_can_be_had(play: Any) -> None:
    videos = [youtube.listed(youtube.entry()), Reply(500)]
    with play(videos=videos, oembed=[youtube.embedded("Another title"), Reply(500), Reply(404)]) as it:
        asking(it, look_up())
        for _ in range(2):
            it.wall.now += 2 * 86_400
            video = asking(it, look_up())
            assert (video.title, video.seconds) == ("Another title", 213.0)
        it.wall.now += 2 * 86_400
        assert failing(it, look_up()).code is Code.NOT_FOUND


def test_no_hit_is_an_answer(play: Any) -> None:
    with play(search=[youtube.listed()]) as it:
        assert asking(it, search()) == []
        assert asking(it, search()) == []
        assert it.paths == ["/api/search"]


def test_that_nothing_was_found_is_cached_for_minutes(play: Any) -> None:
    replies = [youtube.listed(), Reply(500), youtube.listed(youtube.hit())]
    with play(search=replies, videos=[youtube.listed(youtube.entry())]) as it:
        assert asking(it, search()) == []
        it.wall.now += 601
        assert failing(it, search()).code is Code.SERVER_ERROR
        assert [hit.id for hit in asking(it, search())] == [youtube.ID]


def test_hits_that_can_not_be_read_are_told_and_not_cached(play: Any) -> None:
    replies = [youtube.listed(7, youtube.hit(7)), youtube.listed(youtube.hit())]
    with play(search=replies, videos=[youtube.listed(youtube.entry())]) as it:
        assert failing(it, search()).code is Code.BAD_DATA
        assert [hit.id for hit in asking(it, search())] == [youtube.ID]


def test_the_days_searches_are_counted_on_disk_and_last_until_midnight_pacific(play: Any) -> None:
    with play(search=[youtube.listed()]) as it:
        for words in "a", "b", "c":
            asking(it, search(words))
        error = failing(it, search("d"))
        assert (error.code, error.message) == (Code.RATE_LIMITED, "today's searches at YouTube are used up")
        assert error.hint == "there will be new ones in 20 hours"
        # What is known already is still found.
        assert asking(it, search("a")) == []
        assert len(it.server.asked) == 3
        it.wall.now = day(NOON).ends - 1
        assert failing(it, search("d")).hint == "there will be new ones in a minute"
        it.wall.now += 1
        assert asking(it, search("d")) == []


def test_a_quota_that_the_provider_says_is_used_up_is_not_asked_again(play: Any) -> None:
    with play(search=[youtube.refused(403, "quotaExceeded")], oembed=[youtube.embedded()]) as it:
        for _ in range(2):
            assert failing(it, search()).message == "today's searches at YouTube are used up"
        assert it.paths == ["/api/search"]


def test_what_the_provider_has_not_heard_of_is_not_counted(play: Any) -> None:
    with play(search=[youtube.listed()]) as it:
        api = it.settings.youtube_api
        it.settings = replace(it.settings, youtube_api="https://localhost:1")
        for words in "a", "b", "c", "d":
            assert failing(it, search(words)).code is Code.NETWORK
        it.settings = replace(it.settings, youtube_api=api)
        assert asking(it, search("a")) == []


def test_a_proxy_is_used(play: Any) -> None:
    with play(oembed=[youtube.embedded()]) as it, proxying() as proxy:
        it.settings = replace(it.settings, proxy=Proxy(host="127.0.0.1", port=proxy.port))
        assert asking(it, look_up(), key="").title == "Never"
        assert proxy.asked[0].startswith(f"CONNECT localhost:{it.server.port} HTTP/1.1")


def test_an_old_answer_is_better_than_none(play: Any) -> None:
    replies = [youtube.listed(youtube.hit()), Reply(500)]
    with play(search=replies, videos=[youtube.listed(youtube.entry())]) as it:
        before = asking(it, search())
        it.wall.now += 20 * 86_400
        assert asking(it, search()) == before
        it.wall.now += 11 * 86_400
        assert failing(it, search()).code is Code.SERVER_ERROR


def test_without_a_key_the_room_is_told_what_the_operator_has_to_do_and_the_log_where(
    play: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with play(oembed=[youtube.embedded()]) as it:
        error = failing(it, search(), key="")
        assert error.code is Code.CONFIG
        assert "key of the YouTube Data API" in error.hint
        assert "/" not in error.hint
        assert "a key of the YouTube Data API in /etc/rave/youtube.key" in caplog.text
        assert asking(it, look_up(), key="").title == "Never"


@pytest.mark.parametrize(
    "refused",
    [youtube.refused(400, "keyInvalid"), youtube.refused(403, "quotaExceeded"), Reply(500), Reply(body=b"<html>")],
)
def test_a_link_is_looked_up_without_the_key_when_that_does_not_help(play: Any, refused: Reply) -> None:
    with play(videos=[refused], oembed=[youtube.embedded()]) as it:
        video = asking(it, look_up())
        assert (video.title, video.seconds, video.author) == ("Never", None, "Rick")
        (oembed,) = [asked for asked in it.server.asked if asked.path == "/oembed"]
        assert oembed.query == {"format": "json", "url": f"https://www.youtube.com/watch?v={youtube.ID}"}


def test_a_look_up_is_cached_for_a_day_unless_a_key_would_tell_more(play: Any) -> None:
    with play(videos=[youtube.listed(youtube.entry())], oembed=[youtube.embedded()]) as it:
        asking(it, look_up(), key="")
        asking(it, look_up(), key="")
        assert it.paths == ["/oembed"]
        assert asking(it, look_up()).seconds == 213.0
        asking(it, look_up())
        assert it.paths == ["/oembed", "/api/videos"]
        it.wall.now += 90_000
        asking(it, look_up())
        assert it.paths == ["/oembed", "/api/videos", "/api/videos"]


def test_what_the_provider_says_of_the_video_is_final(play: Any) -> None:
    hidden = youtube.entry() | {"status": {"embeddable": False}}
    # The last one lies: it answers with another video.
    replies = [youtube.listed(hidden), youtube.listed(), youtube.listed(youtube.entry(youtube.OTHER))]
    with play(videos=replies, oembed=[youtube.embedded()]) as it:
        assert failing(it, look_up()).code is Code.FORBIDDEN
        assert failing(it, look_up()).code is Code.NOT_FOUND
        assert failing(it, look_up()).code is Code.NOT_FOUND
        assert it.paths == ["/api/videos"] * 3


@pytest.mark.parametrize(("status", "code"), [(401, Code.FORBIDDEN), (404, Code.NOT_FOUND), (500, Code.SERVER_ERROR)])
def test_links_that_lead_nowhere(play: Any, status: int, code: Code) -> None:
    with play(oembed=[Reply(status)]) as it:
        assert failing(it, look_up(), key="").code is code


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b""),
        Reply(body=b"not json"),
        Reply(body=[]),
        Reply(body={"title": 7}),
        Reply(body=b"[" * 100_000),
        Reply(body=b"x" * (9 << 20)),
        Reply(body=gzip.compress(bytes(9 << 20)), headers={"Content-Encoding": "gzip"}),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"),
        Reply(raw=b"SSH-2.0-x\r\n"),
    ],
)
def test_nonsense_is_told_as_such(play: Any, reply: Reply) -> None:
    with play(oembed=[reply]) as it:
        error = failing(it, look_up(), key="")
        assert error.code in (Code.BAD_DATA, Code.NETWORK)
        assert "localhost" not in str(error)


def test_a_slow_provider_is_given_up(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "TIMEOUT_S", 0.3)
    with play(oembed=[youtube.embedded()]) as it:
        it.server.hang()
        error = failing(it, look_up(), key="")
        assert (error.code, error.message) == (Code.TIMEOUT, "the video provider did not answer in time")
        assert error.hint == "try again in a while"


def test_a_provider_that_is_down_is_told_without_its_host(play: Any, caplog: pytest.LogCaptureFixture) -> None:
    with play() as it:
        it.server.close()
        error = failing(it, look_up(), key="")
        assert error.code is Code.NETWORK
        assert str(error) == "the video provider can't be reached (try again in a while)"
    assert "localhost can't be reached" in caplog.text


def test_a_certificate_of_a_stranger_is_not_accepted(play: Any) -> None:
    with play(search=[youtube.listed()]) as it:
        it.settings = MediaSettings.from_json(it.settings.to_json().replace('"ca_file": "', '"ca_file_": "'))
        assert failing(it, search()).code is Code.TLS
        assert it.server.asked == []


def test_the_key_is_in_no_log_and_no_error(play: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for reply in youtube.refused(400, "keyInvalid"), youtube.refused(403, "quotaExceeded"), Reply(raw=b"x\r\n"):
        with play(search=[reply], videos=[reply], oembed=[reply]) as it:
            for ask in search(str(reply.status)), look_up():
                error: BaseException | None = failing(it, ask)
                while error:
                    assert youtube.KEY not in f"{error!r} {error}"
                    error = error.__cause__ or error.__context__
    assert youtube.KEY not in caplog.text
    assert "does not accept the key" in caplog.text


def test_a_picture_comes_from_the_cached_video_else_from_a_look_up(play: Any) -> None:
    with play(picture=[Reply(body=youtube.PNG)]) as it:
        url = f"{it.server.url}/p.png?x=1"
        it.server.answer = lambda asked: (
            Reply(body=youtube.PNG) if asked.path == "/p.png" else youtube.embedded(picture=url)
        )
        fetch: Callable[[Library], Any] = lambda library: library.picture("youtube", youtube.ID)  # noqa: E731
        assert asking(it, fetch, key="") == youtube.PNG
        assert asking(it, fetch, key="") == youtube.PNG
        assert it.paths == ["/oembed", "/p.png", "/p.png"]
        assert it.server.asked[1].query == {"x": "1"}
        assert "key" not in it.server.asked[1].query


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/p.png",
        "https://localhost/p.png",
        "https://localhost:1/p.png",
        "https://user@localhost:{port}/p.png",
        "https://localhost:{port}@example.org/p.png",
        "https://127.0.0.1:{port}/p.png",
        "https://evillocalhost:{port}/p.png",
        "https://localhost:{port}x/p.png",
        "https://[localhost:{port}/p.png",
        "https://localhost:{port}/p .png",
    ],
)
def test_a_picture_elsewhere_is_not_fetched(play: Any, url: str) -> None:
    with play(oembed=[]) as it:
        it.server.answer = lambda _: youtube.embedded(picture=url.format(port=it.server.port))
        error = failing(it, lambda library: library.picture("youtube", youtube.ID), key="")
        assert error.code is Code.FORBIDDEN
        assert it.paths == ["/oembed"]


def test_a_host_stands_for_what_is_below_it_on_its_port() -> None:
    assert web._covers("ytimg.com", "i.ytimg.com", 443)
    assert web._covers("YTIMG.com", "ytimg.com", 443)
    assert not web._covers("ytimg.com", "i.ytimg.com", 8443)
    assert not web._covers("ytimg.com", "evilytimg.com", 443)
    assert not web._covers("ytimg.com", "ytimg.com.example.org", 443)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(404), Code.NOT_FOUND),
        (Reply(302, headers={"Location": "http://169.254.169.254/"}), Code.SERVER_ERROR),
        (Reply(body=b""), Code.BAD_DATA),
        (Reply(body=b"<html>"), Code.BAD_DATA),
        (Reply(body=b"x" * (web.MAX_PICTURE_BYTES + 1)), Code.BAD_DATA),
    ],
)
def test_pictures_that_are_none(play: Any, reply: Reply, code: Code) -> None:
    with play(oembed=[]) as it:
        url = f"{it.server.url}/p.png"
        it.server.answer = lambda asked: reply if asked.path == "/p.png" else youtube.embedded(picture=url)
        assert failing(it, lambda library: library.picture("youtube", youtube.ID), key="").code is code


@pytest.mark.parametrize("video_id", ["", "../x", "short", "x" * 12, f"{youtube.ID}&v=1"])
def test_a_picture_of_what_is_no_id(play: Any, video_id: str) -> None:
    with play() as it:
        error = failing(it, lambda library: library.picture("youtube", video_id))
        assert error.code is Code.INVALID_ARGUMENT
        assert it.server.asked == []


@pytest.mark.parametrize("words", ["", "   ", "x" * 201, "a\x00b", "\ud800"])
def test_words_that_can_not_be_searched(play: Any, words: str) -> None:
    with play() as it:
        assert failing(it, search(words)).code is Code.INVALID_ARGUMENT
        assert it.server.asked == []


def test_a_cache_that_is_no_database_is_begun_anew(play: Any) -> None:
    with play(search=[youtube.listed()]) as it:
        it.cache.write_bytes(b"nonsense" * 1000)
        assert asking(it, search()) == []
        assert asking(it, search()) == []
        assert it.paths == ["/api/search"]


def test_a_cache_that_can_not_be_written_is_in_memory(play: Any) -> None:
    with play(search=[youtube.listed()]) as it:
        it.cache = it.cache / "not" / "there"
        assert asking(it, search()) == []
