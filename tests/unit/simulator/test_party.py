"""Videos, votes and moderation over HTTP, and what sockets are told of it; called over TLS as a client would."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any
from urllib.parse import urlencode

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.simulator.cli import main
from tests.unit.simulator_server import Served, ask, in_thread, state_of

# As one of the known clients sends it, down to what only it sends.
SONG = {
    "providerId": "abcdefghijk",
    "title": "A Song",
    "author": None,
    "description": None,
    "duration": "PT0H3M20S",
    "isLive": False,
    "maturity": "G",
    "thumbnail": "https://i.example.test/vi/abcdefghijk/hq.jpg",
    "thumbnails": {"animated": None, "channel": None, "high": "https://i.example.test/vi/abcdefghijk/hq.jpg"},
    "url": "https://www.youtube.com/watch?v=abcdefghijk",
    "videoTags": ["song"],
    "viewCount": 12,
}
# As the other one does.
SHORTER = {
    key: SONG[key] for key in ("providerId", "title", "duration", "isLive", "thumbnail", "url", "viewCount")
} | {"thumbnails": {"low": None}}


@pytest.fixture
def mesh(served: Served) -> str:
    """A mesh in which nothing plays, with ann, who leads it, and the bot."""
    served.control.option("playback", "none")
    (made,) = served.control.create(kinds=["public"])
    served.control.join(made, "botty")
    return made


def violations(served: Served) -> list[str]:
    return [violation["what"] for violation in served.control.violations()]


def register(served: Served, **changed: Any) -> str:
    """The URL of a registered video."""
    status, answer = served.call("POST", "/videos/youtube", SONG | changed)
    assert status == 200
    return f"https://{served.server}/videos/youtube/{answer['data']['id']}"


def vote(served: Served, mesh: str, url: str, **changed: Any) -> int:
    body = {"deviceId": served.session.device_id, "time": time.time(), "url": url, **changed}
    return served.call("POST", f"/meshes/{mesh}/votes", body)[0]


def user_id(served: Served, mesh: str, handle: str) -> int:
    return next(int(u["user_id"]) for u in served.control.mesh(mesh)["users"] if u["handle"] == handle)


# Videos.


@pytest.mark.parametrize("body", [SONG, SHORTER])
def test_a_video_is_registered_under_one_id_and_read_again(served: Served, body: dict[str, Any]) -> None:
    status, answer = served.call("POST", "/videos/youtube", body)
    assert status == 200
    video = answer["data"]
    assert uuid.UUID(video["id"])
    assert (video["providerId"], video["title"], video["duration"]) == ("abcdefghijk", "A Song", "PT0H3M20S")
    assert served.call("POST", "/videos/youtube", body | {"title": "New"})[1]["data"]["id"] == video["id"]
    assert served.call("GET", f"/videos/youtube/{video['id']}")[1]["data"]["title"] == "New"
    assert served.call("GET", f"/videos/vimeo/{video['id']}")[0] == 404
    assert violations(served) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"providerId": "a b"}, "providerId is no id of a video"),
        ({"providerId": None}, "providerId must be a text"),
        ({"duration": "PT3M20S"}, "duration is not written PT0H0M0S"),
        ({"duration": 200}, "duration must be a text"),
        ({"isLive": "no"}, "isLive must be true or false"),
        ({"thumbnails": []}, "thumbnails must be an object"),
        ({"url": "abc"}, "url is no https URL"),
        ({"viewCount": "12"}, "viewCount is no number of views"),
        ({"maturity": "PG"}, "maturity is neither 'G' nor '18+'"),
        ({"title": 7}, "title must be a text"),
    ],
)
def test_a_video_that_no_client_describes_so_is_a_mistake(
    served: Served, changed: dict[str, Any], words: str
) -> None:
    assert served.call("POST", "/videos/youtube", SONG | changed)[0] == 400
    assert [what[: len(words)] for what in violations(served)] == [words]


def test_thumbnails_are_always_sent(served: Served) -> None:
    body = {key: value for key, value in SONG.items() if key != "thumbnails"}
    assert served.call("POST", "/videos/youtube", body)[0] == 400
    assert violations(served) == ["thumbnail and thumbnails are missing"]


def test_how_long_a_video_is_can_be_unknown_to_all(served: Served, mesh: str) -> None:
    served.control.option("video_duration", "unknown")
    served.control.option("state_duration", "seconds")
    assert served.call("POST", "/videos/youtube", SONG)[1]["data"]["duration"] is None
    served.control.video(mesh, "sim-lantern")
    assert "videoDuration" not in served.call("GET", f"/meshes/{mesh}")[1]["data"]
    assert served.control.mesh(mesh)["plays"]["ends_at"]


# Votes.


async def test_a_vote_starts_a_video_that_all_are_told_of(served: Served, mesh: str) -> None:
    url = register(served)

    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        assert (await state_of(ws))["mesh_state"]["status"] == "WAIT"
        assert await in_thread(vote, served, mesh, url) == 200
        state = await state_of(ws)
        playing = state["mesh_state"]
        assert (playing["status"], playing["url"], playing["position"]) == ("PLAY", url, 0)
        assert playing["video_url"] == SONG["url"]
        assert abs(playing["time"] - time.time()) < 60
        assert state["vote_originator"] == served.session.user_id
        assert "duration" not in playing
        await in_thread(served.control.vote, mesh, "sim-lantern", user="bea")
        while not (votes := (await state_of(ws))["votes"]):
            pass
        (shown,) = votes
        assert shown["users"] == [await in_thread(user_id, served, mesh, "bea")]
        assert (shown["num_votes"], shown["order"]) == (1, 0)
        assert shown["oldest_vote_time"] >= playing["time"]
    data = served.call("GET", f"/meshes/{mesh}")[1]["data"]
    assert (data["mediaUrl"], data["currentState"], data["videoTitle"]) == (url, "play", "A Song")
    assert (data["videoDuration"], data["videoUrl"]) == ("PT0H3M20S", SONG["url"])
    assert violations(served) == []


def test_the_time_of_a_vote_may_be_in_either_unit(served: Served, mesh: str) -> None:
    url = register(served)
    assert vote(served, mesh, url, time=int(time.time() * 1000)) == 200
    assert vote(served, mesh, url, time=time.time() + 4000) == 400
    assert vote(served, mesh, url, time=str(time.time())) == 400
    assert len(violations(served)) == 2


def test_a_vote_names_a_registered_video_on_whatever_host(served: Served, mesh: str) -> None:
    url = register(served).replace(served.server, "api.example.test")
    assert vote(served, mesh, url) == 200
    assert served.control.mesh(mesh)["plays"]["url"] == url
    assert vote(served, mesh, f"https://{served.server}/videos/youtube/{uuid.uuid4()}") == 404
    assert violations(served) == []
    assert vote(served, mesh, "https://www.youtube.com/watch?v=abcdefghijk") == 400
    assert vote(served, mesh, url, deviceId="0" * 32) == 403
    assert len(violations(served)) == 2


def test_the_bot_votes_only_where_it_is(served: Served, mesh: str) -> None:
    url = register(served)
    served.control.part(mesh, "botty")
    assert vote(served, mesh, url) == 403
    (hidden,) = served.control.create()
    assert vote(served, hidden, url) == 403
    assert violations(served) == []


async def test_votes_are_cleared_and_listed_in_either_form(served: Served, mesh: str) -> None:
    served.control.video(mesh, "sim-lantern")
    served.control.vote(mesh, "sim-harbour", user="bea")
    url = served.control.mesh(mesh)["votes"][0]["url"]

    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        await in_thread(served.control.option, "voters_form", "objects")
        await in_thread(served.control.option, "user_ids", "text")
        await in_thread(served.control.join, mesh, "cy")
        await state_of(ws)
        bea = await in_thread(user_id, served, mesh, "bea")
        assert (await state_of(ws))["votes"][0]["users"] == [{"user_id": str(bea)}]
        assert (await in_thread(served.call, "POST", f"/meshes/{mesh}/votes/clear"))[0] == 200
        state = await state_of(ws)
        assert (state["votes"], state["cleared_votes"]) == ([], [url])
        await in_thread(served.control.option, "cleared_form", "objects")
        await in_thread(served.control.join, mesh, "dan")
        assert (await state_of(ws))["cleared_votes"] == [{"url": url}]


async def test_in_leader_mode_the_answer_is_403_and_no_mistake(served: Served, mesh: str) -> None:
    url = register(served)

    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        assert (await state_of(ws))["mesh_state"]["play_mode"] == "VOTE"
        await in_thread(served.control.option, "play_mode", "LEADER")
        assert (await state_of(ws))["mesh_state"]["play_mode"] == "LEADER"
    served.control.join(mesh, "botty")
    assert vote(served, mesh, url) == 403
    state = {"position": 0, "state": "PAUS", "time": time.time()}
    assert served.call("PUT", f"/meshes/{mesh}/state", state)[0] == 403
    assert served.call("POST", f"/meshes/{mesh}/state/endstream")[0] == 403
    served.control.leader(mesh, "botty")
    assert vote(served, mesh, url) == 200
    assert violations(served) == []


# Opinions and playback.


@pytest.mark.parametrize("key", ["video_instance_id", "videoInstanceId", "instance", "none"])
async def test_the_id_of_a_playing_has_the_key_that_is_switched_on(served: Served, mesh: str, key: str) -> None:
    served.control.video(mesh, "sim-lantern")
    served.control.option("instance_key", key)
    served.control.option("state_duration", "seconds")
    instance = served.control.mesh(mesh)["plays"]["instance"]

    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        shown = (await state_of(ws))["mesh_state"]
        assert [k for k, value in shown.items() if value == instance] == ([] if key == "none" else [key])
        assert shown["duration"] == 212


async def test_opinions_are_said_withdrawn_and_shown_in_either_form(served: Served, mesh: str) -> None:
    served.control.video(mesh, "sim-lantern")
    plays, path = served.control.mesh(mesh)["plays"], f"/meshes/{mesh}/likeskip"
    about = {"url": plays["url"], "video_instance_id": plays["instance"]}
    said = {"url": plays["url"], "opinion": "LIKE", "videoInstanceId": plays["instance"]}
    me = served.session.user_id

    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        assert (await state_of(ws))["likeskips"] == []
        assert await in_thread(served.call, "PUT", path, said) == (200, {"success": True})
        assert (await state_of(ws))["likeskips"] == [{"user_id": me, "opinion": "LIKE", **about}]
        await in_thread(served.control.option, "likeskips_form", "totals")
        await in_thread(served.call, "PUT", path, said | {"opinion": "SKIP"})
        assert (await state_of(ws))["likeskips"] == [{**about, "likes": [], "skips": [me]}]
        assert await in_thread(served.call, "DELETE", f"{path}?{urlencode(said)}") == (200, {"success": True})
        assert (await state_of(ws))["likeskips"] == []
    assert violations(served) == []


def test_an_opinion_on_what_has_ended_comes_too_late_and_is_no_mistake(served: Served, mesh: str) -> None:
    served.control.video(mesh, "sim-lantern")
    plays = served.control.mesh(mesh)["plays"]
    said = {"url": plays["url"], "opinion": "LIKE", "videoInstanceId": plays["instance"]}
    served.control.video(mesh)
    assert served.call("PUT", f"/meshes/{mesh}/likeskip", said)[0] == 404
    assert violations(served) == []
    for wrong in ({"opinion": "like"}, {"videoInstanceId": "x"}, {"url": None}):
        assert served.call("PUT", f"/meshes/{mesh}/likeskip", said | wrong)[0] == 400
    assert len(violations(served)) == 3


def test_the_bot_pauses_moves_and_ends_the_video(served: Served, mesh: str) -> None:
    path = f"/meshes/{mesh}/state"
    pause = {"position": 30.5, "state": "PAUS", "time": time.time()}
    assert served.call("PUT", path, pause)[0] == 404
    served.control.video(mesh, "sim-lantern")
    status, answer = served.call("PUT", path, pause)
    assert (status, answer["data"]["currentState"], answer["data"]["position"]) == (200, "paus", 30.5)
    assert served.call("POST", f"{path}/endstream") == (200, {"success": True})
    assert served.control.mesh(mesh)["plays"] is None
    assert served.call("POST", f"{path}/endstream") == (200, {"success": True})
    assert violations(served) == []
    for wrong in ({"state": "STOP"}, {"position": -1}, {"position": "3"}, {"time": time.time() * 1000}):
        assert served.call("PUT", path, pause | wrong)[0] == 400
    assert len(violations(served)) == 4


async def test_a_video_ends_by_itself(served: Served, mesh: str) -> None:
    served.control.option("playback_speed", 100)

    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        await state_of(ws)
        await in_thread(served.control.video, mesh, "sim-balloon")
        assert (await state_of(ws))["mesh_state"]["playback_speed"] == 100
        assert (await state_of(ws))["mesh_state"]["status"] == "WAIT"


async def test_the_end_of_a_video_is_told_in_the_form_that_is_switched_on(served: Served, mesh: str) -> None:
    async def told(form: str) -> dict[str, Any]:
        await in_thread(served.control.option, "ended_form", form)
        async with served.open(mesh) as ws:
            await ask(ws, "fullyJoined")
            return dict((await state_of(ws))["mesh_state"])

    assert "url" not in await told("VOTE")
    await in_thread(served.control.video, mesh, "sim-lantern")
    playing = await told("VOTE")
    assert playing["status"] == "PLAY"
    await in_thread(served.control.video, mesh)
    assert await told("VOTE") == playing | {"status": "VOTE"}
    assert "url" not in await told("none")
    assert ((ended := await told("empty"))["status"], ended["url"]) == ("WAIT", "")
    await in_thread(served.control.video, mesh, "sim-harbour")
    assert (await told("VOTE"))["status"] == "PLAY"


# Moderation.


def test_leadership_is_transferred_by_the_leader(served: Served, mesh: str) -> None:
    ann, path = user_id(served, mesh, "ann"), f"/meshes/{mesh}/transferleadership"
    assert served.call("POST", path, {"newLeaderId": served.session.user_id})[0] == 403
    served.control.leader(mesh, "botty")
    assert served.call("POST", path, {"newLeaderId": ann}) == (200, {"success": True})
    assert [user["leader"] for user in served.control.mesh(mesh)["users"]] == [True, False]
    served.control.leader(mesh, "botty")
    assert served.call("POST", path, {"newLeaderId": 5})[0] == 404
    assert violations(served) == []
    assert served.call("POST", path, {"newLeaderId": "ann"})[0] == 400
    assert len(violations(served)) == 1


def test_voices_are_taken_and_given_by_the_leader(served: Served, mesh: str) -> None:
    ann = user_id(served, mesh, "ann")
    assert served.call("POST", f"/meshes/{mesh}/mute/{ann}", {})[0] == 403
    served.control.leader(mesh, "botty")
    assert served.call("POST", f"/meshes/{mesh}/mute/{ann}", {}) == (200, {"success": True})
    assert served.control.mesh(mesh)["muted"] == [ann]
    assert served.call("POST", f"/meshes/{mesh}/unmute/{ann}", {}) == (200, {"success": True})
    assert served.control.mesh(mesh)["muted"] == []
    assert served.call("POST", f"/meshes/{mesh}/mute/{ann}", {"ids": [ann]})[0] == 400
    assert violations(served) == ["the body is not {}"]


SETTINGS = {"isPublic": False, "isFriend": False, "isLocal": False, "playMode": "VOTE", "voipMode": "OFF"}


async def test_the_leader_changes_who_finds_the_mesh(served: Served, mesh: str) -> None:
    path = f"/meshes/{mesh}"
    assert (await in_thread(served.call, "PUT", path, SETTINGS))[0] == 403
    assert (await in_thread(served.control.mesh, mesh))["public"] is True
    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        assert (await state_of(ws))["mesh_state"]["privacy_mode"] == "PUBLIC"
        await in_thread(served.control.leader, mesh, "botty")
        await state_of(ws)
        status, answer = await in_thread(served.call, "PUT", path, SETTINGS)
        assert (status, answer["data"]["isPublic"]) == (200, False)
        assert (await state_of(ws))["mesh_state"]["privacy_mode"] == "INVITE"
        assert (await in_thread(served.call, "PUT", path, SETTINGS | {"isPublic": True}))[0] == 200
    assert (await in_thread(served.control.mesh, mesh))["public"] is True
    assert violations(served) == []


@pytest.mark.parametrize("wrong", [{"isPublic": None}, {"isFriend": "no"}, {"isLocal": 1}, {"playMode": None}])
def test_a_change_of_settings_that_no_client_sends_is_a_mistake(
    served: Served, mesh: str, wrong: dict[str, Any]
) -> None:
    served.control.leader(mesh, "botty")
    assert served.call("PUT", f"/meshes/{mesh}", SETTINGS | wrong)[0] == 400
    assert len(violations(served)) == 1
    assert served.control.mesh(mesh)["public"] is True


def test_the_leader_mutes_and_unmutes_at_the_terminal(
    served: Served, mesh: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def cli(*arguments: str) -> tuple[int, str]:
        status, printed = main(["--control", str(served.control_socket), *arguments]), capsys.readouterr()
        return status, printed.out + printed.err

    bot = served.session.user_id
    assert cli("mute", mesh, "botty") == (0, "")
    assert served.control.mesh(mesh)["muted"] == [bot]
    assert cli("users", mesh)[1].splitlines()[1:] == [f"{bot}  botty  muted"]
    assert cli("unmute", mesh, "botty") == cli("mute", mesh, "ann") == (0, "")
    assert cli("users", mesh)[1].splitlines()[0].endswith("  ann  leader  muted")
    assert cli("mute", mesh, "bea") == (1, "rave-simulator: bea is not in the mesh\n")
    served.control.part(mesh, "ann")
    assert cli("unmute", mesh, "ann") == (0, "")
    assert cli("mute", mesh, "botty") == (0, "")
    served.control.part(mesh, "botty")
    assert cli("unmute", mesh, "botty") == (1, "rave-simulator: the mesh is empty and has no leader\n")
    events = [f"{e['type']} {e['user']}" for e in served.control.events() if "muted" in e["type"]]
    assert events == ["muted botty", "unmuted botty", "muted ann", "unmuted ann", "muted botty"]


@pytest.mark.parametrize(
    ("target", "method", "path"),
    [
        ("register", "POST", "/videos/youtube"),
        ("video", "GET", "/videos/youtube/x"),
        ("vote", "POST", "/meshes/{mesh}/votes"),
        ("clear", "POST", "/meshes/{mesh}/votes/clear"),
        ("like", "PUT", "/meshes/{mesh}/likeskip"),
        ("like", "DELETE", "/meshes/{mesh}/likeskip"),
        ("state", "PUT", "/meshes/{mesh}/state"),
        ("endstream", "POST", "/meshes/{mesh}/state/endstream"),
        ("kick", "POST", "/meshes/{mesh}/kick"),
        ("transfer", "POST", "/meshes/{mesh}/transferleadership"),
        ("mute", "POST", "/meshes/{mesh}/mute/1"),
        ("unmute", "POST", "/meshes/{mesh}/unmute/1"),
        ("settings", "PUT", "/meshes/{mesh}"),
    ],
)
def test_each_call_is_checked_and_can_be_made_to_fail(
    served: Served, mesh: str, target: str, method: str, path: str
) -> None:
    path = path.format(mesh=mesh)
    assert served.raw(method, path, Authorization=None).status == 401
    served.control.fail(target, "503", times=1)
    assert served.call(method, path)[0] == 503


# The control API and the command line.


@pytest.mark.parametrize(
    "wrong",
    [
        lambda c, mesh: c.vote(mesh, "nothing"),
        lambda c, mesh: c.judge(mesh, "love"),
        lambda c, mesh: c.playback(mesh, "stop"),
        lambda c, mesh: c.playback(mesh, position=-1),
    ],
)
def test_what_no_user_can_do_is_an_error_in_words(served: Served, mesh: str, wrong: Any) -> None:
    with pytest.raises(RaveError) as raised:
        wrong(served.control, mesh)
    assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.slow
def test_a_party_at_the_terminal(served: Served, mesh: str, capsys: pytest.CaptureFixture[str]) -> None:
    def cli(*arguments: str) -> list[str]:
        assert main(["--control", str(served.control_socket), *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    url = register(served)
    assert cli("mesh", "list")[0].endswith("  nothing plays")
    cli("vote", mesh, "sim-lantern", "--user", "ann")
    cli("vote", mesh, url, "--user", "bea")
    cli("like", mesh)
    cli("skip", mesh, "--user", "bea")
    cli("skip", mesh, "--user", "cy")
    cli("skip", mesh, "--user", "cy", "--withdraw")
    cli("seek", mesh, "61.5")
    cli("pause", mesh)
    cli("leader", mesh, "bea")
    assert cli("mesh", "show", mesh) == [
        "mode    VOTE",
        "plays   The Lantern Song, PAUS at 1:01 of 3:32",
        "leader  bea",
        "users   ann, botty, bea, cy",
        "likes   ann",
        "skips   bea",
        "votes",
        "  1  A Song  (bea)",
    ]
    assert cli("mesh", "list")[0].endswith("  The Lantern Song")
    cli("play", mesh)
    assert json.loads("\n".join(cli("state")))["meshes"][mesh]["plays"]["status"] == "PLAY"
    cli("clear-votes", mesh, "--user", "bea")
    cli("video", mesh)
    assert cli("mesh", "show", mesh)[1:3] == ["plays   -", "leader  bea"]
    cli("video", mesh, "https://www.youtube.com/watch?v=sim-glacier")
    assert cli("mesh", "show", mesh)[1] == "plays   Glacier Live, PLAY at 0:00"
    assert cli("mesh", "show", mesh)[-1] == "votes   -"
    assert violations(served) == []


def test_what_is_forbidden_is_told_in_words(served: Served, mesh: str, capsys: pytest.CaptureFixture[str]) -> None:
    served.control.option("play_mode", "LEADER")
    assert main(["--control", str(served.control_socket), "vote", mesh, "sim-lantern", "--user", "bea"]) == 1
    assert capsys.readouterr().err == "rave-simulator: only the leader may\n"
