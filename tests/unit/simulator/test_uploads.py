"""Pictures for the chat, users and whom they know, called over TLS as a client would."""

from __future__ import annotations

import json
from typing import Any

import pytest
import urllib3

from ravesvc.simulator.pictures import KINDS, jpeg
from tests.unit.simulator_server import Served, ask, in_thread, until

JPEG = jpeg("x", 16, 9)


@pytest.fixture
def mesh(served: Served) -> str:
    (made,) = served.control.create(kinds=["public"])
    served.control.join(made, "botty")
    return made


def violations(served: Served) -> list[str]:
    return [violation["what"] for violation in served.control.violations()]


def offer(served: Served, mesh: str, mime: str = "image/jpeg") -> dict[str, Any]:
    asked = {"media": [{"index": 0, "mime": mime, "isExplicit": False}]}
    status, answer = served.call("POST", f"/meshes/{mesh}/images/upload", asked)
    assert status == 200
    (slot,) = answer["data"]
    assert (slot["index"], slot["mime"]) == (0, mime)
    return dict(slot)


def plain(served: Served, method: str, url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """A call of a program that knows nothing of Rave."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib3.PoolManager(ssl_context=served.tls, retries=False) as pool:
        response = pool.request(method, url, body=body, headers=named, timeout=10)
    return response.status, response.data


def test_a_picture_is_sent_and_seen(served: Served, mesh: str) -> None:
    slot = offer(served, mesh)
    assert plain(served, "GET", slot["postingUrl"])[0] == 404
    assert plain(served, "PUT", slot["uploadUrl"], JPEG, Content_Type="image/jpeg")[0] == 200
    assert plain(served, "GET", slot["postingUrl"]) == (200, JPEG)
    (event,) = [e for e in served.control.events() if e["type"] == "uploaded"]
    assert (event["name"], event["mime"], event["size"]) == (slot["fileName"], "image/jpeg", len(JPEG))
    assert violations(served) == []


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Authorization": "Bearer x"}, "Authorization is no header of this server"),
        ({"Request_Hash": "x"}, "Request-Hash is no header of this server"),
        ({"Ssaid": "0" * 16}, "Ssaid is no header of this server"),
        ({"Client_Version": "1"}, "Client-Version is no header of this server"),
        ({"Content_Type": "image/png"}, "Content-Type is not image/jpeg, which was asked for"),
    ],
)
def test_what_does_not_belong_to_an_upload_is_a_mistake(
    served: Served, mesh: str, headers: dict[str, str], words: str
) -> None:
    slot = offer(served, mesh)
    assert plain(served, "PUT", slot["uploadUrl"], JPEG, **{"Content_Type": "image/jpeg", **headers})[0] == 400
    assert violations(served) == [words]
    assert plain(served, "GET", slot["postingUrl"])[0] == 404


def test_bytes_of_another_kind_are_a_mistake(served: Served, mesh: str) -> None:
    slot = offer(served, mesh)
    assert plain(served, "PUT", slot["uploadUrl"], b"<html>", Content_Type="image/jpeg")[0] == 400
    assert violations(served) == ["the bytes are not image/jpeg"]


def test_a_url_that_was_not_handed_out_is_a_mistake(served: Served, mesh: str) -> None:
    slot = offer(served, mesh)
    assert plain(served, "PUT", slot["uploadUrl"] + "0", JPEG, Content_Type="image/jpeg")[0] == 400
    assert violations(served) == ["the URL is none that was handed out"]


def test_a_url_is_good_for_a_while(served: Served, mesh: str) -> None:
    slot = offer(served, mesh)
    world = served.simulator.world
    clock = world.clock
    world.clock = lambda: clock() + 1000
    assert plain(served, "PUT", slot["uploadUrl"], JPEG, Content_Type="image/jpeg")[0] == 403
    assert violations(served) == []


def test_what_is_too_large_is_a_switch_and_no_mistake(served: Served, mesh: str) -> None:
    served.control.option("upload_limit", len(JPEG) - 1)
    slot = offer(served, mesh)
    assert plain(served, "PUT", slot["uploadUrl"], JPEG, Content_Type="image/jpeg")[0] == 413
    served.control.option("upload_limit", 3_000_000)
    large = JPEG + bytes(2_000_000)
    assert plain(served, "PUT", slot["uploadUrl"], large, Content_Type="image/jpeg")[0] == 200
    assert violations(served) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "media",
    [
        [],
        [{"index": 0, "mime": "text/html", "isExplicit": False}],
        [{"index": 0, "mime": "image/png"}],
        [{"mime": "image/png", "isExplicit": False}],
        ["image/png"],
        [{"index": n, "mime": "image/png", "isExplicit": False} for n in range(11)],
    ],
)
def test_asking_for_what_is_no_picture_is_a_mistake(served: Served, mesh: str, media: list[Any]) -> None:
    assert served.call("POST", f"/meshes/{mesh}/images/upload", {"media": media})[0] == 400
    assert len(violations(served)) == 1


def test_old_leave_falls_off(served: Served, mesh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravesvc.simulator.uploads._MAX_SLOTS", 1)
    first, _ = offer(served, mesh), offer(served, mesh)
    assert plain(served, "PUT", first["uploadUrl"], JPEG, Content_Type="image/jpeg")[0] == 400


@pytest.mark.parametrize("target", ["upload", "picture"])
def test_the_way_of_a_picture_can_be_made_to_fail(served: Served, mesh: str, target: str) -> None:
    slot = offer(served, mesh)
    plain(served, "PUT", slot["uploadUrl"], JPEG, Content_Type="image/jpeg")
    served.control.fail(target, "503")
    if target == "upload":
        assert plain(served, "PUT", slot["uploadUrl"], JPEG, Content_Type="image/jpeg")[0] == 503
    else:
        assert plain(served, "GET", slot["postingUrl"])[0] == 503
        served.control.fail(target, "half-page")
        with pytest.raises(urllib3.exceptions.ProtocolError, match="IncompleteRead"):
            plain(served, "GET", slot["postingUrl"])


def test_the_kinds_are_told_by_the_first_bytes() -> None:
    starts = {
        "image/jpeg": JPEG,
        "image/png": b"\x89PNG\r\n\x1a\nx",
        "image/gif": b"GIF89a",
        "image/webp": b"RIFF0000WEBP",
        "video/mp4": b"0000ftyp",
        "video/quicktime": b"0000moov",
        "video/webm": b"\x1a\x45\xdf\xa3",
    }
    assert [kind for kind, fits in KINDS.items() if not fits(starts[kind]) or fits(b"<html>")] == []
    assert set(starts) == set(KINDS)


# Chat with pictures.


async def test_pictures_in_chat_are_shown_with_their_urls(served: Served, mesh: str) -> None:
    url = "https://localhost/pictures/x.jpeg"
    entry = {"url": url, "mime": "image/jpeg", "isExplicit": False, "aspectRatio": "1.78", "thumbnailUrl": ""}

    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        said = {"chat": "look", "id": "i", "detected_lang": "en", "translations": {}, "media": [entry]}
        await ws.send(json.dumps({"notification": True, "method": "chatMessage", "data": said}))
        assert (await until(ws, "chatMessage"))["media"] == [entry]
        for wrong in ("x", [7], [{**entry, "isExplicit": 0}], [{**entry, "aspectRatio": 1.78}]):
            said = {"chat": "look", "id": "i", "detected_lang": "en", "translations": {}, "media": wrong}
            refused = await ask(ws, "chatMessage", 7, **said)
            assert refused["ok"] is False
    assert [e["media"] for e in served.control.events() if e["type"] == "chat"] == [[url]]
    assert len(violations(served)) == 4


async def test_a_reply_names_the_message_that_it_answers(served: Served, mesh: str) -> None:
    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        await in_thread(served.control.chat, mesh, "?set", user="bea", reply="message")
        assert (await until(ws, "chatMessage"))["reply"] == "message"


# Users.


def test_contacts_are_those_in_the_same_mesh(served: Served, mesh: str) -> None:
    served.control.join(mesh, "bea", "cy")
    served.control.join(served.control.create()[0], "dan")
    status, answer = served.call("GET", "/contacts?limit=100")
    assert (status, answer["paging"]) == (200, {})
    assert [user["handle"] for user in answer["data"]] == ["ann", "bea", "cy"]
    assert len(served.call("GET", "/contacts?limit=2")[1]["data"]) == 2
    assert violations(served) == []
    assert served.call("GET", "/contacts?limit=0")[0] == 400
    assert violations(served) == ["limit is not 1 to 100"]


def test_users_and_profiles_are_shown(served: Served, mesh: str) -> None:
    ann = served.control.mesh(mesh)["users"][0]["user_id"]
    assert served.call("GET", f"/users/{ann}")[1]["data"]["displayName"] == "Ann"
    shown = served.call("GET", f"/profiles/{ann}?exclude=false&clientVersion=1")[1]["data"]
    assert (shown["profile"]["handle"], shown["bio"]["bio"]) == ("ann", "I am Ann.")
    assert served.call("GET", "/users/5")[0] == 404
    assert violations(served) == []
    assert served.call("GET", f"/profiles/{ann}")[0] == 400
    assert len(violations(served)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "method", "path"),
    [
        ("images", "POST", "/meshes/{mesh}/images/upload"),
        ("contacts", "GET", "/contacts"),
        ("friendships", "GET", "/friendships"),
        ("friendships", "GET", "/friendships/requests"),
        ("friendships", "POST", "/friendships"),
        ("friendships", "DELETE", "/friendships"),
        ("friendships", "DELETE", "/friendships/unfriend"),
        ("user", "GET", "/users/1"),
        ("profile", "GET", "/profiles/1"),
    ],
)
def test_each_call_is_checked_and_can_be_made_to_fail(
    served: Served, mesh: str, target: str, method: str, path: str
) -> None:
    path = path.format(mesh=mesh)
    assert served.raw(method, path, Authorization=None).status == 401
    served.control.fail(target, "503", times=1)
    assert served.call(method, path)[0] == 503


def test_what_is_forbidden_can_be_an_answer_without_success(served: Served, mesh: str) -> None:
    served.control.option("forbidden_form", "success")
    path, body = f"/meshes/{mesh}/transferleadership", {"newLeaderId": served.session.user_id}
    assert served.call("POST", path, body) == (200, {"success": False})
    assert served.call("POST", path, {"newLeaderId": None})[0] == 400
