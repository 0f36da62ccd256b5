"""Rave over HTTP, called over TLS as a client would."""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3

from ravesvc.errors import Code, RaveError
from tests.unit.simulator_server import Served


def ids(page: Any) -> list[str]:
    return [entry["mesh"]["id"] for entry in page["data"]]


def violations(served: Served) -> list[str]:
    return [violation["what"] for violation in served.control.violations()]


def test_the_certificate_is_good_for_localhost_and_its_address(served: Served) -> None:
    port = served.server.rpartition(":")[2]
    for host in ("localhost", "127.0.0.1"):
        assert served.raw("GET", f"https://{host}:{port}/users/self").status == 200


def test_a_client_without_the_authority_does_not_connect(served: Served) -> None:
    with (
        urllib3.PoolManager(ssl_context=ssl.create_default_context(), retries=False) as pool,
        pytest.raises(urllib3.exceptions.SSLError),
    ):
        pool.request("GET", f"https://{served.server}/users/self")


def test_a_call_with_one_mistake_is_refused_and_written_down(served: Served) -> None:
    response = served.raw("GET", "/users/self", Request_Hash="AAAA")
    assert response.status == 401
    assert response.json()["error"]["code"] == 401
    (violation,) = served.control.violations()
    assert violation["where"] == "GET /users/self"
    assert violation["what"] == "Request-Hash is not the hash of this call"
    served.control.forget_violations()
    assert served.control.violations() == []


def test_the_hash_is_taken_over_the_very_bytes(served: Served) -> None:
    body = json.dumps({"deviceId": served.session.device_id, "ids": [], "note": "Zoë"}, ensure_ascii=False).encode()
    assert served.raw("POST", "/users/list", body).status == 200
    signed_for_fewer = served.headers(body[:-1])["Request-Hash"]
    assert served.raw("POST", "/users/list", body, Request_Hash=signed_for_fewer).status == 401


def test_the_window_of_the_time_stamp_is_a_switch(served: Served) -> None:
    served.control.option("request_window", 0)
    assert served.raw("GET", "/users/self").status == 401
    assert "Request-Ts is too far from the server's clock" in violations(served)


def test_every_mistake_of_a_call_is_written_down(served: Served) -> None:
    assert served.raw("GET", "/users/self", Client_Version="0", Authorization=None).status == 400
    assert len(violations(served)) == 3


def test_an_unknown_call_is_a_mistake(served: Served) -> None:
    assert served.call("GET", "/nothing")[0] == 404
    assert served.call("PUT", "/users/self")[0] == 404
    assert violations(served) == ["no such call"] * 2


def test_self_and_list_tell_names(served: Served) -> None:
    (mesh,) = served.control.create()
    status, answer = served.call("GET", "/users/self")
    assert (status, answer["data"]["id"]) == (200, served.session.user_id)
    ann = served.control.mesh(mesh)["users"][0]["user_id"]
    ask = {"deviceId": served.session.device_id, "ids": [ann, str(served.session.user_id), 5], "includeOnline": True}
    status, answer = served.call("POST", "/users/list", ask)
    assert [(user["displayName"], user["online"]) for user in answer["data"]] == [("Ann", True), ("Botty", True)]
    _, answer = served.call("POST", "/users/list", ask | {"includeOnline": False})
    assert "online" not in answer["data"][0]


@pytest.mark.parametrize("body", [{"ids": [1]}, {"ids": ["x"], "deviceId": None}, {"ids": ["x"]}, {"deviceId": "d"}])
def test_a_malformed_body_is_refused_and_written_down(served: Served, body: dict[str, Any]) -> None:
    if "deviceId" not in body and body["ids"] == ["x"]:
        body["deviceId"] = served.session.device_id
    assert served.call("POST", "/users/list", body)[0] in (400, 403)
    assert violations(served)


def test_a_body_that_is_no_json_is_refused(served: Served) -> None:
    assert served.raw("POST", "/users/list", b"{").status == 400
    words = "Expecting property name enclosed in double quotes"
    assert violations(served) == [f"the body is not valid JSON (line 1: {words})"]


def befriend(served: Served) -> None:
    """Ann, who makes the meshes, and the bot are friends from now on."""
    served.control.befriend("ann")
    served.control.befriend("botty", "ann")


