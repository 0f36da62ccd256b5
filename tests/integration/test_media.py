"""Videos: the helper behind its socket, the key that it alone has, and what a bot gets of it over the bus."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
from testbed.machine import CommandFailed

from ravesvc import names
from tests.integration.conftest import Site, eventually
from tests.integration.test_rights import NO_ROUND, STRANGER, inside_a_bot

KEY = "simulator-youtube-key"
LANTERN = "https://www.youtube.com/watch?v=sim-lantern"
HELPER = names.MEDIA_UNIT

_ASK = """
import asyncio, json, os, sys
from ravesvc.media.client import HelperClient

async def main():
    client = HelperClient()
    found = [video.to_object() for video in await client.search("paper boats")]
    picture = await client.picture(found[0]["provider"], found[0]["id"])
    print(json.dumps([found, os.fstat(picture).st_size]))

asyncio.run(main())
"""
ASK = ["python3", "-I", "-c", _ASK]


@pytest.fixture
def videos(site: Site) -> Iterator[Site]:
    """A site whose service runs, with a key."""
    site.sh("rave-simulator youtube-key | install -m 600 /dev/stdin /etc/rave/youtube.key")
    site.sh("systemctl start rave-orchestrator")
    yield site
    site.sh("rm -rf /run/systemd/system/rave-media.service.d; systemctl daemon-reload")


def state(site: Site, unit: str) -> str:
    return site.sh(f"systemctl is-active {unit}", check=False).strip()


def test_the_service_alone_gets_videos_through_the_socket(videos: Site) -> None:
    assert (state(videos, names.MEDIA_SOCKET_UNIT), state(videos, HELPER)) == ("active", "inactive")
    found, picture = json.loads(videos.machine.run(ASK, user="rave").stdout)
    assert found[0]["title"] == "The Lantern Song"
    assert found[0]["seconds"] == 212.0
    assert picture > 100
    assert state(videos, HELPER) == "active"
    for user in ("nobody", "rave-mesh", "rave-simulator", "rave-media"):
        with pytest.raises(CommandFailed, match="helper is not running"):
            videos.machine.run(ASK, user=user)
    # Should the socket ever be open to all, the helper looks who asks.
    videos.sh("chmod 0666 /run/rave-media/socket")
    with pytest.raises(CommandFailed, match="helper is not running"):
        videos.machine.run(ASK, user="nobody")
    eventually(lambda: "it is of the user" in videos.machine.journal("-u", HELPER), "it says who was refused")


def test_nobody_but_the_helper_has_the_key(videos: Site) -> None:
    videos.machine.run(ASK, user="rave")
    for user in ("rave", "rave-mesh", "rave-media", "nobody"):
        with pytest.raises(CommandFailed):
            videos.machine.run(["cat", names.YOUTUBE_KEY_FILE], user=user)
    pid = videos.sh(f"systemctl show --value -p MainPID {HELPER}").strip()
    # Nor is it where others could see it.
    videos.sh(f"! grep -az {KEY} /proc/{pid}/cmdline /proc/{pid}/environ")
    videos.sh(f"! systemctl show {HELPER} rave-orchestrator | grep {KEY}")
    videos.sh(f"! grep -rs {KEY} /run/rave /var/cache/rave-media /var/lib/rave")
    assert KEY not in videos.machine.journal()
    assert videos.sh("stat -c '%U %a' /var/cache/rave-media").split() == ["rave-media", "700"]


_IN_A_BOT = """
import asyncio, os
from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.mesh.parent_client import ParentClient
from ravesvc.systemd.notify import notify

