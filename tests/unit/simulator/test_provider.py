"""The video provider of the simulator, called over TLS as a client would, and answers that lie."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

from ravesvc.simulator import payloads
from ravesvc.simulator.cli import main
from ravesvc.simulator.payloads import CORRUPTIONS, Content
from tests.unit.simulator_server import Served

KEY = "simulator-youtube-key"
DETAILS = "snippet,contentDetails,statistics,status"


def get(served: Served, path: str, headers: dict[str, str] | None = None, **query: object) -> tuple[int, Any]:
    url = f"https://{served.server}{path}?{urlencode(query)}"
    with urllib3.PoolManager(ssl_context=served.tls, retries=False) as pool:
        response = pool.request("GET", url, headers=headers, timeout=10)
    return response.status, response.json() if "json" in response.headers["Content-Type"] else response.data


def search(served: Served, words: str, **changed: object) -> tuple[int, Any]:
    query = {"part": "snippet", "type": "video", "maxResults": 3, "q": words, "key": KEY}
    return get(served, "/youtube/v3/search", **(query | changed))


def look_up(served: Served, *ids: str, **changed: object) -> tuple[int, Any]:
    return get(served, "/youtube/v3/videos", **({"part": DETAILS, "id": ",".join(ids), "key": KEY} | changed))


def oembed(served: Served, url: str) -> tuple[int, Any]:
    return get(served, "/oembed", format="json", url=url)


def violations(served: Served) -> list[str]:
    return [violation["what"] for violation in served.control.violations()]


def test_a_search_finds_the_best_first_and_escapes_texts(served: Served) -> None:
    status, answer = search(served, "HARBOUR lights boats")
    assert status == 200
    first, *others = answer["items"]
    assert first["id"] == {"kind": "youtube#video", "videoId": "sim-harbour"}
    assert first["snippet"]["title"] == "Harbour Lights &amp; Fog"
    assert first["snippet"]["channelTitle"] == "Paper Boats"
    assert first["snippet"]["thumbnails"]["medium"]["width"] == 320
    assert [hit["id"]["videoId"] for hit in others] == ["sim-lantern", "sim-orchard"]
    assert search(served, "don't")[1]["items"][0]["snippet"]["title"] == "Don&#39;t Wake the Rooster &lt;3"
    assert search(served, "zebra")[1]["items"] == []
    assert search(served, "glacier")[1]["items"][0]["snippet"]["liveBroadcastContent"] == "live"
    assert violations(served) == []


def test_what_may_not_be_embedded_can_be_left_out(served: Served) -> None:
    assert len(search(served, "penguins")[1]["items"]) == 1
    assert search(served, "penguins", videoEmbeddable="true")[1]["items"] == []


def test_details_of_several_and_unknown_ones_are_missing(served: Served) -> None:
    status, answer = look_up(
        served, "sim-harbour", "unknown", "sim-glacier", "sim-orchard", "sim-penguin", "sim-kittens"
    )
    assert status == 200
    found = {item["id"]: item for item in answer["items"]}
    assert list(found) == ["sim-harbour", "sim-glacier", "sim-orchard", "sim-penguin", "sim-kittens"]
    assert found["sim-harbour"]["snippet"]["title"] == "Harbour Lights & Fog"
    assert found["sim-harbour"]["contentDetails"]["duration"] == "PT3M7S"
    assert found["sim-harbour"]["statistics"] == {"viewCount": "1000"}
    assert found["sim-glacier"]["contentDetails"]["duration"] == "P0D"
    assert found["sim-orchard"]["contentDetails"]["contentRating"] == {"ytRating": "ytAgeRestricted"}
    assert found["sim-penguin"]["status"]["embeddable"] is False
    assert found["sim-kittens"]["statistics"] == {}
    assert list(look_up(served, "sim-harbour", part="status")[1]["items"][0]) == ["kind", "id", "status"]
    assert violations(served) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://www.youtube.com/watch?v=sim-lantern&t=5",
        "https://youtu.be/sim-lantern",
        "https://m.youtube.com/shorts/sim-lantern",
    ],
)
def test_oembed_needs_no_key_and_knows_no_length(served: Served, url: str) -> None:
    status, answer = oembed(served, url)
    assert (status, answer["title"], answer["author_name"]) == (200, "The Lantern Song", "Paper Boats")
    assert "duration" not in answer
    assert (answer["thumbnail_width"], answer["thumbnail_height"]) == (480, 360)


def test_oembed_refuses_what_may_not_be_embedded_and_what_is_not_there(served: Served) -> None:
    assert oembed(served, "https://youtu.be/sim-penguin")[0] == 403
    assert oembed(served, "https://youtu.be/abcdefghijk")[0] == 404
    assert violations(served) == []
    assert oembed(served, "https://youtu.be/")[0] == 400
    assert len(violations(served)) == 1


def test_thumbnails_are_pictures(served: Served) -> None:
    url = look_up(served, "sim-lantern")[1]["items"][0]["snippet"]["thumbnails"]["high"]["url"]
    with urllib3.PoolManager(ssl_context=served.tls, retries=False) as pool:
        response = pool.request("GET", url, timeout=5)
    assert (response.status, response.headers["Content-Type"]) == (200, "image/jpeg")
    assert response.data.startswith(b"\xff\xd8\xff")
    assert response.data.endswith(b"\xff\xd9")
    assert b"\x08\x01\x68\x01\xe0" in response.data  # 8 bits, 360 lines of 480
    assert get(served, "/vi/unknown/default.jpg")[0] == 404
    assert get(served, "/vi/sim-lantern/other.jpg")[0] == 404


def test_a_wrong_key_is_400_and_no_mistake(served: Served) -> None:
    for answer in (search(served, "x", key="wrong"), look_up(served, "sim-lantern", key="")):
        assert answer[0] == 400
        assert answer[1]["error"]["errors"][0]["reason"] == "badRequest"
        assert "API key not valid" in answer[1]["error"]["message"]
    assert violations(served) == []


def test_the_quota_of_searches_ends_and_calls_are_counted(served: Served) -> None:
    served.control.option("provider_quota", 2)
    assert [search(served, "song")[0] for _ in range(3)] == [200, 200, 403]
    assert search(served, "song")[1]["error"]["errors"][0]["reason"] == "quotaExceeded"
    assert look_up(served, "sim-lantern")[0] == 200
    assert served.control.state()["provider_calls"] == {"search": 4, "videos": 1, "oembed": 0, "picture": 0}
    served.control.option("provider_quota", "never")
    assert search(served, "song")[0] == 200


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/youtube/v3/search", {"part": "snippet", "q": "x"}),
        ("/youtube/v3/search", {"part": "snippet", "type": "video"}),
        ("/youtube/v3/search", {"part": "all", "type": "video", "q": "x"}),
        ("/youtube/v3/search", {"part": "snippet", "type": "video", "q": "x", "maxResults": 51}),
        ("/youtube/v3/videos", {"part": "snippet"}),
        ("/youtube/v3/videos", {"part": "snippet", "id": "x," * 50 + "x"}),
        ("/oembed", {"url": "https://youtu.be/sim-lantern"}),
    ],
)
def test_a_call_that_makes_no_sense_is_a_mistake(served: Served, path: str, query: dict[str, object]) -> None:
    assert get(served, path, key=KEY, **query)[0] == 400
    assert len(violations(served)) == 1


@pytest.mark.slow
def test_what_is_rave_s_own_does_not_get_to_the_provider(served: Served) -> None:
    headers = {"Authorization": f"Bearer {served.session.auth_token}"}
    assert get(served, "/oembed", headers, format="json", url="https://youtu.be/sim-lantern")[0] == 400
    assert violations(served) == ["Authorization is no header of this server"]


@pytest.mark.parametrize(
    ("mode", "reason"), [("403", "quotaExceeded"), ("429", "rateLimitExceeded"), ("500", "backendError")]
)
@pytest.mark.parametrize("target", ["provider_search", "provider_videos", "provider_oembed", "provider_picture"])
def test_failures_are_told_in_the_provider_s_words(served: Served, target: str, mode: str, reason: str) -> None:
    served.control.fail(target, mode, times=1)
    status, answer = {
        "provider_search": lambda: search(served, "song"),
        "provider_videos": lambda: look_up(served, "sim-lantern"),
        "provider_oembed": lambda: oembed(served, "https://youtu.be/sim-lantern"),
        "provider_picture": lambda: get(served, "/vi/sim-lantern/default.jpg"),
    }[target]()
    assert (status, answer["error"]["errors"][0]["reason"]) == (int(mode), reason)


def test_an_answer_can_be_slow(served: Served) -> None:
    served.control.option("slow_by", "never")
    served.control.fail("provider_search", "slow", times=1)
    url = f"https://{served.server}/youtube/v3/search?" + urlencode(
        {"part": "snippet", "type": "video", "q": "song", "key": KEY}
    )
    with (
        urllib3.PoolManager(ssl_context=served.tls, retries=False) as pool,
        pytest.raises(urllib3.exceptions.ReadTimeoutError),
    ):
        pool.request("GET", url, timeout=urllib3.Timeout(connect=10, read=0.2))
    served.control.option("slow_by", 0.05)
    served.control.fail("provider_search", "slow", times=1)
    assert search(served, "song")[0] == 200


def test_the_key_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["youtube-key"]) == 0
    assert capsys.readouterr().out == f"{KEY}\n"


# Lies.


def test_corrupt_answers_reach_the_client(served: Served) -> None:
    served.control.fail("provider_search", "wrong-ids", times=1)
    assert search(served, "lantern")[1]["items"][0]["id"]["videoId"] == "nretnal-mis"
    served.control.fail("provider_search", "no-json", times=1)
    assert search(served, "lantern")[1].startswith(b"<!DOCTYPE html>")
    served.control.fail("self", "wrong-types", times=1)
    assert served.call("GET", "/users/self")[1]["data"]["handle"] == 7


def test_a_corruption_is_applied_to_all_of_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "_HUGE_BYTES", 10)
    answer = {"items": [{"id": "abc", "n": 1, "ok": True, "none": None}], "id": {"videoId": "xy"}}
    assert CORRUPTIONS["huge"](answer) == {**answer, "padding": "x" * 10}
    assert CORRUPTIONS["no-lists"](answer)["items"] == {"entries": answer["items"]}  # type: ignore[index]
    typed = {"items": [{"id": 7, "n": "seven", "ok": "seven", "none": "seven"}], "id": {"videoId": 7}}
    assert CORRUPTIONS["wrong-types"](answer) == typed
    ids = {"items": [{"id": "cba", "n": 1, "ok": True, "none": None}], "id": {"videoId": "yx"}}
    assert CORRUPTIONS["wrong-ids"](answer) == ids


def test_corruptions_of_a_picture() -> None:
    picture = Content("image/jpeg", b"abc")
    assert CORRUPTIONS["wrong-types"](picture) is picture
    huge = CORRUPTIONS["huge"](picture)
    assert isinstance(huge, Content)
    assert len(huge.content) > 1 << 24