def test_a_mesh_for_friends_is_listed_and_shown_to_friends_of_the_user_who_made_it(served: Served) -> None:
    (mesh,) = served.control.create(kinds=["friends"])
    url = served.listing(friends="true")
    assert ids(served.call("GET", url)[1]) == []
    assert served.call("GET", f"/meshes/{mesh}")[0] == 403
    befriend(served)
    assert ids(served.call("GET", url)[1]) == [mesh]
    assert served.call("GET", f"/meshes/{mesh}")[0] == 200
    served.control.unfriend("ann")
    assert ids(served.call("GET", url)[1]) == []
    assert served.call("GET", f"/meshes/{mesh}")[0] == 403


@pytest.mark.slow
def test_the_listing_shows_what_its_flags_ask_for(served: Served) -> None:
    control = served.control
    befriend(served)
    kinds = {kind: control.create(kinds=[kind])[0] for kind in ("public", "friends", "local")}
    (kinds["invited"],) = control.create(title="Film")
    control.invite(kinds["invited"])
    for kind, mesh in kinds.items():
        status, page = served.call("GET", served.listing(**{kind: "true"}))
        assert (status, ids(page), page["paging"]) == (200, [mesh], {})
    _, page = served.call("GET", served.listing(public="True", invited="true", friends="false"))
    assert ids(page) == [kinds["public"], kinds["invited"]]
    (entry,) = [entry for entry in page["data"] if entry["mesh"]["id"] == kinds["invited"]]
    assert entry["mesh"]["server"] == served.server
    assert entry["mesh"]["videoTitle"] == "Film"
    assert entry["users"][0]["displayName"] == "Ann"
    assert served.call("GET", served.listing())[1]["data"] == []


def test_pages_follow_each_other_by_absolute_urls(served: Served) -> None:
    meshes = served.control.create(5)
    served.control.invite(meshes)
    url, seen = served.listing(invited="true", limit=2), []
    for _ in range(3):
        status, page = served.call("GET", url)
        assert status == 200
        seen.append(ids(page))
        url = page["paging"].get("next", "")
    assert seen == [meshes[:2], meshes[2:4], meshes[4:]]
    assert url == ""
    assert served.control.state()["listings"] == {"begun": 1, "completed": 1, "failed": 0}


def test_the_next_page_repeats_the_query(served: Served) -> None:
    served.control.invite(served.control.create(2))
    served.control.option("page_size", 1)
    _, page = served.call("GET", served.listing(invited="true", lang="a b&c"))
    query = parse_qs(urlsplit(page["paging"]["next"]).query)
    assert query["lang"] == ["a b&c"]
    assert query["invited"] == ["true"]
    assert len(query["cursor"]) == 1


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": "x"}, {"cursor": "zzz"}, {"public": "maybe"}])
def test_a_wrong_query_is_refused(served: Served, wrong: dict[str, Any]) -> None:
    assert served.call("GET", served.listing(**wrong))[0] == 400
    assert violations(served)


def test_a_foreign_device_is_refused(served: Served) -> None:
    assert served.call("GET", served.listing(deviceId="0" * 32))[0] == 403
    assert violations(served) == ["the device is not one of the token's user"]


def test_a_hidden_mesh_is_missing_for_so_many_listings(served: Served) -> None:
    meshes = served.control.create(3)
    served.control.invite(meshes)
    served.control.hide(meshes[0], times=2)
    served.control.option("page_size", 2)
    lengths = []
    for _ in range(3):
        _, page = served.call("GET", served.listing(invited="true"))
        lengths.append(len(page["data"]) + ("next" in page["paging"]))
    assert lengths == [2, 2, 3]