async def main():
    bus = await Bus.connect()
    notify("READY=1")
    parent = ParentClient(lambda: bus)
    video = await parent.look_up_video(1, "https://youtu.be/sim-lantern")
    hits = await parent.search_videos(1, "paper boats")
    with await parent.fetch_picture(1, video) as picture:
        whole = sum(map(len, picture.chunks())) == picture.size
        print(f"got {video.title}, {len(hits)} hits, {picture.mime}, {whole}")
    for path in "/run/rave-media/socket", "/etc/rave/youtube.key", "/var/cache/rave-media/videos.db":
        print(f"opens {path}" if os.access(path, os.R_OK) else "closed")
    print("done", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_bot_gets_videos_and_pictures_over_the_bus(videos: Site) -> None:
    videos.configure(NO_ROUND)
    videos.sh("systemctl restart rave-orchestrator")
    unit = f"rave-mesh@{STRANGER}"
    with inside_a_bot(videos, _IN_A_BOT):
        eventually(lambda: "done" in videos.machine.journal("-u", unit), "the bot has asked")
        said = videos.machine.journal("-u", unit)
    assert "got The Lantern Song, 3 hits, image/jpeg, True" in said
    assert "opens" not in said


def test_it_ends_when_it_is_idle_and_comes_back_for_the_next_question(videos: Site) -> None:
    program = "from ravesvc.media import __main__ as program; program.IDLE_TIMEOUT_S = 1; program.main()"
    drop_in = f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 -I -c '{program}'\n"
    file = f"/run/systemd/system/{HELPER}.d/idle.conf"
    videos.machine.run(["install", "-D", "-m", "644", "/dev/stdin", file], input=drop_in)
    videos.sh("systemctl daemon-reload")
    for _ in range(2):
        videos.machine.run(ASK, user="rave")
        eventually(lambda: state(videos, HELPER) == "inactive", "it has ended")
        assert videos.sh(f"systemctl show --value -p Result {HELPER}").strip() == "success"
        assert state(videos, names.MEDIA_SOCKET_UNIT) == "active"
    # The second time the cache has answered.
    assert videos.control.state()["provider_calls"]["search"] == 1


def test_it_goes_with_the_service_and_takes_new_settings_with_it(videos: Site) -> None:
    videos.machine.run(ASK, user="rave")
    videos.sh("sed -i 's/^videos:/&\\n  providers: [link]/' /etc/rave/rave.yaml; systemctl restart rave-orchestrator")
    videos.sh("rm -rf /var/cache/rave-media/*")
    with pytest.raises(CommandFailed, match=r"name youtube in videos\.providers"):
        videos.machine.run(ASK, user="rave")
    videos.sh("systemctl stop rave-orchestrator")
    for unit in names.MEDIA_SOCKET_UNIT, HELPER:
        eventually(lambda unit=unit: state(videos, unit) == "inactive", f"{unit} has stopped")


def test_a_key_that_others_can_read_is_told(videos: Site) -> None:
    videos.sh("chmod 0644 /etc/rave/youtube.key")
    said = videos.sh("ravectl config check", check=False)
    assert "/etc/rave/youtube.key can be read by others than root (chmod 0600 /etc/rave/youtube.key)" in said
    videos.sh("systemd-tmpfiles --create rave-orchestrator.conf; ravectl config check")


def test_what_is_wrong_with_the_provider_is_said_in_the_room(videos: Site) -> None:
    (mesh,) = videos.run_fleet(1)

    # Each may search again after a few seconds.
    people = itertools.cycle([f"user{number}" for number in range(9)])

    def asked(command: str) -> str:
        user = next(people)
        videos.control.join(mesh, user)
        return videos.control.chat(mesh, command, user=user, wait=40.0, answers=2 if "search" in command else 1)[-1]

    def finds(words: str, title: str) -> None:
        """A hit is a message of its own, no reply."""
        videos.control.join(mesh, "ann")
        before = len(videos.control.events())
        videos.control.chat(mesh, f"?search {words}", user="ann", wait=20.0)
        eventually(lambda: any(title in str(e.get("text")) for e in videos.control.events()[before:]), "it is found")

    # Found, with its picture; from then on it is in the cache.
    finds("lantern", "The Lantern Song")
    assert videos.control.state()["provider_calls"]["picture"] == 1
    for fault, words in (
        ("500", "YouTube has a problem: HTTP 500. Try again in a while"),
        ("no-json", "The video provider gives an answer that makes no sense"),
        ("timeout", "The video provider did not answer in time"),
        ("403", "Today's searches at YouTube are used up. There will be new ones in "),
    ):
        videos.control.fail("provider_search", fault)
        assert words.lower() in asked(f"?search {fault}").lower().replace(" (", ". ")
    # The day is over for searches; what is known, and links, still work.
    videos.control.fail("provider_search", "ok")
    assert "used up" in asked("?search volcano")
    finds("LANTERN", "The Lantern Song")
    assert "Volcano" in asked("?play https://youtu.be/sim-volcano")
    assert "no such video" in asked("?play https://youtu.be/sim-nothing")
    assert "may not be shown outside" in asked("?play https://youtu.be/sim-penguin")
    # Another language, and no helper at all.
    videos.set_options(lang="de")
    videos.sh(f"systemctl restart rave-orchestrator; systemctl restart {names.mesh_unit(mesh)}")
    videos.control.wait(connected=[mesh])
    videos.sh("systemctl mask --runtime rave-media.socket; systemctl stop rave-media.socket rave-media.service")
    try:
        eventually(lambda: "Videodienst läuft nicht" in asked("?search zebra"), "it is said in German", 60)
    finally:
        videos.sh("systemctl unmask --runtime rave-media.socket")