def test_a_long_answer_is_compressed_for_those_who_take_it(served: Served) -> None:
    served.control.invite(served.control.create(20))
    response = served.raw("GET", served.listing(invited="true"), Accept_Encoding="gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert len(response.json()["data"]) == 20
    plain = served.raw("GET", served.listing(invited="true"))
    assert "Content-Encoding" not in plain.headers


def test_a_mesh_is_shown_to_those_who_may_enter(served: Served) -> None:
    (mesh,) = served.control.create(title="Film")
    assert served.call("GET", f"/meshes/{mesh}")[0] == 403
    served.control.invite(mesh)
    status, answer = served.call("GET", f"/meshes/{mesh}")
    assert (status, answer["data"]["id"], answer["data"]["server"]) == (200, mesh, served.server)
    assert [user["handle"] for user in answer["data"]["users"]] == ["ann"]
    served.control.remove(mesh)
    assert served.call("GET", f"/meshes/{mesh}")[0] == 404
    assert violations(served) == []


def test_invitation_and_membership_end_independently(served: Served) -> None:
    (mesh,) = served.control.create()
    served.control.invite(mesh)
    served.control.join(mesh, "botty")
    leave = f"/meshes/{mesh}/devices/{served.session.device_id}/leave"
    assert served.call("DELETE", f"/meshes/{mesh}/invites") == (200, {"success": True})
    assert served.call("DELETE", f"/meshes/{mesh}/invites")[0] == 404
    assert len(served.control.mesh(mesh)["users"]) == 2
    assert served.call("DELETE", leave) == (200, {"success": True})
    assert served.call("DELETE", leave)[0] == 404
    assert len(served.control.mesh(mesh)["users"]) == 1
    assert served.call("DELETE", leave.replace(served.session.device_id, "0" * 32))[0] == 403


def test_the_bot_invites_others(served: Served) -> None:
    (mesh,) = served.control.create(kinds=["public"])
    ann = served.control.mesh(mesh)["users"][0]["user_id"]
    body = {"deviceId": served.session.device_id, "ids": [ann], "includeOnline": False}
    assert served.call("POST", f"/meshes/{mesh}/invites", body) == (200, {"success": True})
    assert served.control.mesh(mesh)["invited"] == [ann]


def test_only_the_leader_kicks(served: Served) -> None:
    (mesh,) = served.control.create(kinds=["public"])
    ann = served.control.mesh(mesh)["users"][0]["user_id"]
    served.control.join(mesh, "botty", "cy")
    cy = served.control.mesh(mesh)["users"][2]["user_id"]
    body = {"deviceId": served.session.device_id, "ids": [cy, ann]}
    assert served.call("POST", f"/meshes/{mesh}/kick", body)[0] == 403
    served.control.part(mesh, "ann")
    assert served.call("POST", f"/meshes/{mesh}/kick", body)[0] == 200
    assert [user["handle"] for user in served.control.mesh(mesh)["users"]] == ["botty"]


def test_ids_can_be_text_and_a_mesh_without_a_video(served: Served) -> None:
    (mesh,) = served.control.create(title="Film", kinds=["public"])
    served.control.option("user_ids", "text")
    served.control.option("playback", "none")
    data = served.call("GET", f"/meshes/{mesh}")[1]["data"]
    assert isinstance(data["users"][0]["id"], str)
    assert "videoTitle" not in data
    assert "currentState" not in data


# Failures.


@pytest.mark.parametrize(("mode", "status", "code"), [("500", 500, 500), ("404", 404, 404), ("2015", 400, 2015)])
def test_a_failure_answers_with_its_status_so_many_times(served: Served, mode: str, status: int, code: int) -> None:
    served.control.fail("discovery", mode, times=2)
    for _ in range(2):
        got, answer = served.call("GET", served.listing(invited="true"))
        assert (got, answer["error"]["code"]) == (status, code)
    assert served.call("GET", served.listing(invited="true"))[0] == 200
    assert served.control.state()["listings"] == {"begun": 3, "completed": 1, "failed": 2}


def test_slowing_down_says_until_when(served: Served) -> None:
    served.control.fail("self", "429", retry_after=7)
    response = served.raw("GET", "/users/self")
    assert (response.status, response.headers["Retry-After"]) == (429, "7")
    served.control.fail("self", "429")
    assert "Retry-After" not in served.raw("GET", "/users/self").headers
    served.control.fail("self", "ok")
    assert served.raw("GET", "/users/self").status == 200


def test_an_empty_listing_is_a_success(served: Served) -> None:
    served.control.invite(served.control.create())
    served.control.fail("discovery", "empty")
    assert served.call("GET", served.listing(invited="true")) == (200, {"data": [], "paging": {}})
    assert served.control.state()["listings"]["completed"] == 1


def test_half_a_page_breaks_off_in_the_middle(served: Served) -> None:
    served.control.fail("discovery", "half-page")
    with pytest.raises(urllib3.exceptions.ProtocolError, match="IncompleteRead"):
        served.call("GET", served.listing(invited="true"))


def test_a_chunk_of_negative_size(served: Served) -> None:
    served.control.fail("self", "negative-chunk", times=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        served.call("GET", "/users/self")
    assert served.call("GET", "/users/self")[0] == 200


@pytest.mark.parametrize(
    ("mode", "begins", "count"), [("no-end", b"HTTP/1.1 100 Continue", 1_000_000), ("trickle", b"HTTP/1.1 200 OK", 0)]
)
def test_answers_without_end(served: Served, mode: str, begins: bytes, count: int) -> None:
    """Read as they come: a client of HTTP would read them for ever."""
    served.control.fail("self", mode, times=1)
    head = "".join(f"{key}: {value}\r\n" for key, value in served.headers().items())
    host, port = served.server.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        sock = served.tls.wrap_socket(plain, server_hostname=host)
        sock.sendall(f"GET /users/self HTTP/1.1\r\nHost: {host}\r\n{head}\r\n".encode())
        assert sock.recv(65536).startswith(begins)
        while count > 0:
            count -= len(sock.recv(65536))
        assert sock.recv(1), "it goes on"
        sock.close()
    assert served.call("GET", "/users/self")[0] == 200


@pytest.mark.parametrize("mode", ["many-values", "deep"])
def test_answers_that_are_dear_to_decode(served: Served, mode: str) -> None:
    served.control.fail("self", mode, times=1)
    body = served.raw("GET", "/users/self").data
    assert body.count(b"[" if mode == "deep" else b"{") >= 50_000


def test_a_look_whether_the_server_is_there_is_no_mistake(served: Served) -> None:
    with urllib3.PoolManager(ssl_context=served.tls, retries=False) as pool:
        assert pool.request("GET", f"https://{served.server}/").status == 404
    assert served.control.violations() == []


def test_later_pages_fail_alone(served: Served) -> None:
    served.control.invite(served.control.create(3))
    served.control.option("page_size", 2)
    served.control.fail("discovery", "later-page")
    status, page = served.call("GET", served.listing(invited="true"))
    assert status == 200
    assert served.call("GET", page["paging"]["next"])[0] == 500
    assert served.control.state()["listings"] == {"begun": 1, "completed": 0, "failed": 1}


def test_a_reset_connection_answers_nothing(served: Served) -> None:
    served.control.fail("mesh", "reset", times=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        served.call("GET", "/meshes/x")
    assert served.call("GET", "/meshes/x")[0] == 404


def test_a_call_can_be_left_hanging_and_the_simulator_still_stops(served: Served) -> None:
    served.control.fail("self", "timeout")
    with (
        urllib3.PoolManager(ssl_context=served.tls, retries=False) as pool,
        pytest.raises(urllib3.exceptions.ReadTimeoutError),
    ):
        pool.request("GET", f"https://{served.server}/users/self", headers=served.headers(), timeout=0.2)


def test_while_calls_are_refused_nothing_listens(served: Served) -> None:
    assert served.call("GET", served.listing())[0] == 200
    served.control.fail("discovery", "refused")
    with pytest.raises(urllib3.exceptions.ProtocolError):  # over the connection that was kept open
        served.call("GET", served.listing())
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        served.call("GET", served.listing())
    served.control.fail("discovery", "ok")
    assert served.call("GET", served.listing())[0] == 200


@pytest.mark.parametrize(
    ("target", "mode", "times"),
    [
        ("nothing", "500", None),
        ("discovery", "nothing", None),
        ("discovery", "200", None),
        ("discovery", "refused", 2),
    ],
)
def test_a_failure_that_does_not_exist_is_refused(served: Served, target: str, mode: str, times: int | None) -> None:
    with pytest.raises(RaveError) as raised:
        served.control.fail(target, mode, times=times)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert raised.value.hint
